"""kube-proxy's IPVS mode: where a packet goes that the others do not go."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path as File

import pytest

from kubesim.cluster import Cluster, ClusterSpec, build_cluster
from kubesim.kernel.walk import Path
from kubesim.proxy.ipvs import Plugin, Settings
from tests.clusters import ROUTED, cluster_of, converse, deploy, operations, rules, sized_cluster


def hooks(path: Path | None, host: str) -> list[str]:
    """Hooks of the IP layer that a packet passed on a host."""
    assert path is not None
    return [visit.hook for visit in path.hooks if visit.host == host and visit.family == "inet"]


@pytest.mark.parametrize("cni", [ROUTED, "flannel-host-gw"])
def test_requests_never_pass_forward_and_replies_do(cni: str) -> None:
    cluster = sized_cluster(services=3, endpoints=2, endpoint_nodes=["node-2"])
    deployment = deploy(cluster, cni, "ipvs")
    client, virtual = cluster.pod("client-1").address, str(cluster.service("svc-2").cluster_ip)
    found = converse(deployment, client, virtual, 80)
    for request in (found.first, found.established):
        assert hooks(request, "node-1") == ["prerouting", "input", "output", "postrouting"]
    assert hooks(found.reply, "node-1") == ["prerouting", "forward", "postrouting"]


def test_rules_are_the_same_whatever_the_number_of_services() -> None:
    counts = []
    for services in (1, 1000):
        cluster = sized_cluster(services=services, endpoints=2, endpoint_nodes=["node-2"])
        deployment = deploy(cluster, ROUTED, "ipvs")
        client, virtual = cluster.pod("client-1").address, str(cluster.all_services[-1].cluster_ip)
        found = converse(deployment, client, virtual, 80)
        counts.append((found.first.rules_tested, found.established and found.established.rules_tested))
    assert counts[0] == counts[1]


def test_the_filter_in_front_of_virtual_addresses_is_walked_by_every_packet() -> None:
    cluster = sized_cluster(services=1, endpoints=1, endpoint_nodes=["node-2"])
    deployment = deploy(cluster, ROUTED, "ipvs")
    found = converse(deployment, cluster.pod("client-1").address, str(cluster.service("svc-1").cluster_ip), 80)
    # KUBE-IPVS-FILTER: the jump, the set of load balancers and that of cluster addresses, which returns; then the jumps
    # to KUBE-PROXY-FIREWALL and KUBE-NODE-PORT with its one rule.
    assert rules(found.first, "node-1", "filter/INPUT") == rules(found.established, "node-1", "filter/INPUT") == 6


def test_connections_are_scheduled_once() -> None:
    cluster = sized_cluster(services=1, endpoints=3, endpoint_nodes=["node-2"])
    deployment = deploy(cluster, ROUTED, "ipvs")
    client, virtual = cluster.pod("client-1").address, str(cluster.service("svc-1").cluster_ip)
    taken: Counter[str] = Counter()
    for port in range(6):
        found = converse(deployment, client, virtual, 80, source_port=1000 + port)
        assert found.established is not None
        assert found.established.packet.destination == found.first.packet.destination
        assert operations(found.first)["ipvs_schedule"] == 1
        assert "ipvs_schedule" not in operations(found.established)
        taken[found.first.packet.destination] += 1
    assert set(taken.values()) == {2}, "round robin"


def test_least_connection_looks_at_every_server() -> None:
    cluster = sized_cluster(services=1, endpoints=50, endpoint_nodes=["node-2"])
    looked_at = {}
    for scheduler in ("rr", "lc"):
        deployment = deploy(cluster, ROUTED, "ipvs", scheduler=scheduler)
        client, virtual = cluster.pod("client-1").address, str(cluster.service("svc-1").cluster_ip)
        first = converse(deployment, client, virtual, 80).first
        looked_at[scheduler] = next(hop.items for hop in first.hops if hop.operation == "ipvs_schedule")
    assert looked_at == {"rr": 1, "lc": 50}


def test_the_service_table_has_256_buckets() -> None:
    cluster = sized_cluster(services=5000, endpoints=1, endpoint_nodes=["node-2"])
    deployment = deploy(cluster, ROUTED, "ipvs")
    client, virtual = cluster.pod("client-1").address, str(cluster.all_services[0].cluster_ip)
    first = converse(deployment, client, virtual, 80).first
    chain = next(hop.items for hop in first.hops if hop.operation == "ipvs_service_lookup")
    assert 5 < chain < 60, "about 5000 / 256"


def test_a_segment_of_a_connection_that_ipvs_does_not_know_is_not_scheduled() -> None:
    cluster = sized_cluster(services=2, endpoints=1, endpoint_nodes=["node-2"])
    deployment = deploy(cluster, ROUTED, "ipvs")
    pod = cluster.pod("svc-1-0").address
    found = converse(deployment, cluster.pod("client-1").address, pod, 8080)
    for path in (found.first, found.established):
        assert "ipvs_service_lookup" not in operations(path), "forwarded packets do not come to INPUT"


def test_a_million_endpoints_are_ready_at_once() -> None:
    cluster = sized_cluster(services=100_000, endpoints=10)
    started = time.monotonic()
    deployment = deploy(cluster, ROUTED, "ipvs")
    client, service = cluster.pod("client-1").address, cluster.service("svc-077777")
    first = converse(deployment, client, str(service.cluster_ip), 80).first
    assert time.monotonic() - started < 2
    endpoints = cluster.endpoints(service, service.ports[0])
    assert first.packet.destination in {endpoint.address for endpoint in endpoints}
    assert "ipvs_schedule" in operations(first)


def test_a_sync_writes_all_rules_and_what_has_changed() -> None:
    def plugin(cluster: Cluster) -> Plugin:
        return Plugin(cluster, Settings())

    before, after = (sized_cluster(services=count, endpoints=2, endpoint_nodes=["node-2"]) for count in (0, 3))
    node = after.node("node-2")
    rules_written = plugin(after).restore(node).count("\n-A ")
    nothing = plugin(after).update(node, plugin(after), is_partial=True)
    assert nothing.rules == rules_written
    writes = {name: items for name, items in nothing.operations.items() if not is_read(name)}
    assert writes == {"iptables_restore": rules_written, "iptables_replace_table": rules_written + 9}
    more = plugin(after).update(node, plugin(before), is_partial=True).operations
    # Of each Service: its place, its address and two endpoints in sets; itself and two servers; an address to bind.
    assert (more["ipset_update"], more["ipvs_update"], more["address_update"]) == (3 * 4, 3 * 3, 3)
    start = plugin(after).update(node, None, is_partial=False).operations
    assert start["ipset_update"] == 17 + 3 * 4, "sets are made too"


def is_read(operation: str) -> bool:
    return any(word in operation for word in ("read", "list", "ensure", "check"))


def test_a_sync_reads_all_there_is_even_if_nothing_has_changed() -> None:
    """Of each Service: two requests for itself and one for its servers; all of them, their servers and sets in lists."""
    cluster = sized_cluster(services=3, endpoints=2, endpoint_nodes=["node-2"])
    plugin = Plugin(cluster, Settings())
    node = cluster.node("node-2")
    found = plugin.update(node, plugin, is_partial=True).operations
    assert {name: items for name, items in found.items() if is_read(name)} == {
        "iptables_check": 11 + 9,
        "ipset_ensure": 17,
        "ipset_list": 17,
        "ipset_list_place": 3 + 3 * 2,  # places of Services; endpoints on this node
        "ipset_list_entry": 3,
        "ipvs_list_service": 3,
        "ipvs_read_service": 2 * 3,
        "ipvs_read_servers": 3,
        "ipvs_read_server": 3 * 2,
        "address_list": 3 * 3,
    }
    start = plugin.update(node, None, is_partial=False).operations
    assert {name: items for name, items in start.items() if is_read(name)} == {
        "iptables_check": 11 + 2 * 9,
        "ipset_list": 17,
        "ipvs_read_service": 2 * 3,
        "ipvs_read_servers": 3,
    }, "nothing is there to be listed"


def test_services_from_manifests_are_read_as_those_made_by_number(tmp_path: File) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(ONE_MORE)
    cluster = build_cluster(ClusterSpec(manifests=[file], services=2, endpoints=4))
    plugin = Plugin(cluster, Settings())
    found = plugin.update(cluster.nodes[0], plugin, is_partial=True).operations
    assert found["ipvs_read_servers"] == 2 + 2, "a virtual service for each port"
    assert found["ipvs_read_server"] == 2 * 4 + 1


ONE_MORE = """
apiVersion: v1
kind: Service
metadata: {name: one, namespace: ns}
spec: {clusterIP: 10.200.0.5, ports: [{name: a, port: 80}, {name: b, port: 81}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: one-a, namespace: ns, labels: {kubernetes.io/service-name: one}}
addressType: IPv4
endpoints: [{addresses: [10.244.0.5], nodeName: node-1}]
ports: [{name: a, port: 8080}]
"""


POLICIES = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDR: 10.244.1.0/24},
   status: {addresses: [{type: InternalIP, address: 192.168.0.11}]}}
- {apiVersion: v1, kind: Node, metadata: {name: n2}, spec: {podCIDR: 10.244.2.0/24},
   status: {addresses: [{type: InternalIP, address: 192.168.0.12}]}}
- {apiVersion: v1, kind: Node, metadata: {name: n3}, spec: {podCIDR: 10.244.3.0/24},
   status: {addresses: [{type: InternalIP, address: 192.168.0.13}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: c1}, spec: {nodeName: n1, containers: []}, status: {podIP: 10.244.1.5}}
- {apiVersion: v1, kind: Pod, metadata: {name: c3}, spec: {nodeName: n3, containers: []}, status: {podIP: 10.244.3.5}}
- apiVersion: v1
  kind: Service
  metadata: {name: web}
  spec: {clusterIP: 10.96.0.21, type: NodePort, internalTrafficPolicy: Local, externalTrafficPolicy: Local,
    ports: [{port: 80, nodePort: 30080}]}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: web, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  ports: [{port: 8080}]
  endpoints:
  - {addresses: [10.244.1.7], nodeName: n1}
  - {addresses: [10.244.2.7], nodeName: n2}
- {apiVersion: v1, kind: Pod, metadata: {name: s1}, spec: {nodeName: n1, containers: []}, status: {podIP: 10.244.1.7}}
- {apiVersion: v1, kind: Pod, metadata: {name: s2}, spec: {nodeName: n2, containers: []}, status: {podIP: 10.244.2.7}}
"""


def test_policies_local_keep_to_the_node_or_else_use_all(tmp_path: File) -> None:
    """Where iptables would drop: a node without endpoints of its own sends to all (syncEndpoint)."""
    for called, from_node in ((("10.96.0.21", 80), "10.244.{}.5"), (("192.168.0.{}", 30080), "192.168.0.12")):
        for node, servers in (("1", {"10.244.1.7"}), ("3", {"10.244.1.7", "10.244.2.7"})):
            deployment = deploy(cluster_of(POLICIES, tmp_path), "calico-bgp", "ipvs")
            address, port = called[0].format(f"1{node}"), called[1]
            source = from_node.format(node)
            paths = [converse(deployment, source, address, port, source_port=5000 + n).first for n in range(4)]
            assert {path.packet.destination for path in paths} == servers
            assert {path.packet.source for path in paths} == {source}, "nobody is masqueraded"
