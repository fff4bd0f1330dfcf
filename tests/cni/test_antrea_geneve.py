"""Antrea: hooks and devices in order, what the host's rules see and do not see, and when user space is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubesim.cluster import Cluster
from kubesim.cni import cni_class
from kubesim.errors import InputError
from kubesim.kernel.openvswitch import Datapath
from kubesim.kernel.packet import Packet
from kubesim.kernel.walk import Path as WalkedPath
from kubesim.proxy import proxy_class
from kubesim.scenario import trace
from kubesim.scenario.deployment import Deployment
from tests.clusters import NODE_CIDR, Conversation, cluster_of, converse, deploy, operations, send, sized_cluster
from tests.cni.test_hook_traversal import TOPOLOGY
from tests.scenarios import scenario

OUTER = [("n1", "output", "eth0"), ("n1", "postrouting", "eth0"), ("n2", "prerouting", "eth0"), ("n2", "input", "eth0")]
THROUGH_HOST = [
    ("n1", "prerouting", "antrea-gw0"), ("n1", "forward", "antrea-gw0"), ("n1", "postrouting", "antrea-gw0"),
]  # fmt: skip
BACK = [(node.translate(str.maketrans("12", "21")), hook, device) for node, hook, device in OUTER]


def antrea(cluster: Cluster, proxy: str = "iptables", **settings: Any) -> Deployment:
    """A cluster with settings of Antrea's own."""
    plugin, proxies = cni_class("antrea-geneve"), proxy_class(proxy)
    cni = plugin(cluster, plugin.settings_model(**settings), 1500)
    return Deployment(cluster, cni, proxies(cluster, proxies.settings_model()), NODE_CIDR, 1500)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return cluster_of(TOPOLOGY, tmp_path)


def hooks(path: WalkedPath | None) -> list[tuple[str, str, str | None]]:
    """Hooks with the device that a packet leaves by, or came by."""
    assert path is not None
    assert all(visit.family == "inet" for visit in path.hooks), "there is no Linux bridge"
    return [(visit.host, visit.hook, visit.out_device or visit.in_device) for visit in path.hooks]


def talk(deployment: Deployment, target: str, port: int) -> Conversation:
    return converse(deployment, "10.244.1.11", target, port, "udp", source_port=40_001)


def devices(path: WalkedPath, *wanted: str) -> list[tuple[str, str, str]]:
    """Some operations of a path with their places, in order."""
    return [(hop.host, hop.operation, hop.at) for hop in path.hops if hop.operation in wanted]


def test_pods_of_a_node_meet_no_hook(cluster: Cluster) -> None:
    found = talk(deploy(cluster, "antrea-geneve", "iptables"), "10.244.1.12", 5353)
    for path in (found.first, found.first_reply, found.established, found.reply):
        assert hooks(path) == []
    assert devices(found.first, "ovs_receive", "veth_transmit", "backlog") == [
        ("n1", "veth_transmit", "eth0"), ("n1", "backlog", "veth-default/p11"), ("n1", "ovs_receive", "veth-default/p11"),
        ("n1", "veth_transmit", "veth-default/p12"), ("n1", "backlog", "eth0"),
    ]  # fmt: skip


def test_between_nodes_the_hooks_see_the_outer_packet_only(cluster: Cluster) -> None:
    found = talk(deploy(cluster, "antrea-geneve", "iptables"), "10.244.2.21", 5353)
    assert hooks(found.first) == hooks(found.established) == OUTER
    assert hooks(found.first_reply) == hooks(found.reply) == BACK
    assert found.established is not None
    assert devices(found.established, "ovs_receive", "geneve_encapsulate", "geneve_decapsulate", "gro_cells") == [
        ("n1", "ovs_receive", "veth-default/p11"), ("n1", "geneve_encapsulate", "genev_sys_6081"),
        ("n2", "geneve_decapsulate", "genev_sys_6081"), ("n2", "gro_cells", "genev_sys_6081"),
        ("n2", "ovs_receive", "genev_sys_6081"),
    ]  # fmt: skip


def test_rules_for_services_do_not_slow_pods_down() -> None:
    """Neither the inner packet nor, as it is not tracked, the outer one meets a nat chain."""
    ways = []
    for services in (1, 300):
        cluster = sized_cluster(services=services, endpoints=1, endpoint_nodes=["node-2"])
        deployment = deploy(cluster, "antrea-geneve", "iptables")
        service = cluster.all_services[0]
        server = cluster.endpoints(service, service.ports[0])[0]
        found = converse(deployment, cluster.pod("client-1").address, server.address, server.port)
        assert not any(place.startswith("nat/") for _, place in found.first.rules_tested)
        ways.append((found.first.rules_tested, operations(found.first)))
        for node in ("node-1", "node-2"):
            conntrack = deployment.host(node).root.conntrack
            assert conntrack is not None
            assert len(conntrack) == 0
    assert ways[0] == ways[1]


def test_to_a_service_pods_go_through_the_host(cluster: Cluster) -> None:
    found = talk(deploy(cluster, "antrea-geneve", "iptables"), "10.96.0.21", 53)
    assert hooks(found.first) == [*THROUGH_HOST, *OUTER]
    assert hooks(found.first_reply) == [*BACK, *THROUGH_HOST], "the host translates back"
    assert hooks(found.established) == [*THROUGH_HOST, *OUTER]
    assert found.first_reply is not None
    assert found.first_reply.packet.source == "10.96.0.21"


def test_and_so_they_do_to_one_on_the_same_node(cluster: Cluster) -> None:
    found = talk(deploy(cluster, "antrea-geneve", "nftables"), "10.96.0.11", 53)
    assert hooks(found.first) == hooks(found.reply) == THROUGH_HOST


def test_ipvs_takes_them_at_input(cluster: Cluster) -> None:
    first = talk(deploy(cluster, "antrea-geneve", "ipvs"), "10.96.0.21", 53).first
    assert [hook for _, hook, _ in hooks(first)][:4] == ["prerouting", "input", "output", "postrouting"]
    assert hooks(first)[4:] == OUTER


def test_a_process_of_the_node_is_seen_as_its_gateway(cluster: Cluster) -> None:
    deployment = deploy(cluster, "antrea-geneve", "none")
    found = converse(deployment, "192.168.0.11", "10.244.2.21", 5353, "udp")
    assert found.first.packet.source == "10.244.1.1", "masqueraded: the address is the host's, but not the device's"
    assert hooks(found.first)[:2] == [("n1", "output", "antrea-gw0"), ("n1", "postrouting", "antrea-gw0")]
    assert hooks(found.first)[2:] == OUTER
    assert found.reply is not None
    assert found.reply.packet.destination == "192.168.0.11"
    local = converse(deployment, "192.168.0.11", "10.244.1.11", 5353, "udp")
    assert hooks(local.first) == [("n1", "output", "antrea-gw0"), ("n1", "postrouting", "antrea-gw0")]


def test_out_of_the_cluster_pods_are_masqueraded(cluster: Cluster) -> None:
    deployment = deploy(cluster, "antrea-geneve", "iptables")
    path = send(deployment, "10.244.1.11", Packet("10.244.1.11", "8.8.8.8", "udp", 40_000, 53, 16))
    assert "is not in the cluster" in str(path.reason)
    assert path.packet.source == "192.168.0.11"


def test_nobody_has_the_address(cluster: Cluster) -> None:
    deployment = deploy(cluster, "antrea-geneve", "none")
    path = send(deployment, "192.168.0.12", Packet("192.168.0.12", "10.244.1.77", "udp", 40_000, 53, 16))
    assert path.reason == "no pod of n1 has the address 10.244.1.77"


@pytest.mark.parametrize(("option_bytes", "pod_mtu"), [(0, 1450), (8, 1442)])
def test_headers_and_mtu(cluster: Cluster, option_bytes: int, pod_mtu: int) -> None:
    deployment = antrea(cluster, option_bytes=option_bytes)
    assert deployment.cni.pod_mtu == pod_mtu
    packet = Packet("10.244.1.11", "10.244.2.21", "udp", 40_000, 5353, 1000)
    sizes = {hop.operation: hop.size_bytes for hop in send(deployment, "10.244.1.11", packet).hops}
    assert sizes["nic_serialise"] == 20 + 14 + 50 + option_bytes + 20 + 8 + 1000 + 4
    longest = Packet("10.244.1.11", "10.244.2.21", "udp", 40_000, 5353, pod_mtu - 28)
    assert send(deployment, "10.244.1.11", longest).reason is None


def upcalls(path: WalkedPath | None) -> list[str]:
    """Hosts whose user space was asked."""
    assert path is not None
    return [hop.host for hop in path.hops if hop.operation == "ovs_upcall"]


def test_user_space_is_asked_once_for_each_kind_of_packet(cluster: Cluster) -> None:
    deployment = deploy(cluster, "antrea-geneve", "none")
    found = talk(deployment, "10.244.2.21", 5353)
    assert upcalls(found.first) == ["n1"] * 3 + ["n2"] * 3, "before ct(), behind it, and behind the commit"
    assert upcalls(found.first_reply) == ["n2"] * 2 + ["n1"] * 2, "nothing came this way yet"
    assert upcalls(found.established) == ["n1", "n2"], "known connections are new to it"
    assert upcalls(found.reply) == []
    again = converse(deployment, "10.244.1.11", "10.244.2.21", 99, "udp", source_port=7)
    for path in (again.first, again.first_reply, again.established, again.reply):
        assert upcalls(path) == [], "ports are wildcarded: another connection finds all there"


def test_trace_shows_what_most_connections_meet() -> None:
    def asked(**settings: Any) -> int:
        traced = trace(scenario(cni={"name": "antrea-geneve", **settings}), "client-1", "svc-01")
        return sum(one.hop.operation == "ovs_upcall" for packet in traced.packets for one in packet.hops)

    assert asked() == asked(upcall_ratio=0.4) == 0
    assert asked(upcall_ratio=1.0) > 10


def test_antrea_proxy_leaves_the_host_out(cluster: Cluster) -> None:
    found = talk(antrea(cluster, antrea_proxy=True), "10.96.0.21", 53)
    assert hooks(found.first) == hooks(found.established) == OUTER
    assert hooks(found.first_reply) == BACK
    assert found.first.packet.destination == "10.244.2.21"
    assert found.first.packet.destination_port == 5353
    assert found.first_reply is not None
    assert found.reply is not None
    assert found.first_reply.packet.source == found.reply.packet.source == "10.96.0.21"
    assert operations(found.first)["ovs_flow_lookup"] == 4 + 3, "the group, and its bucket, are looked up too"
    assert operations(found.established)["ovs_flow_lookup"] == 2 + 2


def test_antrea_proxy_spreads_connections() -> None:
    cluster = sized_cluster(services=1, endpoints=4)
    deployment = antrea(cluster, antrea_proxy=True)
    service = cluster.service("svc-1")
    servers = sorted(one.address for one in cluster.endpoints(service, service.ports[0]))
    client = cluster.pod("client-1").address
    chosen = [
        converse(deployment, client, str(service.cluster_ip), 80, luck=luck, source_port=port).first.packet.destination
        for port, luck in enumerate((0.1, 0.3, 0.6, 0.9), start=1000)
    ]
    assert sorted(chosen) == servers


def test_a_pod_that_calls_itself_through_antrea_proxy() -> None:
    cluster = sized_cluster(services=1, endpoints=1, endpoint_nodes=["node-1"])
    server = cluster.pod("svc-1-0").address
    address = str(cluster.service("svc-1").cluster_ip)
    found = converse(antrea(cluster, antrea_proxy=True), server, address, 80)
    assert found.first.packet.source == "169.254.0.253", "it must not answer itself past Open vSwitch"
    assert found.first.packet.destination == server
    for reply in (found.first_reply, found.reply):
        assert reply is not None
        assert (reply.packet.source, reply.packet.destination, reply.delivered_to) == (
            address,
            server,
            "default/svc-1-0",
        )


def test_antrea_proxy_refuses_where_nobody_serves() -> None:
    cluster = sized_cluster(services=1, endpoints=0)
    deployment = antrea(cluster, antrea_proxy=True)
    path = converse(deployment, cluster.pod("client-1").address, str(cluster.service("svc-1").cluster_ip), 80).first
    assert "connection refused" in str(path.reason)


def test_antrea_proxy_does_not_learn_clients(tmp_path: Path) -> None:
    sticky = TOPOLOGY.replace(
        "spec: {clusterIP: 10.96.0.11,", "spec: {sessionAffinity: ClientIP, clusterIP: 10.96.0.11,"
    )
    cluster = cluster_of(sticky, tmp_path)
    with pytest.raises(InputError, match="Service default/local has sessionAffinity ClientIP"):
        antrea(cluster, antrea_proxy=True)
    assert talk(antrea(cluster), "10.96.0.11", 53).reply is not None


def test_each_node_has_one_datapath(cluster: Cluster) -> None:
    deployment = deploy(cluster, "antrea-geneve", "none")
    deployment.namespace(cluster.pod("p11"))
    datapath = deployment.host("n1").root.datapath
    assert isinstance(datapath, Datapath)
    assert sorted(datapath.ports) == ["antrea-gw0", "genev_sys_6081", "veth-default/p11"]


@pytest.mark.parametrize("target", ["10.244.2.21", "10.96.0.21"])
def test_with_encryption_packets_pass_the_host_and_wireguard(cluster: Cluster, target: str) -> None:
    deployment = antrea(cluster, encryption="wireguard")
    assert deployment.cni.pod_mtu == 1420
    found = talk(deployment, target, 53 if target.startswith("10.96") else 5353)
    assert hooks(found.first) == [
        ("n1", "prerouting", "antrea-gw0"), ("n1", "forward", "antrea-wg0"), ("n1", "postrouting", "antrea-wg0"),
        *OUTER,
        ("n2", "prerouting", "antrea-wg0"), ("n2", "forward", "antrea-gw0"), ("n2", "postrouting", "antrea-gw0"),
    ]  # fmt: skip
    assert found.first.packet.source == "10.244.1.11", "nobody translates it"
    assert found.reply is not None
    assert found.reply.packet.source == target
    assert found.reply.delivered_to == "default/p11"
    assert "geneve_encapsulate" not in operations(found.first)
    near = talk(deployment, "10.244.1.12", 5353)
    assert hooks(near.first) == []
