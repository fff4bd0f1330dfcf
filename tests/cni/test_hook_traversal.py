"""The order of netfilter hooks, and rules tested, against what a real kernel showed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kubesim.kernel.packet import Packet
from tests.clusters import cluster_of, deploy, rules, send

if TYPE_CHECKING:
    from kubesim.kernel.walk import HookVisit
    from kubesim.kernel.walk import Path as WalkedPath
    from kubesim.scenario.deployment import Deployment

TOPOLOGY = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDR: 10.244.1.0/24},
   status: {addresses: [{type: InternalIP, address: 192.168.0.11}]}}
- {apiVersion: v1, kind: Node, metadata: {name: n2}, spec: {podCIDR: 10.244.2.0/24},
   status: {addresses: [{type: InternalIP, address: 192.168.0.12}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: p11}, spec: {nodeName: n1, containers: []}, status: {podIP: 10.244.1.11}}
- {apiVersion: v1, kind: Pod, metadata: {name: p12}, spec: {nodeName: n1, containers: []}, status: {podIP: 10.244.1.12}}
- {apiVersion: v1, kind: Pod, metadata: {name: p21}, spec: {nodeName: n2, containers: []}, status: {podIP: 10.244.2.21}}
- apiVersion: v1
  kind: Service
  metadata: {name: local}
  spec: {clusterIP: 10.96.0.11, ports: [{port: 53, targetPort: 5353, protocol: UDP}]}
- apiVersion: v1
  kind: Service
  metadata: {name: remote}
  spec: {clusterIP: 10.96.0.21, ports: [{port: 53, targetPort: 5353, protocol: UDP}]}
- apiVersion: v1
  kind: Service
  metadata: {name: remotelocal}
  spec: {clusterIP: 10.96.0.31, ports: [{port: 53, targetPort: 5353, protocol: UDP}]}
- {apiVersion: v1, kind: Endpoints, metadata: {name: local},
   subsets: [{addresses: [{ip: 10.244.1.12, nodeName: n1}], ports: [{port: 5353, protocol: UDP}]}]}
- {apiVersion: v1, kind: Endpoints, metadata: {name: remote},
   subsets: [{addresses: [{ip: 10.244.2.21, nodeName: n2}], ports: [{port: 5353, protocol: UDP}]}]}
- {apiVersion: v1, kind: Endpoints, metadata: {name: remotelocal},
   subsets: [{addresses: [{ip: 10.244.2.21, nodeName: n2}], ports: [{port: 5353, protocol: UDP}]}]}
"""

SCENARIOS = {
    "pod to pod, same node, bridge CNI, bridge-nf-call-iptables=1": ("flannel-host-gw", "10.244.1.12", 5353),
    "pod to pod, cross node, host-gw, bridge CNI": ("flannel-host-gw", "10.244.2.21", 5353),
    "pod to pod, cross node, flannel VXLAN, bridge CNI": ("flannel-vxlan", "10.244.2.21", 5353),
    "pod to ClusterIP, endpoint on same node, bridge CNI": ("flannel-host-gw", "10.96.0.11", 53),
}

NODE_PORT_RULES = 3
"""Rules of the measured node's NodePorts, which kubesim does not write yet, at nat PREROUTING for its own addresses."""


@pytest.fixture(params=sorted({cni for cni, _, _ in SCENARIOS.values()}))
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Deployment:
    """The measured topology."""
    return deploy(cluster_of(TOPOLOGY, tmp_path), request.param, "iptables")


def converse(deployment: Deployment, target: str, port: int) -> list[WalkedPath]:
    """Request, reply and second request, of 16 bytes each, as they were measured."""
    paths: list[WalkedPath] = []
    for _ in range(2):
        request = Packet("10.244.1.11", target, "udp", 40_001, port, 16, is_opening=not paths)
        paths.append(send(deployment, "10.244.1.11", request))
        arrived = paths[-1].packet.flow.reversed()
        paths.append(send(deployment, arrived.source, Packet(*arrived, payload_bytes=16)))
    return paths[:3]


def seen(visits: list[HookVisit]) -> list[tuple[str, str, str | None, str | None]]:
    """Hooks in order, with the names of devices that both worlds share; ports of the bridge are named by the plugin."""
    return [(v.family, v.hook, shared(v.in_device), shared(v.out_device)) for v in visits]


def shared(device: str | None) -> str | None:
    """A device's name, or ``veth``."""
    return "veth" if device is not None and device.startswith("veth") else device


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_hooks_and_rules_are_those_of_a_real_kernel(name: str, shared_data: Path, tmp_path: Path) -> None:
    measured = json.loads((shared_data / "hook-traversal.json").read_text())
    scenario = next(one for one in measured["scenarios"] if one["scenario"] == name)
    cni, target, port = SCENARIOS[name]
    paths = converse(deploy(cluster_of(TOPOLOGY, tmp_path), cni, "iptables"), target, port)
    for step, path in zip(scenario["steps"], paths, strict=True):
        for node, found in step["nodes"].items():
            expected = [
                (hook["family"], hook["hook"], shared(hook["iif"]), shared(hook["oif"])) for hook in found["hookTrace"]
            ]
            visits = [visit for visit in path.hooks if visit.host == node]
            assert seen(visits) == expected, (step["packet"], node)
            _compare_rules(path, node, found.get("iptables", {}), step["packet"])


def _compare_rules(path: WalkedPath, node: str, measured: dict[str, Any], packet: str) -> None:
    """Rules tested, where the kernel's counters tell walks apart and do not count rules of NodePorts."""
    for place, counts in measured.items():
        if counts.get("traversedMoreThanOnce") or counts.get("sharedWithInner"):
            continue  # one counter for the inner and the outer packet
        tested = rules(path, node, place.replace(" ", "/"))
        evaluated = counts["rulesEvaluated"]
        if place == "nat PREROUTING" and "KUBE-SERVICES[4]" in counts["matched"]:
            evaluated -= NODE_PORT_RULES
        is_gated_by_new = packet.startswith("request #1") or place == "filter INPUT"
        if node == "n1" and is_gated_by_new and place in ("filter FORWARD", "filter INPUT"):
            # A Service with externalTrafficPolicy Local has a rule in KUBE-EXTERNAL-SERVICES where it has no endpoint.
            evaluated -= 1
        assert tested == evaluated, (packet, node, place)


def test_vxlan_passes_netfilter_twice_on_each_node(tmp_path: Path) -> None:
    first, reply, second = converse(
        deploy(cluster_of(TOPOLOGY, tmp_path), "flannel-vxlan", "iptables"), "10.244.2.21", 53
    )
    of_ip = [visit for visit in first.hooks if visit.family == "inet"]
    assert [(visit.host, visit.hook, visit.out_device or visit.in_device) for visit in of_ip] == [
        ("n1", "prerouting", "cni0"), ("n1", "forward", "flannel.1"), ("n1", "postrouting", "flannel.1"),
        ("n1", "output", "eth0"), ("n1", "postrouting", "eth0"),
        ("n2", "prerouting", "eth0"), ("n2", "input", "eth0"),
        ("n2", "prerouting", "flannel.1"), ("n2", "forward", "cni0"), ("n2", "postrouting", "cni0"),
    ]  # fmt: skip
    assert rules(second, "n1", "filter/FORWARD") == 5
    assert rules(second, "n1", "filter/OUTPUT") == 4, "the tunnel's packets stay NEW for ever"
    assert rules(second, "n2", "filter/INPUT") == 5
    assert rules(second, "n1", "nat/OUTPUT") == 0, "but nat chains are walked once"
    assert rules(reply, "n2", "nat/OUTPUT") == 5, "the other direction of a tunnel is a connection of its own"
    assert rules(reply, "n2", "nat/POSTROUTING") == 9


def test_both_directions_of_a_flow_leave_the_tunnel_from_one_port(tmp_path: Path) -> None:
    deployment = deploy(cluster_of(TOPOLOGY, tmp_path), "flannel-vxlan", "iptables")
    converse(deployment, "10.244.2.21", 53)
    for name in ("n1", "n2"):
        conntrack = deployment.host(name).root.conntrack
        assert conntrack is not None
        outer = [entry for entry in conntrack.connections() if entry.original.destination_port == 8472]
        assert len(outer) == 2
        assert {entry.original.source for entry in outer} == {"192.168.0.11", "192.168.0.12"}
        assert len({entry.original.source_port for entry in outer}) == 1
        assert not any(entry.has_reply for entry in outer)


def test_the_topology_comes_up_under_both_back_ends(deployment: Deployment) -> None:
    assert all(path.reason is None for path in converse(deployment, "10.96.0.21", 53))
