"""Cilium: hooks and devices in order in every mode, its own connections, and what it leaves to kube-proxy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kubesim.cni.cilium import Plugin, Settings
from kubesim.errors import InputError
from kubesim.kernel.packet import Packet
from kubesim.proxy import proxy_class
from kubesim.scenario.deployment import Deployment
from tests.clusters import cluster_of, converse, operations, send, sized_cluster
from tests.clusters import rules as rules_at
from tests.cni.test_hook_traversal import TOPOLOGY

if TYPE_CHECKING:
    from kubesim.cluster import Cluster
    from kubesim.kernel.walk import Path as WalkedPath
    from tests.clusters import Conversation

NEAR, FAR = "10.244.1.12", "10.244.2.21"


def cilium(cluster: Cluster, proxy: str, settings: dict[str, Any] | None = None, **of_proxy: Any) -> Deployment:
    """A cluster that Cilium wires, with settings of it and of the proxy."""
    plugin = proxy_class(proxy)
    return Deployment(
        cluster,
        Plugin(cluster, Settings(**(settings or {})), 1500),
        plugin(cluster, plugin.settings_model(**of_proxy)),
        "192.168.0.0/24",
        1500,
        load_balancing="bgp",
    )


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """Two nodes, with two pods and one."""
    return cluster_of(TOPOLOGY, tmp_path)


def call(deployment: Deployment, target: str) -> Conversation:
    """A pod of the first node calls another pod."""
    return converse(deployment, "10.244.1.11", target, 5353)


def hooks(path: WalkedPath | None) -> list[tuple[str, str, str | None, str | None]]:
    """Hooks in order, with devices, those of pods without the pods' names."""
    assert path is not None
    assert path.reason is None
    return [(v.host, v.hook, bare(v.in_device), bare(v.out_device)) for v in path.hooks]


def bare(device: str | None) -> str | None:
    """A device's name, or ``lxc``."""
    return "lxc" if device is not None and device.startswith("lxc-") else device


def steps(path: WalkedPath | None) -> list[tuple[str, str]]:
    """Devices and programs in the order in which the packet passes them."""
    assert path is not None
    words = ("bpf_program", "bpf_redirect", "veth_", "backlog", "vxlan_", "gro_cells", "nic_t", "nic_r")
    return [(hop.operation, str(bare(hop.at))) for hop in path.hops if hop.operation.startswith(words)]


NATIVE: dict[str, Any] = {"routing": "native"}
LEGACY: dict[str, Any] = {"host_routing": "legacy"}
TUNNEL_HOOKS = [
    ("n1", "output", None, "eth0"), ("n1", "postrouting", "cilium_vxlan", "eth0"),
    ("n2", "prerouting", "eth0", None), ("n2", "input", "eth0", None),
]  # fmt: skip
ROUTED_HOOKS = [
    ("n1", "prerouting", "lxc", None), ("n1", "forward", "lxc", "eth0"), ("n1", "postrouting", "lxc", "eth0"),
    ("n2", "prerouting", "eth0", None), ("n2", "forward", "eth0", "lxc"), ("n2", "postrouting", "eth0", "lxc"),
]  # fmt: skip
NEAR_HOOKS = [
    ("n1", "prerouting", "lxc", None), ("n1", "forward", "lxc", "lxc"), ("n1", "postrouting", "lxc", "lxc"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("proxy", "settings", "near", "far"),
    [
        ("cilium-ebpf", NATIVE, [], []),
        ("cilium-ebpf", {}, [], TUNNEL_HOOKS),
        ("cilium-ebpf", LEGACY, NEAR_HOOKS, TUNNEL_HOOKS),
        ("cilium-ebpf", NATIVE | LEGACY, NEAR_HOOKS, ROUTED_HOOKS),
        ("iptables", {}, NEAR_HOOKS, TUNNEL_HOOKS),
        ("iptables", NATIVE, NEAR_HOOKS, ROUTED_HOOKS),
        ("nftables", NATIVE, NEAR_HOOKS, ROUTED_HOOKS),
    ],
)
def test_hooks_in_order(cluster: Cluster, proxy: str, settings: dict[str, Any], near: Any, far: Any) -> None:
    for target, expected in ((NEAR, near), (FAR, far)):
        found = call(cilium(cluster, proxy, settings), target)
        assert hooks(found.first) == hooks(found.established) == expected


def test_programs_and_devices_on_one_node(cluster: Cluster) -> None:
    found = call(cilium(cluster, "cilium-ebpf"), NEAR)
    assert steps(found.established) == [
        ("veth_transmit", "eth0"), ("backlog", "lxc"), ("bpf_program", "lxc"),
        ("bpf_program", "lxc"), ("bpf_redirect_peer", "lxc"),
    ]  # fmt: skip
    legacy = call(cilium(cluster, "iptables"), NEAR)
    assert steps(legacy.established) == [
        ("veth_transmit", "eth0"), ("backlog", "lxc"), ("bpf_program", "lxc"),
        ("bpf_program", "lxc"), ("veth_transmit", "lxc"), ("backlog", "eth0"),
    ]  # fmt: skip


def test_programs_and_devices_between_nodes(cluster: Cluster) -> None:
    native = call(cilium(cluster, "cilium-ebpf", NATIVE), FAR)
    assert steps(native.established) == [
        ("veth_transmit", "eth0"), ("backlog", "lxc"), ("bpf_program", "lxc"),
        ("bpf_redirect_neigh", "eth0"), ("bpf_program", "eth0"), ("nic_transmit", "eth0"),
        ("nic_receive", "eth0"), ("bpf_program", "eth0"), ("bpf_program", "lxc"), ("bpf_redirect_peer", "lxc"),
    ]  # fmt: skip
    tunnel = call(cilium(cluster, "cilium-ebpf"), FAR)
    assert steps(tunnel.established) == [
        ("veth_transmit", "eth0"), ("backlog", "lxc"), ("bpf_program", "lxc"),
        ("bpf_redirect", "cilium_vxlan"), ("vxlan_encapsulate", "cilium_vxlan"),
        ("bpf_program", "eth0"), ("nic_transmit", "eth0"), ("nic_receive", "eth0"), ("bpf_program", "eth0"),
        ("vxlan_decapsulate", "cilium_vxlan"), ("gro_cells", "cilium_vxlan"), ("bpf_program", "cilium_vxlan"),
        ("bpf_program", "lxc"), ("bpf_redirect_peer", "lxc"),
    ]  # fmt: skip
    legacy = call(cilium(cluster, "iptables"), FAR)
    assert steps(legacy.established)[-4:] == [
        ("bpf_redirect", "lxc"), ("bpf_program", "lxc"), ("veth_transmit", "lxc"), ("backlog", "eth0"),
    ]  # fmt: skip


@pytest.mark.parametrize("target", [NEAR, FAR])
def test_connections_are_in_its_own_map(cluster: Cluster, target: str) -> None:
    deployment = cilium(cluster, "cilium-ebpf", NATIVE)
    found = call(deployment, target)
    for path in (found.first, found.first_reply, found.established, found.reply):
        assert not [name for name in operations(path) if name.startswith(("conntrack_", "iptables_"))]
    assert operations(found.first)["bpf_map_update"] == 2, "one at each end"
    for path in (found.first_reply, found.established, found.reply):
        assert "bpf_map_update" not in operations(path)
    assert operations(found.reply)["bpf_map_lookup"] < operations(found.established)["bpf_map_lookup"]
    deployment.forget_connections()
    assert operations(call(deployment, target).first)["bpf_map_update"] == 2


def test_a_tunnel_takes_from_the_mtu(cluster: Cluster) -> None:
    assert Plugin(cluster, Settings(), 1500).pod_mtu == 1450
    assert Plugin(cluster, Settings(routing="native"), 1500).pod_mtu == 1500
    packet = Packet("10.244.1.11", FAR, "udp", 40_000, 5353, 1000)
    path = send(cilium(cluster, "cilium-ebpf"), "10.244.1.11", packet)
    sizes = {hop.operation: hop.size_bytes for hop in path.hops}
    assert sizes["nic_serialise"] == 20 + 14 + 50 + 20 + 8 + 1000 + 4


@pytest.mark.parametrize("proxy", ["iptables", "ipvs", "nftables", "none"])
def test_host_routing_by_programs_needs_its_own_proxy(cluster: Cluster, proxy: str) -> None:
    with pytest.raises(InputError, match="needs Cilium's own replacement of kube-proxy, which is proxy: cilium-ebpf"):
        call(cilium(cluster, proxy, {"host_routing": "bpf"}), NEAR)
    assert call(cilium(cluster, "cilium-ebpf", {"host_routing": "bpf"}), NEAR).first.reason is None


@pytest.mark.parametrize("proxy", ["iptables", "ipvs", "nftables"])
@pytest.mark.parametrize("settings", [{}, NATIVE])
def test_it_balances_what_pods_call_beside_kube_proxy(cluster: Cluster, proxy: str, settings: dict[str, Any]) -> None:
    found = converse(cilium(cluster, proxy, settings), "10.244.1.11", "10.96.0.21", 53, "udp")
    assert found.established is not None
    assert found.established.packet.destination == FAR
    for path in (found.first, found.established):
        assert operations(path)["bpf_nat"] == 1
        assert not [name for name in operations(path) if name in ("nat_rewrite", "ipvs_nat")]
    assert found.reply is not None
    assert (found.reply.packet.source, found.reply.packet.source_port) == ("10.96.0.21", 53)


def test_what_nodes_call_is_left_to_kube_proxy(cluster: Cluster) -> None:
    found = converse(cilium(cluster, "iptables"), "192.168.0.11", "10.96.0.21", 53, "udp")
    assert "bpf_nat" not in operations(found.first)
    assert operations(found.first)["nat_rewrite"] == 2, "the server's address, and that of cilium_host"
    assert rules_at(found.first, "n1", "nat/OUTPUT") > 0
    assert found.reply is not None
    assert found.reply.packet.source == "10.96.0.21"


def test_a_pod_that_calls_itself_seems_to_be_somebody_else() -> None:
    cluster = sized_cluster(services=1, endpoints=1, endpoint_nodes=["node-1"])
    address = cluster.pod("svc-1-0").address
    deployment = cilium(cluster, "iptables")
    found = converse(deployment, address, "10.96.0.1", 80)
    assert found.first.packet.source == "169.254.42.1"
    assert found.reply is not None
    assert (found.reply.packet.source, found.reply.packet.destination) == ("10.96.0.1", address)


def test_routes_and_neighbours_of_its_own(cluster: Cluster) -> None:
    deployment = cilium(cluster, "cilium-ebpf")
    call(deployment, FAR)
    root = deployment.host("n1").root
    near, far = root.routes.lookup("10.244.1.11"), root.routes.lookup(FAR)
    assert near is not None
    assert far is not None
    assert (bare(str(near.device and near.device.name)), far.device and far.device.name) == ("lxc", "cilium_host")
    native = cilium(cluster, "cilium-ebpf", NATIVE).host("n1").root.routes.lookup(FAR)
    assert native is not None
    assert (native.device and native.device.name, native.via) == ("eth0", "192.168.0.12")
    assert root.routes.lookup("10.244.1.99") is not None, "what is left of the node's own range leads nowhere"


def test_what_nobody_has_gets_nowhere(cluster: Cluster) -> None:
    deployment = cilium(cluster, "cilium-ebpf")
    packet = Packet("10.244.1.11", "10.244.1.99", "tcp", 40_000, 80, 64)
    assert "network unreachable" in str(send(deployment, "10.244.1.11", packet).reason)


ENCRYPTED: dict[str, Any] = {"encryption": "wireguard"}
WIREGUARD_HOOKS = [
    ("n1", "output", None, "eth0"), ("n1", "postrouting", "cilium_wg0", "eth0"),
    ("n2", "prerouting", "eth0", None), ("n2", "input", "eth0", None),
]  # fmt: skip


def test_native_routing_is_encrypted_at_the_card(cluster: Cluster) -> None:
    found = call(cilium(cluster, "cilium-ebpf", NATIVE | ENCRYPTED), FAR)
    assert hooks(found.first) == WIREGUARD_HOOKS
    assert found.reply is not None
    assert found.reply.delivered_to == "default/p11"
    assert operations(found.first)["wireguard_encrypt"] == operations(found.first)["wireguard_decrypt"] == 1
    near = call(cilium(cluster, "cilium-ebpf", NATIVE | ENCRYPTED), NEAR)
    assert "wireguard_encrypt" not in operations(near.first), "what stays on the node is in the clear"


def test_the_tunnels_packets_are_encrypted_as_they_are(cluster: Cluster) -> None:
    found = call(cilium(cluster, "cilium-ebpf", ENCRYPTED), FAR)
    assert hooks(found.first) == [
        ("n1", "output", None, "eth0"), ("n1", "postrouting", "cilium_vxlan", "eth0"),
        *WIREGUARD_HOOKS,
        ("n2", "prerouting", "cilium_wg0", None), ("n2", "input", "cilium_wg0", None),
    ]  # fmt: skip
    order = [hop.operation for hop in found.first.hops if hop.operation.endswith(("capsulate", "crypt"))]
    assert order == ["vxlan_encapsulate", "wireguard_encrypt", "wireguard_decrypt", "vxlan_decapsulate"]
    assert found.first.queue_hash is not None, "one receive queue for all that two nodes say"


@pytest.mark.parametrize(("settings", "pod_mtu", "outer_bytes"), [(NATIVE, 1420, 60), ({}, 1370, 110)])
def test_mtu_with_encryption(cluster: Cluster, settings: dict[str, Any], pod_mtu: int, outer_bytes: int) -> None:
    deployment = cilium(cluster, "cilium-ebpf", settings | ENCRYPTED)
    assert deployment.cni.pod_mtu == pod_mtu
    longest = Packet("10.244.1.11", FAR, "udp", 1, 2, pod_mtu - 28)
    path = send(deployment, "10.244.1.11", longest)
    assert path.delivered_to == "default/p21"
    sizes = [hop.size_bytes for hop in path.hops if hop.operation == "nic_serialise"]
    padding_bytes = -(pod_mtu + outer_bytes - 60) % 16
    room = 1420 - (pod_mtu + outer_bytes - 60)
    assert sizes == [pod_mtu + outer_bytes + min(padding_bytes, room) + 38]


def test_native_routing_needs_one_network() -> None:
    apart = sized_cluster(nodes=2, node_subnets=2)
    with pytest.raises(InputError, match=r"cilium with native routing sends pods' packets .* take routing: tunnel"):
        cilium(apart, "cilium-ebpf", NATIVE)
    assert "cilium_vxlan" in cilium(apart, "cilium-ebpf").host("node-1").root.devices
