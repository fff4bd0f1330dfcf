"""Conntrack tables that fill while packets play."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from kubesim.scenario import Result, save_result
from kubesim.scenario.conntrack_tables import ConntrackSpec, TableSize, table_size
from tests.clusters import ROUTED
from tests.scenarios import scenario, simulate

LIMIT = 10_000


def connections(
    count: int, rate_per_s: float, places: int, traffic: dict[str, Any] | None = None, **more: Any
) -> Result:
    """So many connections from node-1 to node-2, which have so many places left, on a cluster without a tunnel."""
    conntrack = {"max_entries": LIMIT, "held_entries": LIMIT - places, **more.pop("conntrack", {})}
    return simulate(
        cni="flannel-host-gw",
        cluster={"services": 1, "endpoints": 2},
        conntrack=conntrack,
        traffic={
            "workload": "poisson_connections",
            "connections": count,
            "rate_per_s": rate_per_s,
            "requests": 1,
            **(traffic or {}),
        },
        **more,
    )


def test_the_size_is_kube_proxys_unless_said() -> None:
    assert table_size(ConntrackSpec(), cores=2) == TableSize(131_072, 0)
    assert table_size(ConntrackSpec(), cores=96) == TableSize(3_145_728, 0)
    assert table_size(ConntrackSpec(max_entries=1000, held_entries=10), cores=96) == TableSize(1000, 10)
    with pytest.raises(ValidationError, match="greater than or equal to 64"):
        scenario(conntrack={"max_entries": 5})


@pytest.mark.parametrize("cni", ["flannel-vxlan", "flannel-host-gw", "calico-ipip"])
@pytest.mark.parametrize("workload", ["tcp_rr", "tcp_crr", "udp_rr", "tcp_stream", "udp_stream", "poisson_connections"])
def test_a_table_that_does_not_fill_changes_nothing(cni: str, workload: str) -> None:
    limited = simulate(cni=cni, traffic={"workload": workload}, conntrack={})
    unlimited = simulate(cni=cni, traffic={"workload": workload})
    assert limited.transactions.equals(unlimited.transactions)
    assert limited.summary["conntrack_dropped_packets"] == 0
    assert "conntrack_dropped_packets" not in unlimited.summary


def test_a_connection_has_one_entry_on_each_node_where_it_is_tracked() -> None:
    result = simulate(cni="flannel-vxlan", conntrack={}, traffic={"workload": "tcp_crr"})
    plan, flows = result.planned.plan, len(result.messages.flows)
    assert plan.tables is not None
    assert plan.tables.entry.shape[2] == 1, "no source is translated"
    assert result.planned.table_hosts == ("node-1", "node-2")
    assert np.bincount(plan.tables.table).tolist() == [flows, flows]
    names = [station.name for station in result.planned.stations.all]
    flow = result.messages.flow[result.planned.message]
    kind = result.messages.script.kind[result.planned.message]
    is_request = np.array([one.is_request for one in result.messages.kinds])[kind]
    for packet in range(plan.packets):
        visits = np.flatnonzero(plan.tables.entry[packet, :, 0] >= 0)
        hosts = [names[plan.station[packet, visit]].split()[0] for visit in visits]
        assert hosts == (["node-1", "node-2"] if is_request[packet] else ["node-2", "node-1"])
        entries = plan.tables.entry[packet, visits, 0]
        assert {result.planned.table_hosts[plan.tables.table[one]] for one in entries} == set(hosts)
        others = plan.tables.entry[flow == flow[packet]]
        assert set(others[others >= 0].tolist()) == set(entries.tolist())


def test_connections_within_a_node_have_one_entry() -> None:
    result = simulate(cluster={"endpoint_nodes": ["node-1"]}, conntrack={}, traffic={"workload": "tcp_crr"})
    tables = result.planned.plan.tables
    assert tables is not None
    assert result.planned.table_hosts == ("node-1",)
    assert len(tables.table) == len(result.messages.flows)
    assert (np.count_nonzero(tables.entry >= 0, axis=(1, 2)) == 1).all()


def test_the_table_is_full_after_places_by_rate() -> None:
    result = connections(1500, rate_per_s=100, places=1000)
    first_s = result.summary["conntrack_first_drop_ns"] / 1e9
    assert first_s == pytest.approx(1000 / 100, rel=0.1)
    assert result.summary["conntrack_highest_entries"] == LIMIT
    assert result.summary["conntrack_occupancy_ratio"] == 1
    node_1, node_2 = result.conntrack.to_dict("records")
    assert node_1["dropped_packets"] == result.summary["conntrack_dropped_packets"] > 0
    assert (node_2["dropped_packets"], node_2["first_drop_ns"]) == (0, -1), "what node-1 drops never comes to node-2"
    assert node_2["highest_entries"] == LIMIT


def test_users_wait_a_second_or_get_nothing() -> None:
    """The SYN is sent again once; entries that leave in the meantime make room."""
    result = connections(3000, rate_per_s=100, places=1000, conntrack={"tcp_time_wait_s": 11})
    frame = result.transactions
    late = frame[frame["is_complete"] & (frame["latency_ns"] > 10**9)]
    assert len(late) > 0
    assert (~frame["is_complete"]).sum() > 0
    assert late["latency_ns"].max() < 1.01 * 10**9
    assert result.summary["dropped_packets"] == result.summary["conntrack_dropped_packets"]


def test_occupancy_follows_littles_law() -> None:
    result = connections(3000, rate_per_s=100, places=4000, conntrack={"tcp_time_wait_s": 5})
    entries = result.summary["conntrack_highest_entries"] - (LIMIT - 4000)
    assert 500 < entries < 600, "100 per second that stay for 5 s each: 500 on average, and a little more at times"
    assert result.summary["conntrack_dropped_packets"] == 0


def test_a_connection_that_lasts_holds_its_place_for_a_day() -> None:
    kept = connections(1100, 100, 1000, {"requests": 2, "think_us": 20_000_000}, conntrack={"tcp_time_wait_s": 0.001})
    closed = connections(1100, 100, 1000, {"requests": 2, "think_us": 1000}, conntrack={"tcp_time_wait_s": 0.001})
    assert kept.summary["conntrack_dropped_packets"] > 0
    assert closed.summary["conntrack_dropped_packets"] == 0
    short = connections(
        1100, 100, 1000, {"requests": 2, "think_us": 20_000_000},
        conntrack={"tcp_time_wait_s": 0.001, "tcp_established_s": 2},
    )  # fmt: skip
    assert short.summary["conntrack_dropped_packets"] == 0, (
        "conntrack forgets them, and takes their next packet for new"
    )


def test_datagrams_take_places_too() -> None:
    result = simulate(
        cni="flannel-host-gw",
        cluster={"services": 1, "endpoints": 1},
        conntrack={"max_entries": 64, "held_entries": 60},
        traffic={"workload": "udp_rr", "connections": 8, "transactions": 5},
    )
    assert result.summary["conntrack_highest_entries"] == 64
    assert result.transactions.groupby("flow")["is_complete"].all().sum() == 4


def test_a_refused_packet_takes_its_cores_time_as_far_as_it_comes() -> None:
    result = connections(1500, rate_per_s=100, places=1000)
    plan, trace = result.planned.plan, result.trace
    is_syn = result.messages.script.kind[result.planned.message] == 0
    refused = trace.is_refused() & is_syn
    assert (trace.refused_visit[refused] == 0).all(), "on the core of the process that connects"
    spent = (trace.depart_ns - trace.start_ns)[:, 0]
    others = is_syn & ~trace.is_refused()
    assert spent[refused].mean() < spent[others].mean()
    assert plan.tables is not None
    assert (spent[refused] == plan.tables.refused_ns[refused, 0, 0]).all()
    assert spent[refused].mean() > 8200, "it has made a socket and sent a SYN"


def test_a_table_that_is_full_from_the_start_refuses_all_as_linux_logs_it() -> None:
    result = connections(10, rate_per_s=100, places=0)
    assert result.planned.refusals == {"nf_conntrack: table full, dropping packet, in node-1": 10}


def test_without_conntrack_nothing_fills() -> None:
    result = simulate(cni=ROUTED, proxy="none", conntrack={"max_entries": 64}, traffic={"workload": "tcp_crr"})
    assert result.planned.table_hosts == ()
    assert result.summary["conntrack_highest_entries"] == 0
    assert result.summary["lost_transactions"] == 0


@pytest.mark.parametrize("proxy", ["iptables", "none"])
def test_how_full_tables_were_is_kept(proxy: str, tmp_path: Path) -> None:
    result = simulate(cni=ROUTED, proxy=proxy, conntrack={})
    save_result(result, tmp_path / "run")
    kept = pd.read_parquet(tmp_path / "run" / "conntrack.parquet")
    assert kept["highest_entries"].tolist() == ([] if proxy == "none" else [1, 1])


def test_a_run_with_tables_is_the_same_again() -> None:
    first, second = (connections(1200, rate_per_s=100, places=1000) for _ in range(2))
    assert first.transactions.equals(second.transactions)
    assert first.conntrack.equals(second.conntrack)


def test_what_a_server_has_computed_is_paid_though_its_reply_is_refused() -> None:
    """Entries that are forgotten while the server computes are taken by others: its replies find no place."""
    result = connections(
        300, rate_per_s=1000, places=64, traffic={"server_us": 500_000}, conntrack={"tcp_established_s": 0.1}
    )
    trace = result.trace
    is_reply = result.messages.script.kind[result.planned.message] == 4
    refused = is_reply & (trace.refused_visit == 0)
    assert refused.any()
    assert (trace.depart_ns - trace.start_ns)[refused, 0].min() > 100_000_000
