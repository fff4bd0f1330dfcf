"""Headers and MTU of every CNI plugin, what that leaves of the line, and what happens where the MTU is too large."""

from __future__ import annotations

import pytest

from kubesim.kernel.packet import Packet
from kubesim.scenario import Result, trace
from tests.clusters import deploy, operations, send, sized_cluster
from tests.scenarios import CNIS, scenario, simulate

OUTER_BYTES = {
    "antrea-geneve": 50,
    "calico-bgp": 0,
    "calico-ipip": 20,
    "calico-vxlan": 50,
    "cilium": 50,
    "flannel-host-gw": 0,
    "flannel-udp": 28,
    "flannel-vxlan": 50,
    "flannel-wireguard": 60,
    "weave": 50,
}
"""What is put around an IP packet between nodes: IP 20; IP 20, UDP 8, VXLAN 8 and Ethernet 14."""

SPARED_BYTES = {"flannel-wireguard": 20, "weave": 74}
"""What the pods' MTU leaves free besides: room for an outer header of IPv6; for encryption."""

PADDING_BYTES = {"flannel-wireguard": 12}
"""What a packet of 1028 bytes is padded with, to a multiple of 16."""

CUT_OUTSIDE = {"calico-vxlan", "cilium", "flannel-udp", "flannel-vxlan", "flannel-wireguard"}
"""Tunnels whose outer header has no DF, so that a packet which is too long for the network goes in two frames."""


def test_every_plugin_is_in_the_table() -> None:
    assert sorted(OUTER_BYTES) == CNIS


@pytest.mark.parametrize("cni", CNIS)
def test_pods_have_what_the_outer_headers_leave(cni: str) -> None:
    deployment = deploy(sized_cluster(services=1, endpoints=1, endpoint_nodes=["node-2"]), cni, "none")
    client, server = (deployment.cluster.pod(name) for name in ("client-1", "svc-1-0"))
    assert deployment.cni.pod_mtu == 1500 - OUTER_BYTES[cni] - SPARED_BYTES.get(cni, 0)
    assert deployment.namespace(client).devices["eth0"].mtu == deployment.cni.pod_mtu
    packet = Packet(client.address, server.address, "udp", 40_000, 53, 1000)
    sizes = {hop.operation: hop.size_bytes for hop in send(deployment, client.address, packet).hops}
    headers_bytes = 8 + 20 + OUTER_BYTES[cni] + 14 + 4 + 20
    assert sizes["nic_serialise"] == 1000 + headers_bytes + PADDING_BYTES.get(cni, 0)


@pytest.mark.parametrize("cni", CNIS)
def test_goodput_of_full_frames(cni: str) -> None:
    """Payload over all that a frame occupies of the line: 94.1 % without a tunnel, 90.9 % with VXLAN."""
    traffic = {"workload": "tcp_stream", "buffers": 200, "connections": 4}
    result = simulate(cni=cni, proxy="none", hardware={"nic_gbit_per_s": 1}, traffic=traffic)
    frame_bytes = 1500 - SPARED_BYTES.get(cni, 0)
    carried = frame_bytes - OUTER_BYTES[cni] - 52
    assert result.summary["goodput_bit_per_s"] / 1e9 == pytest.approx(carried / (frame_bytes + 38), rel=0.005)


def run_with_pod_mtu(cni: str, pod_mtu: int, **traffic: object) -> Result:
    return simulate(cni={"name": cni, "pod_mtu": pod_mtu}, proxy="iptables", traffic={"transactions": 30, **traffic})


def lengths_and_drops(cni: str, pod_mtu: int, payload_bytes: int, protocol: str) -> tuple[list[str], str | None]:
    """Operations on the first packet to a pod of another node, and why it got nowhere."""
    wired = scenario(cni={"name": cni, "pod_mtu": pod_mtu}, proxy="iptables", cluster={"services": 1, "endpoints": 1})
    first = trace(wired, "client-1", "svc-1-0", protocol=protocol, payload_bytes=payload_bytes).packets[0]
    return [hop.hop.operation for hop in first.hops], first.path.reason


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("cni", CNIS)
def test_an_mtu_that_is_too_large_hurts_large_packets_only(cni: str, protocol: str) -> None:
    pod_mtu = 1500 - OUTER_BYTES[cni] + 20
    _, reason = lengths_and_drops(cni, pod_mtu, 100, protocol)
    assert reason is None
    found, reason = lengths_and_drops(cni, pod_mtu, 1500 - OUTER_BYTES[cni] - 28 + 10, protocol)
    if cni in CUT_OUTSIDE:
        assert reason is None, "the outer header has no DF"
        assert "ip_fragment" in found
    else:
        assert reason is not None
        assert reason.startswith("fragmentation needed and DF set: a packet of 1510 bytes" if protocol == "udp" else "")
        assert "does not fit the MTU of 1500 of eth0 in node-1" in reason


def test_outer_fragments_are_put_together_before_they_are_unwrapped() -> None:
    cluster = sized_cluster(services=1, endpoints=1, endpoint_nodes=["node-2"])
    deployment = deploy(cluster, "flannel-vxlan", "iptables")
    deployment.cni.pod_mtu = 1500
    client, server = cluster.pod("client-1").address, cluster.pod("svc-1-0").address
    path = send(deployment, client, Packet(client, server, "tcp", 1, 2, 1448))
    after_wrapping = [
        (hop.host, hop.operation, hop.buffers)
        for hop in path.hops
        if hop.operation in ("vxlan_encapsulate", "ip_fragment", "nic_transmit", "ip_defrag", "vxlan_decapsulate")
    ]
    assert after_wrapping == [
        ("node-1", "vxlan_encapsulate", 1), ("node-1", "ip_fragment", 2), ("node-1", "nic_transmit", 2),
        ("node-2", "ip_defrag", 2), ("node-2", "vxlan_decapsulate", 1),
    ]  # fmt: skip
    assert [visit.hook for visit in path.hooks if visit.host == "node-2" and visit.family == "inet"] == [
        "prerouting", "input", "prerouting", "forward", "postrouting",
    ]  # fmt: skip


def test_a_stream_in_outer_fragments_takes_the_line_twice_and_loses_the_cards_help() -> None:
    traffic = {"workload": "tcp_stream", "buffers": 100}
    right, wrong = (
        simulate(cni={"name": "flannel-vxlan", "pod_mtu": mtu}, proxy="iptables", traffic=traffic)
        for mtu in (1450, 1500)
    )
    assert right.summary["loss_ratio"] == wrong.summary["loss_ratio"] == 0
    items = [one.breakdown.set_index("operation")["items"] for one in (right, wrong)]
    assert "gso_segment" not in items[0]
    assert items[1]["ip_defrag"] == items[1]["ip_fragment"] > 80 * 100
    assert items[1]["vxlan_decapsulate"] > 20 * items[0]["vxlan_decapsulate"], "frames are not merged before that"
    assert wrong.summary["cpu_ns_per_transaction"] > 2 * right.summary["cpu_ns_per_transaction"]


def test_a_run_says_why_large_messages_are_lost() -> None:
    result = run_with_pod_mtu("calico-ipip", 1500, request_bytes=1, response_bytes=20_000)
    assert result.summary["transactions"] == 0
    assert result.summary["loss_ratio"] == 1
    assert list(result.planned.refusals) == [
        "fragmentation needed and DF set: a packet of 1520 bytes does not fit the MTU of 1500 of eth0 in node-2"
    ]
    assert run_with_pod_mtu("calico-ipip", 1500, request_bytes=1, response_bytes=1000).summary["loss_ratio"] == 0


@pytest.mark.parametrize("cni", ["calico-ipip", "flannel-vxlan"])
def test_datagrams_in_fragments_pass_tunnels_as_fragments(cni: str) -> None:
    cluster = sized_cluster(services=1, endpoints=1, endpoint_nodes=["node-2"])
    deployment = deploy(cluster, cni, "iptables")
    client, server = cluster.pod("client-1").address, cluster.pod("svc-1-0").address
    path = send(deployment, client, Packet(client, server, "udp", 1, 2, 4000))
    times = {hop.operation: hop.buffers for hop in path.hops if hop.operation.endswith("capsulate")}
    assert set(times.values()) == {3}
    assert operations(path)["ip_defrag"] == 3, "at either node for the inner packet, and in the pod"
    assert [hop.buffers for hop in path.hops if hop.operation == "conntrack_new"] == [1] * 4
    assert sum(hop.items * hop.buffers for hop in path.hops if hop.operation == "nic_receive") == 3
