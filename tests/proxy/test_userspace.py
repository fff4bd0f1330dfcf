"""kube-proxy's userspace mode: packets that go through a process."""

from __future__ import annotations

from pathlib import Path as File
from typing import TYPE_CHECKING

import pytest

from kubesim.cluster import ClusterSpec, PlannedPod, build_cluster
from kubesim.errors import InputError
from kubesim.kernel.netfilter.ruleset import RuleSet
from kubesim.proxy.userspace import Plugin, Settings
from tests.clusters import ROUTED, cluster_of, converse, deploy, rules, sized_cluster
from tests.scenarios import simulate

if TYPE_CHECKING:
    from kubesim.cluster import Cluster
    from kubesim.kernel.walk import Path

MANIFEST = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDR: 10.244.1.0/24},
   status: {addresses: [{type: InternalIP, address: 192.168.0.11}]}}
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: default}
  spec:
    clusterIP: 10.96.0.10
    type: LoadBalancer
    externalIPs: [203.0.113.7]
    sessionAffinity: ClientIP
    ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]
  status: {loadBalancer: {ingress: [{ip: 198.51.100.4}]}}
- apiVersion: v1
  kind: Service
  metadata: {name: dns, namespace: default}
  spec: {clusterIP: 10.96.0.2, ports: [{port: 53, protocol: UDP}]}
"""

NAT_RULES = """
-A PREROUTING -m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -j KUBE-PORTALS-CONTAINER
-A PREROUTING -m addrtype --dst-type LOCAL -m comment --comment "handle service NodePorts; NOTE: this must be the last rule in the chain" -j KUBE-NODEPORT-CONTAINER
-A OUTPUT -m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" -j KUBE-PORTALS-HOST
-A OUTPUT -m addrtype --dst-type LOCAL -m comment --comment "handle service NodePorts; NOTE: this must be the last rule in the chain" -j KUBE-NODEPORT-HOST
-A KUBE-NODEPORT-CONTAINER -p tcp -m comment --comment "default/web:http" -m tcp --dport 30080 -j REDIRECT --to-ports 32769
-A KUBE-NODEPORT-HOST -p tcp -m comment --comment "default/web:http" -m tcp --dport 30080 -j DNAT --to-destination 192.168.0.11:32769
-A KUBE-PORTALS-CONTAINER -d 10.96.0.2/32 -p udp -m comment --comment "default/dns" -m udp --dport 53 -j REDIRECT --to-ports 32768
-A KUBE-PORTALS-CONTAINER -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 32769
-A KUBE-PORTALS-CONTAINER -d 198.51.100.4/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j REDIRECT --to-ports 32769
-A KUBE-PORTALS-CONTAINER -d 203.0.113.7/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -m physdev ! --physdev-is-in -j REDIRECT --to-ports 32769
-A KUBE-PORTALS-CONTAINER -d 203.0.113.7/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -m addrtype --dst-type LOCAL -j REDIRECT --to-ports 32769
-A KUBE-PORTALS-HOST -d 10.96.0.2/32 -p udp -m comment --comment "default/dns" -m udp --dport 53 -j DNAT --to-destination 192.168.0.11:32768
-A KUBE-PORTALS-HOST -d 10.96.0.10/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j DNAT --to-destination 192.168.0.11:32769
-A KUBE-PORTALS-HOST -d 198.51.100.4/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -j DNAT --to-destination 192.168.0.11:32769
-A KUBE-PORTALS-HOST -d 203.0.113.7/32 -p tcp -m comment --comment "default/web:http" -m tcp --dport 80 -m addrtype --dst-type LOCAL -j DNAT --to-destination 192.168.0.11:32769
"""


def hooks(path: Path | None) -> list[tuple[str, str, str | None, str | None]]:
    """Hooks of the IP layer that a packet passed, with devices, in order."""
    assert path is not None
    return [(one.host, one.hook, one.in_device, one.out_device) for one in path.hooks if one.family == "inet"]


def plugin(cluster: Cluster) -> Plugin:
    return Plugin(cluster, Settings())


def test_rules_of_every_kind_of_address(tmp_path: File) -> None:
    cluster = cluster_of(MANIFEST, tmp_path)
    saved = plugin(cluster).text(cluster.nodes[0], "save", "ipv4")
    nat, _, rest = saved.partition("*filter")
    assert [line for line in nat.splitlines() if line.startswith("-A")] == NAT_RULES.strip().splitlines()
    assert "-A KUBE-NODEPORT-NON-LOCAL -p tcp -m comment" in rest
    assert "--dport 32769 -m state --state NEW -j ACCEPT" in rest


def test_what_it_saves_is_what_packets_walk(tmp_path: File) -> None:
    cluster = cluster_of(MANIFEST, tmp_path)
    saved = plugin(cluster).text(cluster.nodes[0], "save", "ipv4")
    installed = RuleSet.of(deploy(cluster, ROUTED, "userspace").host("n1").root).save()
    assert installed == saved
    assert RuleSet.read(saved, "saved").save() == saved


def test_a_request_goes_up_to_the_process_and_down_again() -> None:
    cluster = sized_cluster(services=3, endpoints=2, endpoint_nodes=["node-2"])
    deployment = deploy(cluster, ROUTED, "userspace")
    client, virtual = cluster.pod("client-1").address, str(cluster.service("svc-2").cluster_ip)
    found = converse(deployment, client, virtual, 80)
    veth, card = "cali-default/client-1", "eth0"
    server = f"cali-{found.first.delivered_to}"
    assert hooks(found.first) == hooks(found.established) == [
        ("node-1", "prerouting", veth, None), ("node-1", "input", veth, None),
        ("node-1", "output", None, card), ("node-1", "postrouting", None, card),
        ("node-2", "prerouting", card, None), ("node-2", "forward", card, server),
        ("node-2", "postrouting", card, server),
    ]  # fmt: skip
    assert hooks(found.reply) == [
        ("node-2", "prerouting", server, None), ("node-2", "forward", server, card),
        ("node-2", "postrouting", server, card),
        ("node-1", "prerouting", card, None), ("node-1", "input", card, None),
        ("node-1", "output", None, veth), ("node-1", "postrouting", None, veth),
    ]  # fmt: skip
    contexts = [hop.context for hop in found.first.hops if hop.operation.startswith("syscall_")]
    assert contexts == ["process", "daemon", "daemon", "daemon", "process"]


def test_the_server_sees_the_node_and_the_client_the_service() -> None:
    cluster = sized_cluster(services=3, endpoints=2, endpoint_nodes=["node-2"])
    for cni, address in ((ROUTED, cluster.node("node-1").address), ("flannel-vxlan", "10.244.0.0")):
        deployment = deploy(cluster, cni, "userspace")
        client, virtual = cluster.pod("client-1").address, str(cluster.service("svc-2").cluster_ip)
        for protocol in ("tcp", "udp"):
            if protocol == "udp":
                cluster_udp = build_cluster(
                    ClusterSpec(services=3, endpoints=2, nodes=2, endpoint_nodes=["node-2"]),
                    [PlannedPod("default", "client-1", "client", node="node-1")],
                    fleet_protocol="udp",
                )
                deployment = deploy(cluster_udp, cni, "userspace")
            found = converse(deployment, client, virtual, 80, protocol)
            assert found.first.packet.source == address
            assert found.established is not None
            assert found.established.packet.flow == found.first.packet.flow, "one connection upstream for each client's"
            assert found.reply is not None
            assert found.reply.packet.source == virtual


def test_a_process_of_the_node_is_translated_to_the_nodes_address() -> None:
    cluster = sized_cluster(services=3, endpoints=2, endpoint_nodes=["node-2"])
    deployment = deploy(cluster, ROUTED, "userspace")
    node = cluster.node("node-1").address
    found = converse(deployment, node, str(cluster.service("svc-2").cluster_ip), 80)
    assert hooks(found.first)[:5] == [
        ("node-1", "output", None, "eth0"), ("node-1", "postrouting", None, "lo"),
        ("node-1", "prerouting", "lo", None), ("node-1", "input", "lo", None), ("node-1", "output", None, "eth0"),
    ]  # fmt: skip


def test_endpoints_take_turns_on_each_node() -> None:
    cluster = sized_cluster(services=1, endpoints=3, clients=("node-1", "node-2"))
    deployment = deploy(cluster, ROUTED, "userspace")
    service = cluster.service("svc-1")
    virtual, listed = str(service.cluster_ip), cluster.endpoints(service, service.ports[0])
    for client in ("client-1", "client-2"):
        address = cluster.pod(client).address
        taken = [converse(deployment, address, virtual, 80, source_port=port).first for port in range(5000, 5006)]
        servers = [path.packet.destination for path in taken]
        assert servers[:3] == servers[3:] == sorted(one.address for one in listed)


def test_a_client_stays_with_its_server(tmp_path: File) -> None:
    endpoints = """
- {apiVersion: v1, kind: Pod, metadata: {name: a, namespace: default}, spec: {nodeName: n1, containers: []},
   status: {podIP: 10.244.1.5}}
- {apiVersion: v1, kind: Pod, metadata: {name: b, namespace: default}, spec: {nodeName: n1, containers: []},
   status: {podIP: 10.244.1.6}}
- apiVersion: v1
  kind: Endpoints
  metadata: {name: web, namespace: default}
  subsets: [{addresses: [{ip: 10.244.1.5}, {ip: 10.244.1.6}], ports: [{name: http, port: 8080}]}]
"""
    cluster = cluster_of(MANIFEST + endpoints.lstrip("\n"), tmp_path)
    deployment = deploy(cluster, ROUTED, "userspace")
    for client in ("10.244.1.5", "10.244.1.6"):
        taken = {
            converse(deployment, client, "10.96.0.10", 80, source_port=port).first.packet.destination
            for port in range(5000, 5004)
        }
        assert len(taken) == 1


def test_rules_are_tested_by_the_first_packet_only() -> None:
    cluster = sized_cluster(services=40, endpoints=1, endpoint_nodes=["node-2"])
    deployment = deploy(cluster, ROUTED, "userspace")
    found = converse(deployment, cluster.pod("client-1").address, str(cluster.service("svc-30").cluster_ip), 80)
    assert rules(found.first, "node-1", "nat/PREROUTING") == 1 + 30
    assert rules(found.first, "node-1", "nat/OUTPUT") == 1 + 40 + 1, "what kube-proxy itself sends"
    assert rules(found.established, "node-1", "nat/PREROUTING") == 0


def test_a_node_port_is_served(tmp_path: File) -> None:
    endpoints = """
- {apiVersion: v1, kind: Pod, metadata: {name: a, namespace: default}, spec: {nodeName: n1, containers: []},
   status: {podIP: 10.244.1.5}}
- apiVersion: v1
  kind: Endpoints
  metadata: {name: web, namespace: default}
  subsets: [{addresses: [{ip: 10.244.1.5}], ports: [{name: http, port: 8080}]}]
"""
    cluster = cluster_of(MANIFEST + endpoints.lstrip("\n"), tmp_path)
    deployment = deploy(cluster, ROUTED, "userspace")
    for source in ("10.244.1.5", "192.168.0.11"):
        found = converse(deployment, source, "192.168.0.11", 30080)
        assert found.first.packet.destination == "10.244.1.5"
        assert found.reply is not None
        assert (found.reply.packet.source, found.reply.packet.source_port) == ("192.168.0.11", 30080)


@pytest.mark.parametrize("nodes", [["node-1"], ["node-2"]])
def test_one_core_does_it_all_and_saturates(nodes: list[str]) -> None:
    traffic = {"workload": "tcp_rr", "connections": 20, "transactions": 400}
    found = {
        proxy: simulate(proxy=proxy, cni=ROUTED, cluster={"endpoint_nodes": nodes}, traffic=traffic)
        for proxy in ("iptables", "userspace")
    }
    busy = found["userspace"].utilisation.set_index(["host", "kind", "number"])["utilisation"]
    assert busy["node-1", "application core", 3] > 0.98
    assert max(busy["node-1", "application core", number] for number in range(3)) < 0.5
    rates = {proxy: result.summary["throughput_per_s"] for proxy, result in found.items()}
    assert rates["userspace"] < 0.5 * rates["iptables"]


def test_a_sync_calls_iptables_for_each_rule() -> None:
    small, large = (sized_cluster(services=number) for number in (10, 11))
    node = small.nodes[0]
    first = plugin(small).update(node, None, is_partial=False)
    assert first.rules == 20
    again = plugin(small).update(node, plugin(small), is_partial=True)
    assert (again.rules, again.text_bytes) == (0, 0)
    assert first.operations["iptables_check"] - again.operations["iptables_check"] == 20 + 5
    grown = plugin(large).update(node, plugin(small), is_partial=True)
    assert grown.rules == 2
    assert grown.operations["iptables_replace_table"] == 20 + 21


def test_more_ports_than_a_process_can_have() -> None:
    cluster = sized_cluster(services=28_233, endpoints=1, pod_cidr="10.0.0.0/8", service_cidr="172.16.0.0/12")
    with pytest.raises(InputError, match="28232 ports to listen on"):
        deploy(cluster, ROUTED, "userspace").host("node-1")
