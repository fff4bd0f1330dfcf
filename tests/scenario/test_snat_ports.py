"""Ports of translated sources that run out while packets play."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kubesim.cost import load_cost_set
from kubesim.engine import ENGINES, UNLIMITED, Plan, Tables
from kubesim.kernel.netfilter.nat import LONGEST_WINDOW, PORTS_TRIED, SOURCE_PORTS
from kubesim.scenario import Result, run, save_result
from kubesim.scenario.conntrack_tables import ConntrackLimits, ConntrackSpec
from kubesim.scenario.spec import Scenario
from tests.scenarios import scenario, simulate

WEB = Path(__file__).parent.parent.parent / "experiments" / "manifests" / "web.yaml"
PORTS = 20
COSTS = load_cost_set("published-x86-server")


def calls(traffic: dict[str, Any] | None = None, **changes: Any) -> Result:
    """Connections from outside to any node's port, behind which are servers on node-1 and node-2."""
    data = {
        "cluster": {"manifests": [WEB], "nodes": 4, **changes.pop("cluster", {})},
        "cni": "flannel-host-gw",
        "proxy": "iptables",
        "conntrack": {"snat_ports": PORTS},
        "warmup": 0,
        "traffic": {
            "workload": "poisson_connections",
            "clients_on": ["outside"],
            "clients": 4,
            "connections": 400,
            "rate_per_s": 200,
            "requests": 1,
            "through": "node-port",
            "to": "policy-cluster",
            **(traffic or {}),
        },
        **changes,
    }
    return run(Scenario.model_validate(data))


def limits(**spec: Any) -> ConntrackLimits:
    return ConntrackLimits.of(ConntrackSpec(**spec), 8, COSTS)


def test_those_that_come_when_all_ports_are_taken_are_refused() -> None:
    """Each called node has so many ports towards each server; the first to come have them, since none is given back."""
    result = calls()
    messages, trace, planned = result.messages, result.trace, result.planned
    called = [str(one.node.name) for one in messages.services if one.node is not None]
    flow = messages.flow[planned.message]
    names = [station.name for station in planned.stations.all]
    arrivals: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for syn in np.flatnonzero(messages.script.kind[planned.message] == 0).tolist():
        node = called[messages.flows.service[flow[syn]]]
        visits = [names[station] for station in planned.plan.station[syn]]
        column = next(n for n, name in enumerate(visits) if name.startswith(f"{node} softirq"))
        key = node, int(result.classes.server[flow[syn]])
        arrivals.setdefault(key, []).append((int(trace.arrive_ns[syn, column]), int(flow[syn])))
    assert len(arrivals) == 4 * 2
    late = {one for came in arrivals.values() for _, one in sorted(came)[PORTS:]}
    assert set(flow[trace.is_refused()].tolist()) == late
    assert result.summary["snat_dropped_packets"] == result.summary["dropped_packets"] == 2 * len(late), "sent twice"
    done = result.transactions.groupby("flow")["is_complete"].all()
    assert set(done[~done].index) == late
    assert done.sum() == 8 * PORTS


def test_the_table_says_where_ports_ran_out() -> None:
    result = calls()
    frame = result.snat_ports
    assert (frame["max_ports"] == PORTS).all()
    assert (frame["highest_ports"] == PORTS).all()
    assert sorted(set(frame["node"])) == ["node-1", "node-2", "node-3", "node-4"]
    assert sorted(set(frame["destination"])) == ["10.244.0.2:8080", "10.244.1.2:8080"]
    assert set(frame.loc[frame["node"] == "node-3", "address"]) == {"192.168.0.13"}
    assert set(frame["protocol"]) == {"tcp"}
    assert len(frame) == 8
    assert frame["dropped_packets"].sum() == result.summary["snat_dropped_packets"]
    assert result.summary["snat_first_drop_ns"] == frame["first_drop_ns"].min() > 0
    assert result.summary["snat_occupancy_ratio"] == 1
    assert result.summary["conntrack_dropped_packets"] == 0
    assert set(result.drops["limit"]) == {"conntrack.snat_ports"}
    assert result.drops["dropped_packets"].sum() == result.summary["snat_dropped_packets"]
    assert result.drops["host"].tolist() == ["node-1", "node-2", "node-3", "node-4"]
    lost = 400 - 8 * PORTS
    (notice,) = (one for one in result.notices if "port" in one)
    assert notice.startswith(f"{lost} connections found no free port on node-")
    assert notice.endswith(":8080, and towards 7 more")


@pytest.mark.parametrize("proxy", ["iptables", "nftables", "ipvs"])
@pytest.mark.parametrize("cni", ["flannel-vxlan", "calico-bgp"])
def test_every_kube_proxy_needs_ports_towards_the_same_servers(proxy: str, cni: str) -> None:
    frame = calls(proxy=proxy, cni=cni).snat_ports
    servers = set(frame["destination"])
    assert len(servers) == 2
    assert {server.partition(":")[2] for server in servers} == {"8080"}
    passing_on = frame[frame["node"].isin(["node-3", "node-4"])]
    assert len(passing_on) == 4
    assert (passing_on["highest_ports"] == PORTS).all()


def test_policy_local_needs_none() -> None:
    result = calls({"to": "policy-local"})
    assert result.snat_ports.empty
    assert result.summary["snat_dropped_packets"] == result.summary["snat_highest_ports"] == 0
    assert np.isnan(result.summary["snat_occupancy_ratio"])
    assert not any("port" in one for one in result.notices)
    assert result.planned.plan.tables is not None
    assert result.planned.plan.tables.entry.shape[2] == 1


def test_connections_within_the_cluster_need_none() -> None:
    assert simulate(conntrack={"snat_ports": 1}, traffic={"workload": "tcp_crr"}).snat_ports.empty


def test_a_balancing_machine_needs_ports_towards_each_node() -> None:
    frame = calls({"through": "load-balancer"}, cluster={"load_balancer": "machine"}).snat_ports
    of_machine = frame[frame["node"] == "load-balancer"]
    assert sorted(of_machine["destination"]) == [f"192.168.0.1{node}:30080" for node in (1, 2, 3, 4)]
    assert (of_machine["highest_ports"] == PORTS).all()
    of_nodes = frame[frame["node"] != "load-balancer"]
    assert of_nodes["highest_ports"].sum() == of_machine["highest_ports"].sum(), (
        "what one let through, others passed on"
    )


def test_ports_that_do_not_run_out_change_nothing() -> None:
    assert calls(conntrack={}).transactions.equals(calls(conntrack=None).transactions)
    assert calls(conntrack={}).summary["snat_occupancy_ratio"] < 0.01


def test_a_connection_that_is_open_is_never_refused() -> None:
    """Packets of those that have a port go on when none is left, both ways and for longer than a SYN waits."""
    result = calls({"requests": 5, "think_us": 100_000}, conntrack={"snat_ports": PORTS, "tcp_syn_s": 2})
    flow, kind = (one[result.planned.message] for one in (result.messages.flow, result.messages.script.kind))
    refused = result.trace.is_refused()
    assert refused.any()
    assert set(flow[refused].tolist()) == set(flow[refused & (kind == 0)].tolist())
    served = result.transactions.groupby("flow")["is_complete"].agg(["any", "all"])
    assert (served["any"] == served["all"]).all()


def test_a_refused_syn_pays_for_its_whole_search() -> None:
    result = calls(hardware={"cores": 8})
    plan, trace = result.planned.plan, result.trace
    assert plan.tables is not None
    packet = np.flatnonzero(trace.is_refused())
    visit = trace.refused_visit[packet]
    spent = trace.depart_ns[packet, visit] - trace.start_ns[packet, visit]
    assert (spent == plan.tables.refused_ns[packet, visit, 1]).all()
    search_ns = limits().port_search_ns
    assert search_ns == pytest.approx(248 * 111)
    others = plan.service_ns[packet, visit]
    assert (spent - others).mean() > 0.7 * search_ns, "less what comes behind the entry's confirmation"
    assert (spent - others).mean() < 1.2 * search_ns


def test_a_port_comes_back_with_its_entry() -> None:
    lasting = calls({"connections": 1000}, conntrack={"snat_ports": 100})
    short = calls({"connections": 1000}, conntrack={"snat_ports": 100, "tcp_time_wait_s": 2})
    assert lasting.summary["snat_dropped_packets"] > 0
    assert short.summary["snat_dropped_packets"] == 0
    assert 50 < short.summary["snat_highest_ports"] < 90, "25 per second that stay for 2 s each"


def test_newer_kernels_give_the_ports_of_closed_connections_away() -> None:
    result = calls({"connections": 1000}, conntrack={"snat_ports": 100, "snat_time_wait_s": 1})
    plenty = calls({"connections": 1000}, conntrack={})
    assert result.summary["snat_dropped_packets"] == 0
    assert result.summary["snat_highest_ports"] < 60
    assert plenty.summary["snat_highest_ports"] > 100
    assert result.conntrack.equals(plenty.conntrack), "entries stay"


def test_ports_that_others_hold_are_taken() -> None:
    result = calls(conntrack={"snat_ports": 100, "held_snat_ports": 80})
    assert (result.snat_ports["highest_ports"] == 100).all()
    assert result.transactions["is_complete"].sum() == 8 * 20


def test_datagrams_need_ports_too(tmp_path: Path) -> None:
    dns = tmp_path / "udp.yaml"
    dns.write_text(WEB.read_text().replace("containerPort: 8080", "containerPort: 8080, protocol: UDP")
                   .replace("port: 80,", "port: 80, protocol: UDP,"))  # fmt: skip
    traffic = {"workload": "udp_rr", "clients_on": ["outside"], "connections": 30, "transactions": 2}
    data = {"cluster": {"manifests": [dns], "nodes": 2}, "cni": "flannel-host-gw", "proxy": "iptables",
            "conntrack": {"snat_ports": 7}, "warmup": 0,
            "traffic": {**traffic, "to": "policy-cluster", "through": "node-port"}}  # fmt: skip
    result = run(Scenario.model_validate(data))
    assert set(result.snat_ports["protocol"]) == {"udp"}
    assert result.transactions.groupby("flow")["is_complete"].all().sum() == result.snat_ports["highest_ports"].sum()


@given(ports=st.integers(LONGEST_WINDOW + 1, SOURCE_PORTS), share=st.floats(0, 1))
def test_a_search_fails_with_the_248th_power_of_the_share_in_use(ports: int, share: float) -> None:
    taken = round(share * ports)
    luck = (np.arange(2000) + 0.5) / 2000
    failed = (limits(snat_ports=ports).port_limit(luck) <= taken).mean()
    assert failed == pytest.approx((taken / ports) ** PORTS_TRIED, abs=1 / 1000)


@given(ports=st.integers(1, LONGEST_WINDOW))
def test_a_short_range_is_tried_in_full(ports: int) -> None:
    assert set(limits(snat_ports=ports).port_limit(np.linspace(0, 0.999, 50)).tolist()) == {ports}


def loss(load: float, fails: Any) -> float:
    """Erlang's loss formula, where a connection that finds n places taken gets none with a probability."""
    taken = np.arange(1, len(fails))
    states = np.exp(np.cumsum([0.0, *(np.log(load * (1 - fails[:-1])) - np.log(taken))]) - load)
    return float((states * fails).sum() / states.sum())


def test_refusals_are_as_erlang_says_for_searches_that_may_fail() -> None:
    """The same connections with and without the chance that a search fails, since how often they come differs much."""
    count, ports, load, second = 30_000, 1000, 980.0, 10**9
    generator = np.random.default_rng(3)
    release = np.cumsum(generator.exponential(second / load, count)).astype(np.int64)
    limit = limits(snat_ports=ports).port_limit(generator.random(count))[:, None]
    entry, one = np.arange(count)[:, None, None], np.ones((count, 1), np.int64)
    refused = []
    for given_limit in (limit, None):
        table = Tables([ports], [0], np.zeros(count, np.int64), entry, one * second, one[:, :, None], given_limit)
        plan = Plan(release, one - 1, one, [10**6], [UNLIMITED], tables=table)
        refused.append(ENGINES["simpy"](plan).is_refused()[count // 10 :].mean())
    share = np.arange(ports + 1) / ports
    expected = loss(load, share**PORTS_TRIED) / loss(load, share == 1)
    assert expected == pytest.approx(1.29, abs=0.01)
    assert refused[0] / refused[1] == pytest.approx(expected, abs=0.08)


def test_a_run_with_ports_is_the_same_again_and_is_kept(tmp_path: Path) -> None:
    first, second = calls(conntrack={"snat_ports": 150}), calls(conntrack={"snat_ports": 150})
    assert first.transactions.equals(second.transactions)
    save_result(first, tmp_path / "run")
    kept = pd.read_parquet(tmp_path / "run" / "snat_ports.parquet")
    assert kept["highest_ports"].tolist() == second.snat_ports["highest_ports"].tolist()


@pytest.mark.parametrize(
    ("conntrack", "message"),
    [
        ({"snat_ports": 0}, "greater than or equal to 1"),
        ({"snat_ports": 65_536}, "less than or equal to 64512"),
        ({"held_snat_ports": 64_513}, "others cannot have 64513 of 64512 ports"),
        ({"snat_ports": 5, "held_snat_ports": 6}, "others cannot have 6 of 5 ports"),
        ({"held_snat_ports": -1}, "greater than or equal to 0"),
        ({"snat_time_wait_s": 0}, "greater than or equal to 0.001"),
    ],
)
def test_what_cannot_be_is_refused(conntrack: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        scenario(conntrack=conntrack)
