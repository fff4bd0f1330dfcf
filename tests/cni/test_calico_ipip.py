"""Calico with IPIP: hooks in order, sizes, and the one connection that a tunnel is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from kubesim.cni import cni_class
from kubesim.cni.calico_ipip import Settings
from kubesim.kernel.packet import Packet
from kubesim.proxy import proxy_class
from kubesim.scenario.deployment import Deployment
from tests.clusters import ROUTED, cluster_of, deploy, rules, send
from tests.cni.test_hook_traversal import TOPOLOGY, converse
from tests.scenarios import simulate

if TYPE_CHECKING:
    from kubesim.kernel.walk import Path as WalkedPath


@pytest.fixture
def paths(tmp_path: Path) -> list[WalkedPath]:
    """Request, reply and second request to a Service whose endpoint is on the other node."""
    return converse(deploy(cluster_of(TOPOLOGY, tmp_path), "calico-ipip", "iptables"), "10.96.0.21", 53)


def test_it_passes_netfilter_twice_on_each_node(paths: list[WalkedPath]) -> None:
    assert all(visit.family == "inet" for visit in paths[0].hooks), "there is no bridge"
    assert [(visit.host, visit.hook) for visit in paths[0].hooks] == [
        ("n1", "prerouting"), ("n1", "forward"), ("n1", "postrouting"), ("n1", "output"), ("n1", "postrouting"),
        ("n2", "prerouting"), ("n2", "input"), ("n2", "prerouting"), ("n2", "forward"), ("n2", "postrouting"),
    ]  # fmt: skip
    assert [visit.out_device for visit in paths[0].hooks if visit.hook == "postrouting"][:2] == ["tunl0", "eth0"]
    assert paths[0].packet.destination == "10.244.2.21"
    assert paths[1].packet.source == "10.96.0.21", "the reply seems to come from the Service"


def test_the_tunnel_is_one_connection_for_both_directions(paths: list[WalkedPath]) -> None:
    first, reply, second = paths
    assert rules(first, "n1", "nat/OUTPUT") > 0
    assert rules(reply, "n2", "nat/OUTPUT") == 0, "conntrack knows it from the other side"
    assert rules(second, "n1", "nat/OUTPUT") == 0


def test_new_flows_find_it_there() -> None:
    crr = {"workload": "tcp_crr", "connections": 50}
    one = {"services": 1000, "endpoint_nodes": ["node-2"]}
    cpu = [
        simulate(cni=cni, proxy="iptables", cluster=one, traffic=crr).summary["cpu_ns_per_transaction"]
        for cni in (ROUTED, {**ROUTED, "name": "calico-ipip"}, "flannel-vxlan")
    ]
    assert cpu[0] < cpu[1] < cpu[2] - 5000, "two chains of 1000 rules less"


def receiving_cores(cni: str) -> set[int]:
    """Which softirq cores of the server's node take requests of 40 connections."""
    result = simulate(
        cni=cni,
        proxy="none",
        cluster={"endpoint_nodes": ["node-2"]},
        hardware={"cores": 16, "softirq_cores": 8},
        traffic={"workload": "tcp_rr", "clients": 40, "transactions": 80},
    )
    stations = result.planned.stations.all
    used = {stations[number] for number in set(result.planned.plan.station.ravel().tolist()) if number >= 0}
    return {one.number for one in used if (one.host, one.kind) == ("node-2", "softirq core")}


def test_two_nodes_share_one_receive_queue() -> None:
    assert len(receiving_cores("calico-ipip")) <= 2, "one for requests, and one for what is sent back"
    assert len(receiving_cores("flannel-vxlan")) > 4


def test_headers_and_mtu(tmp_path: Path) -> None:
    deployment = deploy(cluster_of(TOPOLOGY, tmp_path), "calico-ipip", "none")
    assert deployment.cni.pod_mtu == 1480
    packet = Packet("10.244.1.11", "10.244.2.21", "udp", 40_000, 5353, 1000)
    sizes = {hop.operation: hop.size_bytes for hop in send(deployment, "10.244.1.11", packet).hops}
    assert sizes["nic_serialise"] == 20 + 14 + 20 + 20 + 8 + 1000 + 4


def test_nodes_of_one_network_need_no_tunnel(tmp_path: Path) -> None:
    cluster = cluster_of(TOPOLOGY, tmp_path)
    plugin = cni_class("calico-ipip")(cluster, Settings(ipip_mode="CrossSubnet"), 1500)
    deployment = Deployment(cluster, plugin, proxy_class("none")(cluster, None), "192.168.0.0/24", 1500)
    path = send(deployment, "10.244.1.11", Packet("10.244.1.11", "10.244.2.21", "udp", 40_000, 5353, 16))
    assert "ipip_encapsulate" not in {hop.operation for hop in path.hops}
    assert path.packet.destination == "10.244.2.21"
