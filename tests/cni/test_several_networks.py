"""Nodes on several layer-2 networks: who tunnels, who does not, and who cannot do without one network."""

from __future__ import annotations

from typing import Any

import pytest

from kubesim.cluster import Cluster
from kubesim.errors import InputError
from kubesim.twin.wires import twin_deployment
from tests.clusters import Conversation, cluster_of, converse, deploy, operations, sized_cluster
from tests.scenarios import scenario, simulate

TUNNELS: dict[str, tuple[dict[str, Any], str]] = {
    "flannel-vxlan": ({"direct_routing": True}, "vxlan_encapsulate"),
    "calico-ipip": ({"ipip_mode": "CrossSubnet"}, "ipip_encapsulate"),
    "calico-vxlan": ({"vxlan_mode": "CrossSubnet"}, "vxlan_encapsulate"),
}


def cluster(**spec: Any) -> Cluster:
    """Three nodes on two networks: the first and the third share one."""
    wanted = {"nodes": 3, "node_subnets": 2, "clients": ("node-1", "node-2", "node-3"), "endpoint_nodes": ["node-1"]}
    return sized_cluster(services=1, **{**wanted, **spec})


def call(cni: str, settings: dict[str, Any], client: str) -> Conversation:
    """From a client to the Service's pod on the first node."""
    there = cluster()
    return converse(
        deploy(there, {"name": cni, **settings}, "iptables"),
        there.pod(client).address,
        str(there.service("svc-1").cluster_ip),
        80,
    )


def test_nodes_are_dealt_over_networks() -> None:
    found = [(node.address, node.subnet) for node in cluster().nodes]
    assert found == [
        ("192.168.0.11", "192.168.0.0/17"), ("192.168.128.11", "192.168.128.0/17"), ("192.168.0.12", "192.168.0.0/17"),
    ]  # fmt: skip
    assert {node.subnet for node in cluster(node_subnets=1).nodes} == {None}


@pytest.mark.parametrize("cni", sorted(TUNNELS))
def test_only_packets_to_other_networks_are_wrapped(cni: str) -> None:
    settings, wrapping = TUNNELS[cni]
    for client, is_wrapped in (("client-2", True), ("client-3", False)):
        found = call(cni, settings, client)
        for path in (found.first, found.first_reply, found.established, found.reply):
            assert path is not None
            assert path.reason is None
            assert (wrapping in operations(path)) is is_wrapped
            assert operations(path)["wire"] == (2 if is_wrapped else 1), "the router is one more"
    assert wrapping in operations(call(cni, {}, "client-3").first), "by default all are"


@pytest.mark.parametrize("cni", sorted(TUNNELS))
def test_direct_packets_pass_netfilter_once(cni: str) -> None:
    settings, _ = TUNNELS[cni]
    path = call(cni, settings, "client-3").first
    hooks = [
        (one.host, one.hook, one.out_device) for one in path.hooks if one.family == "inet" and one.host == "node-3"
    ]
    assert hooks == [("node-3", "prerouting", None), ("node-3", "forward", "eth0"), ("node-3", "postrouting", "eth0")]


@pytest.mark.parametrize("cni", ["flannel-host-gw", "calico-bgp"])
def test_those_without_a_tunnel_need_one_network(cni: str) -> None:
    with pytest.raises(InputError, match=rf"^cni: {cni} sends pods' packets .* and cluster.node_subnets is 2: take "):
        deploy(cluster(), cni, "none")


def test_a_wire_more_is_waited_for() -> None:
    near, far = (
        simulate(cni="flannel-vxlan", proxy="none", cluster={"node_subnets": networks}).summary["latency_p50_ns"]
        for networks in (1, 2)
    )
    assert far == near + 2 * 1500


def test_who_is_nowhere_is_not_reached_through_the_router() -> None:
    there = cluster()
    path = converse(deploy(there, "flannel-vxlan", "none"), there.node("node-1").address, "192.168.128.77", 80).first
    assert path.reason == "192.168.128.77 is not in the cluster: the packet leaves through 192.168.0.1"


def test_a_twin_has_no_router() -> None:
    with pytest.raises(InputError, match=r"^cluster.node_subnets: a twin has no router between networks: give it 1$"):
        twin_deployment(scenario(cluster={"node_subnets": 2}))


NODE = """
apiVersion: v1
kind: Node
metadata: {name: far}
status: {addresses: [{type: InternalIP, address: 10.1.1.1}]}
"""


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"nodes": 1, "node_subnets": 2}, "cluster.node_subnets is 2, but there are 1 node"),
        (
            {"node_subnets": 2, "nodes": 2, "node_cidr": "192.168.0.0/28"},
            "cluster.node_cidr: 192.168.0.0/28 is too small",
        ),
    ],
)
def test_what_cannot_be_dealt_is_refused(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sized_cluster(clients=(), **spec)


def test_a_given_address_must_be_on_one_of_the_networks(tmp_path: Any) -> None:
    with pytest.raises(InputError, match=r"^Node far has the address 10.1.1.1, which is not in 192.168.0.0/17 or "):
        cluster_of(NODE, tmp_path, nodes=2, node_subnets=2)
