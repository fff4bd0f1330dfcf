"""Calico with VXLAN: hooks in order, and a tunnel that conntrack does not see."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.clusters import cluster_of, deploy, operations, rules
from tests.cni.test_hook_traversal import TOPOLOGY, converse
from tests.scenarios import simulate

if TYPE_CHECKING:
    from kubesim.kernel.walk import Path as WalkedPath

OUTER_OUTPUT = "nat/OUTPUT"


@pytest.fixture
def paths(tmp_path: Path) -> list[WalkedPath]:
    """Request, reply and second request to a Service whose endpoint is on the other node."""
    return converse(deploy(cluster_of(TOPOLOGY, tmp_path), "calico-vxlan", "iptables"), "10.96.0.21", 53)


def test_hooks_and_devices_in_order(paths: list[WalkedPath]) -> None:
    pods = {device: device[:5] for device in ("cali-default/p11", "cali-default/p21")}
    assert [
        (one.host, one.family, one.hook, pods.get(one.in_device or "", one.in_device), pods.get(one.out_device or "", one.out_device))
        for one in paths[0].hooks
    ] == [
        ("n1", "inet", "prerouting", "cali-", None),
        ("n1", "inet", "forward", "cali-", "vxlan.calico"),
        ("n1", "inet", "postrouting", "cali-", "vxlan.calico"),
        ("n1", "inet", "output", None, "eth0"),
        ("n1", "inet", "postrouting", "vxlan.calico", "eth0"),
        ("n2", "inet", "prerouting", "eth0", None),
        ("n2", "inet", "input", "eth0", None),
        ("n2", "inet", "prerouting", "vxlan.calico", None),
        ("n2", "inet", "forward", "vxlan.calico", "cali-"),
        ("n2", "inet", "postrouting", "vxlan.calico", "cali-"),
    ]  # fmt: skip
    assert paths[0].packet.destination == "10.244.2.21"
    assert paths[1].packet.source == "10.96.0.21", "the reply seems to come from the Service"


def test_conntrack_and_nat_pass_the_tunnel_over(paths: list[WalkedPath], tmp_path: Path) -> None:
    flannel = converse(deploy(cluster_of(TOPOLOGY, tmp_path), "flannel-vxlan", "iptables"), "10.96.0.21", 53)
    assert rules(flannel[0], "n1", OUTER_OUTPUT) > 0
    for path in paths:
        assert rules(path, "n1", OUTER_OUTPUT) == rules(path, "n2", OUTER_OUTPUT) == 0
    assert operations(paths[0])["conntrack_new"] == 2, "of the inner flow, one on each node"
    assert operations(flannel[0])["conntrack_new"] == 4


def test_new_flows_do_not_pay_for_services_a_second_time() -> None:
    first = {
        (cni, services): simulate(cni=cni, cluster={"services": services, "endpoints": 1}, traffic={"workload": "tcp_crr"})
        .summary["first_packet_rules"]
        for cni in ("calico-vxlan", "calico-bgp", "flannel-vxlan")
        for services in (100, 1000)
    }  # fmt: skip
    grown = {cni: first[cni, 1000] - first[cni, 100] for cni in ("calico-vxlan", "calico-bgp", "flannel-vxlan")}
    dispatch = 2 * 900 / 16
    assert grown["calico-vxlan"] == pytest.approx(grown["calico-bgp"], abs=1), "as without a tunnel"
    assert grown["flannel-vxlan"] > grown["calico-vxlan"] + 1800 - dispatch, "OUTPUT, and PREROUTING over there"


def test_it_has_a_port_for_each_flow_and_nothing_to_say_of_it() -> None:
    many = {"workload": "tcp_crr", "clients": 40, "connections": 20}
    assert any("source ports" in notice for notice in simulate(cni="flannel-vxlan", traffic=many).notices)
    assert not any("source ports" in notice for notice in simulate(cni="calico-vxlan", traffic=many).notices)


def test_names_numbers_and_mtu(tmp_path: Path) -> None:
    deployment = deploy(cluster_of(TOPOLOGY, tmp_path), "calico-vxlan", "none")
    tunnel = deployment.host("n1").root.devices["vxlan.calico"]
    assert (tunnel.mtu, deployment.cni.pod_mtu) == (1450, 1450)
    assert (getattr(tunnel, "port", None), getattr(tunnel, "vni", None)) == (4789, 4096)
