"""RPS and netdev_max_backlog: whose core does what, what is spread, and which limit drops."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesim.cost import DEFAULT_COST_SET, load_cost_set
from kubesim.engine import UNLIMITED
from kubesim.scenario import Result, save_result
from kubesim.scenario.planning import Planned
from kubesim.scenario.spec import Hardware
from kubesim.scenario.stations import Stations, notice_of_backlog
from kubesim.scenario.visits import Role, visits
from tests.scenarios import simulate

SMALL = {"services": 4, "endpoints": 4, "background_connections_per_s": 1e6}
MANY = {"cores": 32, "softirq_cores": 4, "rps_cores": 4}
STEERED_WAY = [Role.SEND, Role.NIC, Role.WIRE, Role.PORT, Role.SOFTIRQ, Role.STEERED, Role.RECEIVE]


def many_flows(cni: str | dict[str, Any], **hardware: int) -> Result:
    """Requests of 60 flows, from one node to another."""
    traffic = {"workload": "udp_rr", "clients": 60, "transactions": 2}
    return simulate(cni=cni, proxy="none", cluster=SMALL, traffic=traffic, hardware={**MANY, **hardware})


def used(result: Result, host: str, kind: str) -> set[int]:
    """Which of a host's cores packets came to."""
    stations = result.planned.stations.all
    numbers = np.unique(result.planned.plan.station)
    return {stations[n].number for n in numbers.tolist() if n >= 0 and stations[n][:2] == (host, kind)}


def kinds_of_stations(planned: Planned) -> list[list[str]]:
    """The kinds of station that each packet comes to, in order."""
    stations = planned.stations.all
    return [[stations[n].kind for n in row if n >= 0] for row in planned.plan.station.tolist()]


@pytest.mark.parametrize(("cni", "dissects"), [("calico-bgp", 0), ("calico-ipip", 1), ("flannel-vxlan", 0)])
def test_a_core_more_on_the_way_and_what_it_costs(cni: str, dissects: int) -> None:
    costs = load_cost_set(DEFAULT_COST_SET)
    on, off = (simulate(cni=cni, hardware={"rps_cores": cores}) for cores in (2, 0))
    handed_on_ns = costs.price_ns("rps_steer") + dissects * costs.price_ns("rps_flow_dissect")
    before_ns = costs.price_ns("nic_receive") + costs.price_ns("gro")
    for with_rps, without in zip(on.classes.routes, off.classes.routes, strict=True):
        for kind, path in with_rps.items():
            way, usual = visits(path.hops), visits(without[kind].hops)
            assert [one.role for one in way] == STEERED_WAY[: len(way)]
            by_role, before = ({one.role: one.mean_ns for one in found} for found in (way, usual))
            assert by_role.pop(Role.SOFTIRQ) == before_ns + handed_on_ns
            rest_ns = by_role.pop(Role.STEERED) - costs.price_ns("backlog")
            assert before.pop(Role.SOFTIRQ) == before_ns + rest_ns
            assert by_role == before


def test_packets_come_to_the_stations_of_their_way() -> None:
    way = ["application core", "nic", "wire", "port", "softirq core", "application core"]
    assert kinds_of_stations(many_flows("calico-bgp", rps_cores=0).planned) == [way] * 240
    way.insert(5, "rps core")
    assert kinds_of_stations(many_flows("calico-bgp").planned) == [way] * 240


def test_stations_have_their_own_limits() -> None:
    hardware = Hardware(cores=8, softirq_cores=1, rps_cores=3, netdev_max_backlog=7, receive_ring=5)
    stations = Stations(hardware, wake_ns=11)
    stations.first("node-1", "rps core")
    kinds = [station.kind for station in stations.all]
    found: dict[str, set[tuple[int, int, int]]] = {kind: set() for kind in kinds}
    for kind, places, wake_ns in zip(kinds, stations.capacity({}), stations.wakes(), strict=True):
        found[kind].add((kinds.count(kind), int(places), int(wake_ns)))
    assert found["rps core"] == {(3, 7 + 1, 11)}, "an interrupt wakes it where it is idle"
    assert found["softirq core"] == {(1, 5 + 1, 11)}
    assert found["application core"] == {(4, UNLIMITED, 11)}


@pytest.mark.parametrize(
    ("cni", "queues", "steered"),
    [("calico-bgp", 4, 4), ("flannel-vxlan", 4, 4), ("calico-ipip", 1, 4), ("flannel-wireguard", 1, 1)],
)
def test_what_is_spread_behind_one_queue(cni: str, queues: int, steered: int) -> None:
    result = many_flows(cni)
    assert len(used(result, "node-2", "softirq core")) == queues
    assert len(used(result, "node-2", "rps core")) == steered


def test_the_core_of_rps_does_not_follow_from_the_queue() -> None:
    result = many_flows("calico-bgp")
    station = result.planned.plan.station
    pairs = {(row[4], row[5]) for row in station[station[:, 6] >= 0].tolist()}
    requests = {pair for pair in pairs if result.planned.stations.all[pair[0]].host == "node-2"}
    assert len(requests) > 10, "of 16: as good as independent"


def test_packets_of_a_flow_stay_on_one_core() -> None:
    planned, messages = (result := many_flows("calico-ipip")).planned, result.messages
    steered = planned.plan.station[:, 5]
    order = np.lexsort((messages.script.kind[planned.message], messages.flow[planned.message]))
    keys = zip(messages.flow[planned.message][order], messages.script.kind[planned.message][order], strict=True)
    for _, group in itertools.groupby(zip(keys, steered[order], strict=True), key=lambda pair: pair[0]):
        assert len({core for _, core in group}) == 1


def test_the_kernel_answers_from_the_core_that_received() -> None:
    result = simulate(
        cni="calico-ipip",
        traffic={"workload": "tcp_crr", "transactions": 20, "connections": 8},
        hardware=MANY,
    )
    planned, messages = result.planned, result.messages
    station, stations = planned.plan.station, planned.stations.all
    answers = 0
    for packet, message in enumerate(planned.message.tolist()):
        before = planned.plan.after[packet]
        kind = messages.kinds[messages.script.kind[message]]
        if kind.send_call is None and before >= 0 and kind.is_request != _kind(result, before).is_request:
            received = [n for n in station[before].tolist() if n >= 0 and stations[n].kind == "rps core"]
            assert station[packet, 0] == received[-1]
            answers += 1
    assert answers >= 20


def _kind(result: Result, packet: int) -> Any:
    return result.messages.kinds[result.messages.script.kind[result.planned.message[packet]]]


def connections(rps_cores: int, rate_per_s: float = 60_000, count: int = 3000, **hardware: int) -> Result:
    """Connections that all come in by one receive queue."""
    return simulate(
        cni="calico-ipip",
        cluster=SMALL,
        traffic={"workload": "poisson_connections", "connections": count, "rate_per_s": rate_per_s, "requests": 1},
        hardware={"cores": 32, "softirq_cores": 1, "rps_cores": rps_cores, **hardware},
    )


def test_one_core_is_full_where_it_can_hand_on() -> None:
    without, with_rps = connections(0), connections(4)
    assert without.drops["limit"].tolist() == ["hardware.receive_ring"]
    assert with_rps.drops.empty
    assert with_rps.summary["throughput_per_s"] > 2 * without.summary["throughput_per_s"]
    assert with_rps.summary["latency_p50_ns"] < without.summary["latency_p50_ns"] / 20
    assert "backlog_dropped_packets" not in without.summary
    assert with_rps.summary["backlog_dropped_packets"] == 0
    assert with_rps.summary["established_packet_ns"] > without.summary["established_packet_ns"], "it is not for nothing"


def test_goodput_of_many_flows_behind_one_queue_rises() -> None:
    traffic = {"workload": "udp_stream", "clients": 8, "datagrams": 4000, "message_bytes": 1000}
    goodput = [
        simulate(
            cni="calico-bgp",
            cluster=SMALL,
            traffic=traffic,
            hardware={"cores": 32, "softirq_cores": 1, "rps_cores": rps_cores, "nic_gbit_per_s": 100},
        ).summary["goodput_bit_per_s"]
        for rps_cores in (0, 4)
    ]
    assert goodput[1] > 1.5 * goodput[0]


def test_the_backlog_drops_beyond_its_limit() -> None:
    """One core of RPS that cannot keep up: the ring before it never fills."""
    small, large = (connections(1, 90_000, netdev_max_backlog=limit) for limit in (10, 1_000_000))
    assert set(small.drops["limit"]) == {"hardware.netdev_max_backlog"}
    assert small.summary["backlog_dropped_packets"] == small.summary["dropped_packets"] > 100
    assert large.drops.empty


@settings(max_examples=8, deadline=None)
@given(limit=st.integers(1, 40))
def test_no_more_wait_than_the_limit_says(limit: int) -> None:
    result = connections(1, 200_000, 500, netdev_max_backlog=limit)
    plan, trace, stations = result.planned.plan, result.trace, result.planned.stations.all
    backlogs = [n for n, station in enumerate(stations) if station.kind == "rps core"]
    assert backlogs
    highest = 0
    for number in backlogs:
        at_it = (plan.station == number) & (trace.start_ns >= 0)
        joins, leaves = trace.arrive_ns[at_it], np.sort(trace.depart_ns[at_it])
        joins.sort()
        inside = np.arange(1, len(joins) + 1) - np.searchsorted(leaves, joins, side="right")
        highest = max(highest, int(inside.max(initial=0)))
    assert highest == limit + 1, "that many, and the one that is worked on"
    assert result.summary["backlog_dropped_packets"] > 0


FROM_TWO = ["node-1", "node-3"]
STREAM = {"workload": "udp_stream", "clients": 6, "clients_on": FROM_TWO, "datagrams": 1500, "message_bytes": 64}
LIMITS = [
    ({"receive_ring": 2, "softirq_cores": 1, "nic_gbit_per_s": 100}, "hardware.receive_ring"),
    ({"netdev_max_backlog": 2, "rps_cores": 1, "nic_gbit_per_s": 100}, "hardware.netdev_max_backlog"),
    ({"transmit_queue": 1, "nic_gbit_per_s": 0.1}, "hardware.transmit_queue"),
    ({"switch_queue": 1, "nic_gbit_per_s": 1}, "hardware.switch_queue"),
]


@pytest.mark.parametrize(("hardware", "limit"), LIMITS, ids=[limit for _, limit in LIMITS])
def test_drops_are_named_by_the_limit(hardware: dict[str, float], limit: str) -> None:
    three = {**SMALL, "nodes": 3}
    result = simulate(cni="calico-bgp", cluster=three, traffic=STREAM, hardware={"cores": 32, **hardware})
    drops = result.drops
    assert limit in drops["limit"].tolist()
    assert drops["dropped_packets"].sum() == result.summary["dropped_packets"] > 0
    assert (drops["first_drop_ns"] > 0).all()
    assert not drops.duplicated(["host", "limit"]).any()


def test_what_tables_refuse_is_among_them() -> None:
    traffic = {"workload": "poisson_connections", "connections": 300, "rate_per_s": 20_000, "requests": 1}
    result = simulate(cluster=SMALL, traffic=traffic, conntrack={"max_entries": 64})
    drops = result.drops
    assert drops["limit"].tolist() == ["conntrack.max_entries"] * len(drops)
    assert drops["dropped_packets"].sum() == result.summary["conntrack_dropped_packets"] > 0
    assert drops["first_drop_ns"].min() == result.summary["conntrack_first_drop_ns"]


def test_drops_are_written_where_there_are_any_and_not_left_behind(tmp_path: Path) -> None:
    dropping = simulate(
        cni="calico-bgp", cluster={**SMALL, "nodes": 3}, traffic=STREAM, hardware=LIMITS[0][0], conntrack={}
    )
    save_result(dropping, tmp_path, with_csv=True)
    assert (tmp_path / "drops.csv").read_text().count("hardware.receive_ring") == len(dropping.drops)
    save_result(simulate(), tmp_path)
    assert not [*tmp_path.glob("drops.*"), *tmp_path.glob("conntrack.*")]


def test_a_limit_that_nothing_reaches_is_said() -> None:
    assert notice_of_backlog(Hardware()) is None
    assert notice_of_backlog(Hardware(netdev_max_backlog=10, rps_cores=1)) is None
    assert any("netdev_max_backlog" in notice for notice in simulate(hardware={"netdev_max_backlog": 10}).notices)


def test_without_rps_its_limit_changes_nothing() -> None:
    one, other = (simulate(hardware={"netdev_max_backlog": limit}) for limit in (1, 1000))
    assert one.summary == other.summary
    assert all(station.kind != "rps core" for station in one.planned.stations.all)
    assert (one.trace.depart_ns == other.trace.depart_ns).all()
