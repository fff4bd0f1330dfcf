"""kube-proxy's iptables mode: its chains, and the rules a packet is held against, by formula."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from kubesim.cluster import Cluster
from kubesim.kernel.netfilter.hooks import Hook, HookCall
from kubesim.kernel.netfilter.targets import DestinationNat, Jump
from kubesim.kernel.packet import Packet
from kubesim.proxy._kube_proxy import digest
from tests.clusters import ROUTED, cluster_of, converse, deploy, operations, rules, sized_cluster


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("default/kubernetes:httpstcp", "NPX46M4PTMTKRN6Y"),
        ("kube-system/kube-dns:dnsudp", "TCOU7JCQXEZGVUNU"),
        ("ns1/svc1:p80tcp", "XPGD46QRK7WJZT7O"),
    ],
)
def test_chain_names_are_kube_proxys(name: str, expected: str) -> None:
    assert digest(name, 16) == expected


@pytest.mark.parametrize("services", [1, 10, 100, 1000])
@pytest.mark.parametrize("endpoints", [1, 2, 10])
def test_rules_tested_follow_the_formulas(services: int, endpoints: int) -> None:
    """1 + k + a + j + 2 at PREROUTING, 7 at FORWARD and 2 at POSTROUTING; 5 at FORWARD later (Calico adds no rules)."""
    cluster = sized_cluster(services, endpoints)
    deployment = deploy(cluster, ROUTED, "iptables")
    client = cluster.pod("client-1").address
    for k in {1, services // 2 + 1, services}:
        service = cluster.all_services[k - 1]
        for j in {1, endpoints}:
            deployment.forget_connections()
            luck = (j - 0.5) / endpoints
            found = converse(deployment, client, str(service.cluster_ip), 80, luck=luck)
            assert rules(found.first, "node-1", "nat/PREROUTING") == 1 + k + 1 + j + 2
            assert rules(found.first, "node-1", "filter/FORWARD") == 7
            assert rules(found.first, "node-1", "nat/POSTROUTING") == 2
            assert rules(found.established, "node-1", "nat/PREROUTING") == 0
            assert rules(found.established, "node-1", "filter/FORWARD") == 5
            assert rules(found.established, "node-1", "nat/POSTROUTING") == 0
            assert rules(found.reply, "node-1", "filter/FORWARD") == 5


@pytest.mark.parametrize("services", [0, 1, 10, 100])
@pytest.mark.parametrize("endpoints", [0, 1, 2, 10])
def test_the_number_of_rules_is_kube_proxys(services: int, endpoints: int) -> None:
    """ClusterIP: 4 filter rules and 5 + s·(2 + 3e) nat rules; without endpoints one filter rule per Service instead."""
    cluster = sized_cluster(services, endpoints)
    root = deploy(cluster, ROUTED, "iptables").host("node-1").root
    counts = {}
    for name, table in root.tables.items():
        known = {"filter": ("INPUT", "FORWARD", "OUTPUT"), "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")}
        reached, waiting = set(), [*known[name], *(["KUBE-MARK-MASQ"] if name == "nat" else [])]
        while waiting:
            chain = waiting.pop()
            if chain not in reached:
                reached.add(chain)
                waiting += [rule.target.chain for rule in table.chain(chain).rules if isinstance(rule.target, Jump)]
        counts[name] = sum(len(table.chain(chain)) for chain in reached if chain not in known[name])
    nat = 5 + services * (2 + 3 * endpoints) if endpoints else 5
    assert counts == {"filter": 4 + (services if not endpoints else 0), "nat": nat}


def test_a_connection_that_is_for_no_service_pays_for_all_of_them() -> None:
    cluster = sized_cluster(services=50, endpoints=1)
    deployment = deploy(cluster, ROUTED, "iptables")
    found = converse(deployment, cluster.pod("client-1").address, cluster.pod("svc-07-0").address, 8080)
    assert rules(found.first, "node-1", "nat/PREROUTING") == 1 + 51
    assert operations(found.established).get("iptables_table", 0) == 1, "only the filter table is entered"


def test_traffic_from_outside_the_pods_is_masqueraded() -> None:
    cluster = sized_cluster(services=3, endpoints=1, endpoint_nodes=["node-2"])
    deployment = deploy(cluster, "flannel-vxlan", "iptables")
    node = cluster.node("node-1").address
    first = converse(deployment, node, str(cluster.service("svc-1").cluster_ip), 80).first
    assert first.packet.source == "10.244.0.0", "the address of flannel.1, the device it leaves through"
    inner, outer = 1 + 1 + 1 + 1 + 1 + 2, 1 + 4
    assert rules(first, "node-1", "nat/OUTPUT") == inner + outer, "with KUBE-MARK-MASQ; the tunnel's packet meets all"
    assert rules(first, "node-1", "nat/POSTROUTING") >= 4


def test_masquerade_all_and_no_detector() -> None:
    cluster = sized_cluster(services=1, endpoints=1, endpoint_nodes=["node-2"])
    client, virtual = cluster.pod("client-1").address, str(cluster.service("svc-1").cluster_ip)
    everything = converse(deploy(cluster, ROUTED, "iptables", masquerade_all=True), client, virtual, 80).first
    assert everything.packet.source == cluster.node("node-1").address
    nothing = converse(deploy(cluster, ROUTED, "iptables", cluster_cidr=[]), client, virtual, 80).first
    assert nothing.packet.source == client
    assert rules(nothing, "node-1", "nat/PREROUTING") == 1 + 1 + 1 + 2, "the masquerade rule is left out"


def test_a_pod_that_reaches_itself_through_a_service_is_masqueraded() -> None:
    cluster = sized_cluster(services=1, endpoints=1, endpoint_nodes=["node-1"])
    deployment = deploy(cluster, "flannel-host-gw", "iptables")
    pod = cluster.pod("svc-1-0")
    first = converse(deployment, pod.address, str(cluster.service("svc-1").cluster_ip), 80).first
    assert first.packet.source == "10.244.0.1", "the bridge's address"
    assert first.delivered_to == pod.full_name


def test_large_clusters_have_no_comments_at_endpoints() -> None:
    for services, comments in ((10, 1), (11, 0)):
        cluster = sized_cluster(services=services, endpoints=100, endpoint_nodes=["node-2"])
        first = converse(
            deploy(cluster, ROUTED, "iptables"),
            cluster.pod("client-1").address,
            str(cluster.all_services[0].cluster_ip),
            80,
        ).first
        matches = [hop.items for hop in first.hops if hop.operation == "iptables_match" and hop.at == "nat/PREROUTING"]
        # PREROUTING's comment; comment and port at KUBE-SERVICES; a statistic; the protocol at the DNAT rule; and where
        # there are comments, one at the balancing rule and one at the DNAT rule. The headers of the others are not met.
        assert matches[0] == 1 + 2 + 1 + 1 + 2 * comments


def test_session_affinity_goes_back_to_the_same_endpoint(tmp_path: Path) -> None:
    text = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, sessionAffinity: ClientIP, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 4
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c}]}}
---
apiVersion: v1
kind: Pod
metadata: {name: client}
spec: {containers: [{name: c}]}
"""
    cluster = cluster_of(text, tmp_path)
    for proxy in ("iptables", "nftables", "ipvs"):
        deployment = deploy(cluster, ROUTED, proxy)
        client, virtual = cluster.pod("client").address, str(cluster.service("web").cluster_ip)
        first = converse(deployment, client, virtual, 80, luck=0.7, source_port=1000).first
        others = [converse(deployment, client, virtual, 80, luck=0.1, source_port=port).first for port in (1001, 1002)]
        assert {other.packet.destination for other in others} == {first.packet.destination}


LOCAL_ONLY = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {internalTrafficPolicy: Local, clusterIP: 10.96.7.7, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints:
- {addresses: [10.244.1.9], nodeName: node-2}
---
apiVersion: v1
kind: Pod
metadata: {name: here}
spec: {nodeName: node-1, containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: there}
spec: {nodeName: node-2, containers: [{name: c}]}
"""


@pytest.mark.parametrize("proxy", ["iptables", "nftables"])
def test_internal_traffic_policy_local_stays_on_the_node(proxy: str, tmp_path: Path) -> None:
    cluster = cluster_of(LOCAL_ONLY, tmp_path, nodes=2)
    deployment = deploy(cluster, ROUTED, proxy)
    there = converse(deployment, cluster.pod("there").address, "10.96.7.7", 80).first
    assert there.packet.destination == "10.244.1.9"
    here = converse(deployment, cluster.pod("here").address, "10.96.7.7", 80).first
    assert here.delivered_to is None
    assert here.reason is not None
    assert here.reason.startswith("dropped by")


def test_internal_traffic_policy_local_falls_back_to_all_endpoints_under_ipvs(tmp_path: Path) -> None:
    cluster = cluster_of(LOCAL_ONLY, tmp_path, nodes=2)
    here = converse(deploy(cluster, ROUTED, "ipvs"), cluster.pod("here").address, "10.96.7.7", 80).first
    assert here.packet.destination == "10.244.1.9"


def test_the_order_of_services_can_be_random_but_repeatable() -> None:
    cluster = sized_cluster(services=50, endpoints=1)
    positions = {}
    for seed in (None, 1, 2):
        found = []
        for name in ("svc-01", "svc-50"):
            deployment = deploy(cluster, ROUTED, "iptables", service_order_seed=seed)
            client = cluster.pod("client-1").address
            first = converse(deployment, client, str(cluster.service(name).cluster_ip), 80).first
            found.append(rules(first, "node-1", "nat/PREROUTING") - 5)
        positions[seed] = found
    assert positions[None] == [1, 50]
    assert positions[1] != positions[2]
    assert positions[1] != positions[None]


def test_every_way_to_an_endpoint_is_found() -> None:
    cluster = sized_cluster(services=3, endpoints=7)
    root = deploy(cluster, ROUTED, "iptables").host("node-1").root
    service = cluster.service("svc-2")
    packet = Packet(cluster.pod("client-1").address, str(service.cluster_ip), "tcp", 4000, 80, 0)
    outcomes = root.tables["nat"].outcomes(packet, HookCall(Hook.PREROUTING, root, "cali", None))
    found = {
        (state.verdict.address, state.verdict.port) for state in outcomes if isinstance(state.verdict, DestinationNat)
    }
    assert found == {(one.address, one.port) for one in cluster.endpoints(service, service.ports[0])}
    assert [state.probability for state in outcomes] == [pytest.approx(1 / 7, abs=1e-8)] * 7


def example_cluster(directory: Path, tmp_path: Path) -> Cluster:
    """The cluster of a worked example, with the node that its settings describe."""
    settings = yaml.safe_load((directory / "config.yaml").read_text())
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": settings["nodeName"]},
        "spec": {"podCIDR": settings["clusterCIDR"]},
        "status": {"addresses": [{"type": "InternalIP", "address": settings["nodeIP"]}]},
    }
    text = yaml.safe_dump(node) + "---\n" + (directory / "input.yaml").read_text()
    return cluster_of(text, tmp_path, service_cidr="172.16.0.0/12")


def test_rules_tested_equal_the_kernels_on_a_worked_example(shared_data: Path, tmp_path: Path) -> None:
    directory = shared_data / "kubeproxy" / "cluster_ip_general"
    root = deploy(example_cluster(directory, tmp_path), ROUTED, "iptables").host("test-hostname").root
    measured = json.loads((directory / "kernel_flows.json").read_text())
    compared = 0
    for flow in measured["flows"]:
        packet = Packet(flow["sourceIP"], flow["destIP"], flow["protocol"], 20_000, flow["destPort"], 0)
        packet.state = "NEW"
        call = HookCall(Hook.PREROUTING, root, "pod", None)
        outcomes = root.tables["nat"].outcomes(packet, call)
        possible = {
            (state.tested, f"{state.verdict.address}:{state.verdict.port}")
            if isinstance(state.verdict, DestinationNat)
            else (state.tested, "")
            for state in outcomes
        }
        evaluated = flow["hooks"]["nat PREROUTING"]["rulesEvaluated"]
        assert (evaluated, flow["dnat"] or "") in possible, flow["name"]
        compared += 1
    assert compared == len(measured["flows"]) >= 8
