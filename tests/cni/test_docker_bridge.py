"""Docker's network: one node, its own chains, and what a bridge without iptables breaks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kubesim.errors import InputError
from kubesim.kernel.netfilter.ruleset import RuleSet
from kubesim.kernel.packet import Packet
from tests.clusters import Conversation, converse, deploy, rules, send, sized_cluster
from tests.cni.test_hook_traversal import shared
from tests.scenarios import simulate

if TYPE_CHECKING:
    from kubesim.scenario.deployment import Deployment


def one_node(proxy: str = "none", **settings: Any) -> Deployment:
    """A node with docker0, a client, and two Services."""
    return deploy(sized_cluster(services=2, nodes=1), {"name": "docker-bridge", **settings}, proxy)


def between_pods(deployment: Deployment) -> Conversation:
    """From the client to a pod beside it."""
    cluster = deployment.cluster
    return converse(deployment, cluster.pod("client-1").address, cluster.pod("svc-1-0").address, 8080, "udp")


def seen(found: Conversation) -> list[tuple[str, str, str | None, str | None]]:
    """Hooks of the first packet, with ``veth`` for every port."""
    return [(one.family, one.hook, shared(one.in_device), shared(one.out_device)) for one in found.first.hooks]


def test_hooks_and_devices_in_order() -> None:
    assert seen(between_pods(one_node())) == [
        ("bridge", "br_prerouting", "veth", None),
        ("inet", "prerouting", "docker0", None),
        ("bridge", "br_forward", "veth", "veth"),
        ("inet", "forward", "docker0", "docker0"),
        ("bridge", "br_postrouting", None, "veth"),
        ("inet", "postrouting", None, "docker0"),
    ]


def test_without_bridge_nf_call_iptables_only_the_bridge_sees_it() -> None:
    found = between_pods(one_node(bridge_nf_call_iptables=False))
    assert seen(found) == [
        ("bridge", "br_prerouting", "veth", None),
        ("bridge", "br_forward", "veth", "veth"),
        ("bridge", "br_postrouting", None, "veth"),
    ]
    assert found.first.rules_tested == {}
    assert found.first.reason is None


def test_rules_tested_in_dockers_chains() -> None:
    found = between_pods(one_node())
    forward = "filter/FORWARD"
    first = 2 + 1 + 1 + 1 + 1 + 2  # USER, FORWARD; CT's rule; ISOLATION's; BRIDGE's and DOCKER's; the jumps on the way
    assert rules(found.first, "node-1", forward) == first + 2, "and the last one, which accepts what docker0 sends"
    assert rules(found.established, "node-1", forward) == 4, "conntrack knows it: DOCKER-CT accepts"


def test_rules_can_be_read_again_and_forward_drops() -> None:
    saved = RuleSet.of(one_node("iptables").host("node-1").root).save()
    assert RuleSet.read(saved, "saved").save() == saved
    assert ":FORWARD DROP" in saved
    assert "-A POSTROUTING -s 10.244.0.0/24 ! -o docker0 -j MASQUERADE" in saved


def test_what_leaves_has_the_nodes_address() -> None:
    deployment = one_node()
    client = deployment.cluster.pod("client-1").address
    packet = Packet(client, "203.0.113.9", "udp", 40_000, 53, 16, is_opening=True)
    assert send(deployment, client, packet).packet.source == deployment.cluster.node("node-1").address


def test_several_nodes_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"^cni: docker-bridge joins containers of one node only, and cluster.nodes is 2"
    ):
        simulate(cni="docker-bridge")


def test_it_runs() -> None:
    summary = simulate(cni="docker-bridge", cluster={"nodes": 1, "endpoint_nodes": ["node-1"]}).summary
    assert summary["transactions"] > 0
    assert summary["refused_flows"] == 0
