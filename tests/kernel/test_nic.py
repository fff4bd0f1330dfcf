"""Cards that do not help the kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from kubesim.cni import cni_class
from kubesim.kernel.nic import Offloads
from kubesim.kernel.packet import Packet
from kubesim.proxy import proxy_class
from kubesim.scenario.deployment import Deployment
from tests.clusters import send, sized_cluster
from tests.scenarios import simulate

if TYPE_CHECKING:
    from kubesim.kernel.walk import Path
    from kubesim.scenario import Result


def walked(cni: str, offloads: Offloads) -> Path:
    """A buffer of 20 frames to a pod of another node."""
    cluster = sized_cluster(services=1, endpoints=1, endpoint_nodes=["node-2"])
    plugin, proxy = cni_class(cni), proxy_class("iptables")
    wired = plugin(cluster, plugin.settings_model(), 1500)
    written = proxy(cluster, proxy.settings_model())
    deployment = Deployment(cluster, wired, written, "192.168.0.0/16", 1500, offloads=offloads)
    client, server = cluster.pod("client-1").address, cluster.pod("svc-1-0").address
    return send(deployment, client, Packet(client, server, "tcp", 1, 2, 20_000, segment_bytes=1000))


def times(path: Path, host: str) -> list[tuple[str, int]]:
    """Operations that were done on several buffers of a host."""
    return [(hop.operation, hop.buffers) for hop in path.hops if hop.host == host and hop.buffers > 1]


def test_without_segmentation_offload_the_kernel_cuts_at_the_end() -> None:
    path = walked("calico-bgp", Offloads(has_segmentation_offload=False))
    names = [(hop.operation, hop.items) for hop in path.hops]
    assert names[names.index(("nic_transmit", 20)) - 1] == ("gso_segment", 20)
    assert times(path, "node-1") == []
    assert "gso_segment" not in [hop.operation for hop in walked("calico-bgp", Offloads()).hops]


def test_without_receive_offload_every_frame_walks_alone_up_to_the_socket() -> None:
    path = walked("calico-bgp", Offloads(has_receive_offload=False))
    found = [(hop.operation, hop.buffers) for hop in path.hops if hop.host == "node-2"]
    assert "gro" not in dict(found)
    assert dict(found)["nic_receive"] == 1, "which counts frames by itself"
    between = found[found.index(("nic_receive", 1)) + 1 : found.index(("socket_wakeup", 1))]
    once = {"conntrack_new", "conntrack_confirm", "nat_setup"}
    in_nat = [number for number, (operation, _) in enumerate(between) if operation == "nat_setup"]
    assert len(in_nat) == 2, "at PREROUTING and at POSTROUTING, where the rules of nat are for the first frame only"
    assert {count for operation, count in between if operation not in once} <= {1, 20}
    for operation in ("conntrack_lookup", "ip_forward", "ip_output", "veth_transmit", "backlog", "tcp_receive"):
        assert (operation, 20) in between
    assert times(path, "node-1") == []


def test_a_tunnel_merges_what_the_card_did_not() -> None:
    path = walked("flannel-vxlan", Offloads(has_receive_offload=False))
    found = [(hop.operation, hop.buffers) for hop in path.hops if hop.host == "node-2"]
    merged = found.index(("gro", 20))
    assert ("vxlan_decapsulate", 20) in found[:merged]
    assert {count for _, count in found[merged + 1 :]} == {1}


def stream(**hardware: object) -> Result:
    traffic = {"workload": "tcp_stream", "buffers": 100}
    return simulate(cni="calico-bgp", proxy="iptables", hardware=hardware, traffic=traffic)


@pytest.mark.parametrize("missing", ["has_segmentation_offload", "has_receive_offload"])
def test_runs_pay_for_what_cards_leave_to_the_kernel(missing: str) -> None:
    with_it, without = (stream(**{missing: value}).summary["cpu_ns_per_transaction"] for value in (True, False))
    assert without > 1.2 * with_it


def test_only_streams_pay() -> None:
    rr = {"transactions": 50}
    slow = simulate(hardware={"has_segmentation_offload": False, "has_receive_offload": False}, traffic=rr)
    assert simulate(traffic=rr).summary["cpu_ns_per_transaction"] >= slow.summary["cpu_ns_per_transaction"]
