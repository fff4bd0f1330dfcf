"""Weave: hooks and hand-offs in order, sizes, and the process that sleeve's packets pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubesim.cluster import Cluster
from kubesim.cni import cni_class
from kubesim.errors import InputError
from kubesim.kernel.packet import Packet
from kubesim.kernel.walk import Context
from kubesim.kernel.walk import Path as WalkedPath
from kubesim.proxy import proxy_class
from kubesim.scenario.deployment import Deployment
from tests.clusters import NODE_CIDR, Conversation, cluster_of, converse, operations, rules, send
from tests.cni.test_hook_traversal import TOPOLOGY
from tests.scenarios import simulate

SLEEVE = {"name": "weave", "mode": "sleeve"}


def weave(cluster: Cluster, proxy: str = "iptables", mtu: int = 1500, **settings: Any) -> Deployment:
    """A cluster with settings of Weave's own."""
    plugin, proxies = cni_class("weave"), proxy_class(proxy)
    cni = plugin(cluster, plugin.settings_model(**settings), mtu)
    return Deployment(cluster, cni, proxies(cluster, proxies.settings_model()), NODE_CIDR, mtu)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return cluster_of(TOPOLOGY, tmp_path)


def talk(deployment: Deployment, target: str, port: int) -> Conversation:
    return converse(deployment, "10.244.1.11", target, port, "udp", source_port=40_001)


def hooks(path: WalkedPath | None) -> list[tuple[str, str, str | None]]:
    """IP's hooks, with the device that a packet leaves by, or came by."""
    assert path is not None
    visits = [visit for visit in path.hooks if visit.family == "inet"]
    return [(visit.host, visit.hook, visit.out_device or visit.in_device) for visit in visits]


def outer(here: str, there: str) -> list[tuple[str, str, str | None]]:
    return [
        (here, "output", "eth0"), (here, "postrouting", "eth0"), (there, "prerouting", "eth0"), (there, "input", "eth0"),
    ]  # fmt: skip


def bridged(node: str) -> list[tuple[str, str, str | None]]:
    return [(node, "prerouting", "weave"), (node, "forward", "weave"), (node, "postrouting", "weave")]


def steps(path: WalkedPath | None, *wanted: str) -> list[tuple[str, str]]:
    """Some operations and their places, in order."""
    assert path is not None
    return [(hop.operation, hop.at) for hop in path.hops if hop.operation in wanted]


@pytest.mark.parametrize("mode", ["fastdp", "sleeve"])
def test_frames_pass_the_bridges_hooks_on_both_nodes(cluster: Cluster, mode: str) -> None:
    found = talk(weave(cluster, mode=mode), "10.244.2.21", 5353)
    assert hooks(found.first) == hooks(found.established) == [*bridged("n1"), *outer("n1", "n2"), *bridged("n2")]
    assert hooks(found.reply) == [*bridged("n2"), *outer("n2", "n1"), *bridged("n1")]
    at_bridge = [
        (visit.host, visit.hook, visit.in_device, visit.out_device)
        for visit in found.first.hooks
        if visit.family == "bridge"
    ]
    assert at_bridge == [
        ("n1", "br_prerouting", "vethwepl-default/p11", None),
        ("n1", "br_forward", "vethwepl-default/p11", "vethwe-bridge"),
        ("n1", "br_postrouting", None, "vethwe-bridge"),
        ("n2", "br_prerouting", "vethwe-bridge", None),
        ("n2", "br_forward", "vethwe-bridge", "vethwepl-default/p21"),
        ("n2", "br_postrouting", None, "vethwepl-default/p21"),
    ]
    assert found.first.packet.source == "10.244.1.11"
    assert found.first.packet.ttl == 64, "one Ethernet: nobody routes"


def test_fastdp_goes_by_way_of_open_vswitch(cluster: Cluster) -> None:
    found = talk(weave(cluster), "10.244.2.21", 5353)
    wanted = ("backlog", "gro_cells", "bridge_receive", "ovs_receive", "vxlan_encapsulate", "vxlan_decapsulate")
    assert steps(found.established, *wanted) == [
        ("backlog", "vethwepl-default/p11"), ("bridge_receive", "weave"),
        ("backlog", "vethwe-datapath"), ("ovs_receive", "vethwe-datapath"), ("vxlan_encapsulate", "vxlan-6784"),
        ("vxlan_decapsulate", "vxlan-6784"), ("gro_cells", "vxlan-6784"), ("ovs_receive", "vxlan-6784"),
        ("backlog", "vethwe-bridge"), ("bridge_receive", "weave"), ("backlog", "eth0"),
    ]  # fmt: skip
    assert operations(found.first)["ovs_upcall"] == 2, "one at each node"
    assert "ovs_upcall" not in operations(found.established)
    assert operations(found.first_reply)["ovs_upcall"] == 2, "another destination"
    assert "ovs_upcall" not in operations(found.reply)


def test_fastdp_has_two_hand_offs_more_than_flannel(cluster: Cluster) -> None:
    flannel = cni_class("flannel-vxlan")
    other = Deployment(
        cluster, flannel(cluster, flannel.settings_model(), 1500), proxy_class("none")(cluster, None), NODE_CIDR, 1500
    )
    counts = [
        operations(talk(deployment, "10.244.2.21", 5353).established) for deployment in (other, weave(cluster, "none"))
    ]
    assert counts[1]["backlog"] - counts[0]["backlog"] == 2
    assert counts[1]["veth_transmit"] - counts[0]["veth_transmit"] == 2
    assert counts[1]["gro_cells"] == counts[0]["gro_cells"] == 1


def test_a_service_is_translated_at_the_clients_bridge(cluster: Cluster) -> None:
    found = talk(weave(cluster), "10.96.0.21", 53)
    assert hooks(found.first) == [*bridged("n1"), *outer("n1", "n2"), *bridged("n2")], "readdressed on the bridge"
    assert rules(found.first, "n1", "nat/PREROUTING") > rules(found.established, "n1", "nat/PREROUTING") == 0
    assert found.reply is not None
    assert found.reply.packet.source == "10.96.0.21"


def test_a_process_of_the_node_is_seen_as_its_bridge(cluster: Cluster) -> None:
    for mode in ("fastdp", "sleeve"):
        found = converse(weave(cluster, "none", mode=mode), "192.168.0.11", "10.244.2.21", 5353, "udp")
        assert found.first.packet.source == "10.244.1.1"
        assert hooks(found.first)[:2] == [("n1", "output", "weave"), ("n1", "postrouting", "weave")]
        assert found.reply is not None
        assert found.reply.packet.destination == "192.168.0.11"


def test_out_of_the_cluster_pods_are_masqueraded(cluster: Cluster) -> None:
    packet = Packet("10.244.1.11", "8.8.8.8", "udp", 40_000, 53, 16)
    path = send(weave(cluster), "10.244.1.11", packet)
    assert "is not in the cluster" in str(path.reason)
    assert path.packet.source == "192.168.0.11"


def test_sleeve_goes_by_way_of_two_processes(cluster: Cluster) -> None:
    found = talk(weave(cluster, mode="sleeve"), "10.244.2.21", 5353)
    assert found.established is not None
    ways = [
        (hop.host, hop.context, hop.operation)
        for hop in found.established.hops
        if hop.operation.startswith(("packet_socket", "relay_", "udp_receive"))
    ]
    assert ways == [
        ("n1", Context.SOFTIRQ, "packet_socket_receive"),
        ("n1", Context.DAEMON, "relay_read"), ("n1", Context.DAEMON, "relay_frame"),
        ("n1", Context.DAEMON, "relay_send"),
        ("n2", Context.SOFTIRQ, "udp_receive"),
        ("n2", Context.DAEMON, "relay_read"), ("n2", Context.DAEMON, "relay_frame"),
        ("n2", Context.DAEMON, "packet_socket_send"),
        ("n2", Context.SOFTIRQ, "udp_receive"),
    ]  # fmt: skip
    assert "relay_encrypt" not in operations(found.established)
    encrypted = talk(weave(cluster, mode="sleeve", is_encrypted=True), "10.244.2.21", 5353)
    assert operations(encrypted.established)["relay_encrypt"] == 2


def test_sleeve_handles_each_frame_by_itself(cluster: Cluster) -> None:
    deployment = weave(cluster, mode="sleeve")
    buffer = Packet("10.244.1.11", "10.244.2.21", "tcp", 40_000, 80, 10 * 1324, segment_bytes=1324)
    per_frame = {hop.operation: hop.total_items for hop in send(deployment, "10.244.1.11", buffer).hops}
    assert per_frame["relay_frame"] == per_frame["packet_socket_receive"] == per_frame["packet_socket_send"] == 10


def test_sleeve_is_one_connection_and_one_queue_for_both_directions(cluster: Cluster) -> None:
    deployment = weave(cluster, mode="sleeve")
    found = talk(deployment, "10.244.2.21", 5353)
    assert rules(found.first, "n1", "nat/OUTPUT") > 0
    assert rules(found.first_reply, "n2", "nat/OUTPUT") == 0
    assert found.first_reply is not None
    assert found.first.queue_hash == found.first_reply.queue_hash is not None
    assert deployment.has_one_flow_tunnels
    assert not weave(cluster).has_one_flow_tunnels


@pytest.mark.parametrize(
    ("settings", "overhead_bytes"),
    [({}, 50), ({"mode": "sleeve"}, 62), ({"mode": "sleeve", "is_encrypted": True}, 86)],
)
def test_headers_and_mtu(cluster: Cluster, settings: dict[str, Any], overhead_bytes: int) -> None:
    deployment = weave(cluster, **settings)
    assert deployment.cni.pod_mtu == 1376
    packet = Packet("10.244.1.11", "10.244.2.21", "udp", 40_000, 5353, 1000)
    sizes = {hop.operation: hop.size_bytes for hop in send(deployment, "10.244.1.11", packet).hops}
    assert sizes["nic_serialise"] == 20 + 14 + overhead_bytes + 20 + 8 + 1000 + 4
    most = 1500 - overhead_bytes
    longest = Packet("10.244.1.11", "10.244.2.21", "udp", 40_000, 5353, most - 28)
    plugin = cni_class("weave")
    fitting = plugin(cluster, plugin.settings_model(mtu=most, **settings), 1500)
    whole = Deployment(cluster, fitting, proxy_class("none")(cluster, None), NODE_CIDR, 1500)
    assert send(whole, "10.244.1.11", longest).reason is None
    with pytest.raises(InputError, match=rf"cni.mtu: packets of {most + 1} bytes .* at most {most} do"):
        plugin(cluster, plugin.settings_model(mtu=most + 1, **settings), 1500)


def test_fastdp_would_encrypt_otherwise(cluster: Cluster) -> None:
    with pytest.raises(InputError, match="fastdp encrypts by IPsec, which is not modelled"):
        weave(cluster, is_encrypted=True)


def test_the_core_of_sleeves_process_is_what_limits_it() -> None:
    load = {"workload": "udp_rr", "clients": 64, "transactions": 40}
    hardware = {"cores": 16, "softirq_cores": 8}
    found = {
        name: simulate(cni=cni, proxy="none", traffic=load, hardware=hardware)
        for name, cni in (("sleeve", SLEEVE), ("fastdp", "weave"))
    }
    rate_per_s = {name: result.summary["throughput_per_s"] for name, result in found.items()}
    assert rate_per_s["sleeve"] < rate_per_s["fastdp"] / 5
    used = found["sleeve"].utilisation
    cores = used[(used["host"] == "node-1") & (used["kind"] == "application core")].set_index("number")["utilisation"]
    assert cores.idxmax() == 7, "the last core is the process's"
    assert cores[7] > 0.9
    assert cores.drop(7).max() < 0.5
