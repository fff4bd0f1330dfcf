"""One receive queue, one core: what flows share is the limit of all of them."""

from __future__ import annotations

import pytest

from kubesim.scenario import Result
from tests.scenarios import simulate


def connections(cni: str, rate_per_s: float) -> Result:
    """Connections between the pods of two nodes."""
    return simulate(
        cni=cni,
        cluster={"services": 4, "endpoints": 4, "background_connections_per_s": 1e6},
        traffic={"workload": "poisson_connections", "connections": 4000, "rate_per_s": rate_per_s, "requests": 1},
        hardware={"cores": 32, "softirq_cores": 4},
    )


def received_on(result: Result, node: str) -> list[float]:
    """Utilisation of the node's softirq cores, the busiest first."""
    frame = result.utilisation
    chosen = frame[(frame["host"] == node) & (frame["kind"] == "softirq core")]
    return sorted(chosen["utilisation"], reverse=True)


@pytest.mark.parametrize("node", ["node-1", "node-2"])
def test_a_node_pair_has_one_core_with_ipip_and_all_with_vxlan(node: str) -> None:
    (ipip, *others), vxlan = (received_on(connections(cni, 20_000), node) for cni in ("calico-ipip", "flannel-vxlan"))
    assert others == pytest.approx([0, 0, 0], abs=0.02), "but for what the kernel answers by itself"
    assert min(vxlan) > 0.5 * max(vxlan)
    assert ipip > 1.5 * max(vxlan)


def test_one_core_is_full_where_four_are_not() -> None:
    """More connections than one core can receive: its ring overflows, and SYNs have to be sent again."""
    ipip, vxlan = (connections(cni, 60_000) for cni in ("calico-ipip", "flannel-vxlan"))
    assert ipip.summary["dropped_packets"] > 100
    assert vxlan.summary["dropped_packets"] == 0
    assert ipip.summary["latency_p50_ns"] > 50 * vxlan.summary["latency_p50_ns"]


def test_a_pair_of_nodes_answers_as_fast_as_one_core_receives() -> None:
    """The same in a closed loop, where nothing is lost: that core never rests."""
    found = {}
    for cni in ("calico-ipip", "flannel-vxlan"):
        result = simulate(
            cni=cni,
            cluster={"services": 4, "endpoints": 4},
            traffic={"connections": 96, "transactions": 60},
            hardware={"cores": 32, "softirq_cores": 4},
        )
        found[cni] = received_on(result, "node-2")[0], result.summary["throughput_per_s"]
    assert found["calico-ipip"][0] > 0.95
    assert found["flannel-vxlan"][1] > 1.8 * found["calico-ipip"][1]


def test_a_single_flow_is_on_one_core_whatever_carries_it() -> None:
    for cni in ("flannel-host-gw", "flannel-vxlan"):
        result = simulate(cni=cni, traffic={"workload": "udp_stream", "datagrams": 2000, "message_bytes": 64})
        busy = [utilisation > 0 for utilisation in received_on(result, "node-2")]
        assert busy == [True, False, False, False]
