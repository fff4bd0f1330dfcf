"""RPS: what the core with the interrupt does, what it hands on, and what flows have in common there."""

from __future__ import annotations

import pytest

from kubesim.cni import cni_class
from kubesim.kernel.nic import ALL_OFFLOADS, Offloads
from kubesim.kernel.packet import Packet
from kubesim.kernel.walk import Context, Hop, Path
from kubesim.proxy import proxy_class
from kubesim.scenario.deployment import Deployment
from tests.clusters import send, sized_cluster

FRAMES = 20


def deployed(cni: str, *, is_steered: bool = True, offloads: Offloads = ALL_OFFLOADS) -> Deployment:
    """Two nodes whose cards spread what they receive, or not."""
    cluster = sized_cluster(services=1, endpoints=1, endpoint_nodes=["node-2"])
    plugin, proxy = cni_class(cni), proxy_class("none")
    wired = plugin(cluster, plugin.settings_model(), 1500)
    written = proxy(cluster, proxy.settings_model())
    return Deployment(
        cluster, wired, written, "192.168.0.0/16", 1500, offloads=offloads, has_packet_steering=is_steered
    )


def walked(deployment: Deployment, protocol: str = "tcp", source_port: int = 1, payload_bytes: int = 64) -> Path:
    """A packet to a pod of another node."""
    cluster = deployment.cluster
    client, server = cluster.pod("client-1").address, cluster.pod("svc-1-0").address
    segment_bytes = 1000 if protocol == "tcp" else 0
    return send(deployment, client, Packet(client, server, protocol, source_port, 2, payload_bytes, segment_bytes))


def received(path: Path) -> list[Hop]:
    """What is done on the node that receives, behind the wire."""
    return [hop for hop in path.hops if hop.host == "node-2" and hop.context not in (Context.WIRE, Context.PORT)]


def test_the_core_with_the_interrupt_polls_merges_and_hands_on() -> None:
    hops = received(walked(deployed("calico-bgp")))
    assert [(hop.operation, hop.context, hop.at) for hop in hops[:4]] == [
        ("nic_receive", Context.SOFTIRQ, "eth0"),
        ("gro", Context.SOFTIRQ, "eth0"),
        ("rps_steer", Context.SOFTIRQ, "eth0"),
        ("backlog", Context.STEERED, "eth0"),
    ]
    assert Context.STEERED not in {hop.context for hop in hops[4:]}


@pytest.mark.parametrize("cni", ["calico-bgp", "calico-ipip", "flannel-vxlan", "flannel-wireguard"])
def test_nothing_else_changes_on_the_way(cni: str) -> None:
    on, off = (walked(deployed(cni, is_steered=is_steered)) for is_steered in (True, False))
    added = ("rps_flow_dissect", "rps_steer")
    kept = [hop for hop in on.hops if hop.operation not in added and hop.context is not Context.STEERED]
    assert kept == list(off.hops)
    assert len(on.hops) - len(kept) == (3 if cni == "calico-ipip" else 2)
    assert (on.hooks, on.queue_hash) == (off.hooks, off.queue_hash)


def test_the_kernel_computes_a_hash_where_the_card_sees_no_ports() -> None:
    dissected = {
        cni: "rps_flow_dissect" in [hop.operation for hop in walked(deployed(cni)).hops]
        for cni in ("calico-bgp", "flannel-vxlan", "flannel-wireguard", "calico-ipip")
    }
    assert [cni for cni, is_dissected in dissected.items() if is_dissected] == ["calico-ipip"]


def hashes(cni: str, payload_bytes: int = 64) -> list[tuple[int | None, int | None]]:
    """What two flows' receive queues and cores are chosen by, where that is not the flow."""
    deployment = deployed(cni)
    paths = [walked(deployment, "udp", port, payload_bytes) for port in (1000, 1001)]
    assert all(path.delivered_to is not None for path in paths)
    return [(path.queue_hash, path.steering_hash) for path in paths]


@pytest.mark.parametrize("cni", ["calico-bgp", "flannel-vxlan"])
def test_flows_with_ports_of_their_own_outside_are_spread(cni: str) -> None:
    assert hashes(cni) == [(None, None)] * 2


def test_the_flow_dissector_looks_into_ipip() -> None:
    first, second = hashes("calico-ipip")
    assert first == second
    assert first[0] is not None, "the card does not"
    assert first[1] is None


@pytest.mark.parametrize("cni", ["flannel-wireguard", "flannel-udp"])
def test_it_does_not_look_into_udp(cni: str) -> None:
    first, second = hashes(cni)
    assert first == second
    assert first[0] == first[1] is not None


def test_fragments_have_no_ports() -> None:
    first, second = hashes("calico-bgp", payload_bytes=4000)
    assert first == second
    assert first[0] == first[1] is not None
    steering = [hop.operation for hop in walked(deployed("calico-bgp"), "udp", payload_bytes=4000).hops]
    assert "rps_flow_dissect" in steering, "nor does the card tell a hash of them that RPS takes"


def test_fragments_inside_a_tunnel_have_none_either_and_outside_hide_what_is_inside() -> None:
    deployment = deployed("calico-ipip")
    inside = walked(deployment, "udp", payload_bytes=4000)
    assert inside.packet.source == deployment.cluster.pod("client-1").address
    assert None not in (inside.queue_hash, inside.steering_hash)
    assert inside.queue_hash != inside.steering_hash, "of nodes, and of pods"
    too_large = deployed("calico-ipip")
    too_large.cni.pod_mtu = 1500
    outside = walked(too_large, "udp", payload_bytes=4000)
    assert outside.queue_hash == outside.steering_hash is not None, "the outer packet is cut"


@pytest.mark.parametrize(("has_receive_offload", "buffers"), [(True, 1), (False, FRAMES)])
def test_each_buffer_that_was_not_merged_is_handed_on(has_receive_offload: bool, buffers: int) -> None:
    deployment = deployed("calico-bgp", offloads=Offloads(has_receive_offload=has_receive_offload))
    path = walked(deployment, payload_bytes=1000 * FRAMES)
    steering = [hop for hop in path.hops if hop.operation == "rps_steer"]
    assert [hop.total_items for hop in steering] == [buffers]
