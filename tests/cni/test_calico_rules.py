"""Felix's chains: where they stand, what packets meet there, and that pods are alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubesim.cni import cni_names
from kubesim.kernel.netfilter.ruleset import RuleSet
from kubesim.kernel.packet import Packet
from kubesim.kernel.walk import Path as WalkedPath
from tests.clusters import ROUTED, cluster_of, converse, deploy, dump_of, operations, rules, send, sized_cluster
from tests.cni.test_hook_traversal import TOPOLOGY

CALICO = [name for name in cni_names() if name.startswith("calico")]


def jumps(text: str, table: str, base: str) -> list[str]:
    """Where rules of a base chain lead, in order."""
    lines = text.partition(f"*{table}\n")[2].partition("COMMIT")[0].splitlines()
    return [line.rpartition("-j ")[2].split()[0] for line in lines if line.startswith(f"-A {base} ")]


@pytest.mark.parametrize("cni", CALICO)
def test_they_stand_in_front_of_kube_proxys(cni: str) -> None:
    cluster = sized_cluster()
    saved = RuleSet.of(deploy(cluster, cni, "iptables").host("node-1").root).save()
    assert jumps(saved, "filter", "FORWARD")[:2] == ["cali-FORWARD", "KUBE-PROXY-FIREWALL"]
    assert jumps(saved, "filter", "FORWARD")[-2:] == ["ACCEPT", "MARK"], "behind all others'"
    assert jumps(saved, "nat", "PREROUTING") == ["cali-PREROUTING", "KUBE-SERVICES"]
    assert jumps(saved, "nat", "POSTROUTING") == ["cali-POSTROUTING", "KUBE-POSTROUTING"]
    assert jumps(saved, "raw", "PREROUTING") == ["cali-PREROUTING"]
    assert RuleSet.read(saved, "saved").save() == saved
    assert not RuleSet.read(saved, "saved").unmodelled()


def test_what_packets_meet(tmp_path: Path) -> None:
    """Counted by hand in the chains, for two nodes with so few pods that dispatch is one chain."""
    found = converse(
        deploy(cluster_of(TOPOLOGY, tmp_path), "calico-bgp", "none"), "10.244.1.11", "10.244.2.21", 5353, "udp"
    )
    sender = {place: rules(found.first, "n1", place) for place in ("raw/PREROUTING", "mangle/PREROUTING")}
    assert sender == {"raw/PREROUTING": 7, "mangle/PREROUTING": 5}
    assert rules(found.established, "n1", "mangle/PREROUTING") == 2, "the jump, and a rule that accepts"
    assert rules(found.first, "n1", "mangle/POSTROUTING") == 1 + 1, "the mark of the profile is there"
    dispatch = 2  # one rule for the other pod's digit, then the pod's
    jump_and_marks = 1 + 3
    accepted = 6 + 2 + 1  # the profile's chain is the sixth rule; it sets the mark and returns; then the return
    rest = 3 + 2  # to a pod, to a host endpoint, blocked ranges; what is appended to FORWARD
    assert rules(found.first, "n1", "filter/FORWARD") == jump_and_marks + dispatch + accepted + rest - 1
    assert rules(found.established, "n1", "filter/FORWARD") == jump_and_marks + dispatch + 1
    assert rules(found.established, "n1", "nat/PREROUTING") == 0
    assert operations(found.first)["route_lookup"] == 3 + operations(converse_plain(tmp_path))["route_lookup"] - 2


def converse_plain(tmp_path: Path) -> WalkedPath:
    """The first packet without the chains."""
    cluster = cluster_of(TOPOLOGY, tmp_path)
    return converse(deploy(cluster, ROUTED, "none"), "10.244.1.11", "10.244.2.21", 5353, "udp").first


def test_established_packets_never_reach_kube_forward() -> None:
    cluster = sized_cluster(services=2, endpoint_nodes=["node-2"])
    tested = {}
    for proxy in ("none", "iptables"):
        target = cluster.pod("svc-1-0").address
        found = converse(deploy(cluster, "calico-bgp", proxy), cluster.pod("client-1").address, target, 8080)
        tested[proxy] = rules(found.established, "node-1", "filter/FORWARD")
    assert tested["none"] == tested["iptables"]


@pytest.mark.parametrize("cni", CALICO)
@pytest.mark.parametrize("pods", [1, 40, 600])
def test_the_more_pods_the_longer_the_dispatch_and_all_are_alike(cni: str, pods: int) -> None:
    cluster = sized_cluster(services=1, endpoints=pods, endpoint_nodes=["node-2"])
    tested = set()
    for server in {0, pods // 2, pods - 1}:
        deployment = deploy(cluster, cni, "none")
        target = cluster.pod(f"svc-1-{server}").address
        found = converse(deployment, cluster.pod("client-1").address, target, 8080)
        tested.add(rules(found.established, "node-2", "filter/FORWARD"))
    to_pod = {1: 1, 40: 8 + 1 + 2, 600: 8 + 1 + 20}[pods]
    assert tested == {1 + 4 + to_pod + 1}, "jump, four rules, dispatch, the accepting rule"


def test_what_leaves_the_cluster_is_masqueraded() -> None:
    cluster = sized_cluster()
    packet = Packet(cluster.pod("client-1").address, "203.0.113.9", "udp", 40_000, 53, 16, is_opening=True)
    path = send(deploy(cluster, "calico-bgp", "none"), packet.source, packet)
    assert path.packet.source == cluster.node("node-1").address


@pytest.mark.parametrize(("cni", "device"), [("calico-ipip", "tunl0"), ("calico-vxlan", "vxlan.calico")])
def test_what_a_node_sends_through_the_tunnel_has_the_tunnels_address(cni: str, device: str) -> None:
    cluster = sized_cluster(endpoint_nodes=["node-2"])
    deployment = deploy(cluster, cni, "none")
    node, target = cluster.node("node-1"), cluster.pod("svc-1-0").address
    found = converse(deployment, node.address, target, 8080)
    assert found.first.packet.source == deployment.host("node-1").root.devices[device].addresses[0]
    assert found.reply is not None
    assert found.reply.packet.destination == node.address


def test_tunnel_packets_of_strangers_are_dropped() -> None:
    cluster = sized_cluster(endpoint_nodes=["node-2"])
    deployment = deploy(cluster, "calico-ipip", "none")
    stranger = deployment.host("node-2").root.ipsets["cali40all-hosts-net"]
    stranger.entries = frozenset({("192.168.0.99/32",)})
    path = converse(deployment, cluster.pod("client-1").address, cluster.pod("svc-1-0").address, 8080).first
    assert path.reason == "dropped by filter/INPUT of node-2: Drop IPIP packets from non-Calico hosts"


def test_they_run_on_the_same_iptables_as_kube_proxys() -> None:
    cluster = sized_cluster()
    root = deploy(cluster, "calico-bgp", "iptables", backend="nft").host("node-1").root
    assert {table.backend.rule for table in root.tables.values()} == {"iptables_nft_rule"}


def test_a_dump_is_in_place_of_them() -> None:
    cluster = sized_cluster()
    dumps = {node.name: dump_of(cluster, node) for node in cluster.nodes}
    saved = RuleSet.of(deploy(cluster, "calico-bgp", "dump", node_rules=dumps).host("node-1").root).save()
    assert jumps(saved, "filter", "FORWARD")[0] == "KUBE-PROXY-FIREWALL"


def test_they_can_be_left_out() -> None:
    assert not deploy(sized_cluster(), ROUTED, "none").host("node-1").root.tables
