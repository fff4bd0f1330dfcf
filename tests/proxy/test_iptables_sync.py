"""What a partial sync takes for changed: whole Services, by what kube-proxy keeps of them and of their endpoints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kubesim.cluster import Cluster, ClusterSpec, build_cluster
from kubesim.proxy.iptables import Plugin, Settings

TWO_PORTS = """
apiVersion: v1
kind: Service
metadata: {name: two, namespace: ns}
spec: {clusterIP: 10.96.0.5, selector: {app: one}, ports: [{name: a, port: 80}, {name: b, port: 81}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: two-a, namespace: ns, labels: {kubernetes.io/service-name: two}}
addressType: IPv4
endpoints: [{addresses: [10.244.0.5], nodeName: node-1}]
ports: [{name: a, port: 8080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: two-b, namespace: ns, labels: {kubernetes.io/service-name: two}}
addressType: IPv4
endpoints: [{addresses: [10.244.0.6], nodeName: node-1}]
ports: [{name: b, port: 8081}]
---
apiVersion: v1
kind: Service
metadata: {name: near, namespace: ns}
spec: {clusterIP: 10.96.0.6, internalTrafficPolicy: Local, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: near-1, namespace: ns, labels: {kubernetes.io/service-name: near}}
addressType: IPv4
endpoints: [{addresses: [10.244.0.7], nodeName: node-1}, {addresses: [10.244.1.7], nodeName: node-2}]
ports: [{port: 8081}]
"""


def cluster_of(tmp_path: Path, manifests: str) -> Cluster:
    file = tmp_path / "cluster.yaml"
    file.write_text(manifests)
    return build_cluster(ClusterSpec(manifests=[file]))


def rewritten(tmp_path: Path, old: str, new: str) -> tuple[list[str], str]:
    """The ports whose chains are written after a part of the manifests has changed, and the whole text."""
    assert old in TWO_PORTS
    before = Plugin(cluster_of(tmp_path, TWO_PORTS), Settings())
    cluster = cluster_of(tmp_path, TWO_PORTS.replace(old, new))
    text = Plugin(cluster, Settings()).sync(cluster.node("node-1"), before, "ipv4", is_partial=True)
    return sorted(set(re.findall(r'-A KUBE-SV\S+ -m comment --comment "(\S+) ->', text))), text


@pytest.mark.parametrize(
    "new",
    ["addresses: [10.244.0.55], nodeName: node-1", "addresses: [10.244.0.5], nodeName: node-2"],
    ids=["address", "node"],
)
def test_an_endpoint_of_one_port_has_all_ports_of_the_service_written(new: str, tmp_path: Path) -> None:
    ports, text = rewritten(tmp_path, "addresses: [10.244.0.5], nodeName: node-1", new)
    assert ports == ["ns/two:a", "ns/two:b"]
    assert text.count("\n-X KUBE-SEP-") == ("10.244.0.55" in new), "of the endpoint that is gone, of no other"


@pytest.mark.parametrize(
    "new",
    [
        "{addresses: [10.244.1.77], nodeName: node-2}",
        "{addresses: [10.244.1.7], nodeName: node-2, conditions: {ready: false}}",
    ],
    ids=["address", "condition"],
)
def test_an_endpoint_that_the_node_does_not_use_counts_too(new: str, tmp_path: Path) -> None:
    ports, text = rewritten(tmp_path, "{addresses: [10.244.1.7], nodeName: node-2}", new)
    assert ports == ["ns/near"]
    assert "-X" not in text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("selector: {app: one}", "selector: {app: other}"),
        ("{name: two, namespace: ns}", "{name: two, namespace: ns, labels: {team: web}}"),
        ("{name: b, port: 81}", "{name: b, port: 81, targetPort: 8081}"),
        ("10.244.1.7], nodeName: node-2", "10.244.1.7], nodeName: node-3"),
    ],
    ids=["selector", "label", "target port", "from one other node to another"],
)
def test_what_kube_proxy_does_not_keep_changes_nothing(old: str, new: str, tmp_path: Path) -> None:
    ports, text = rewritten(tmp_path, old, new)
    assert ports == []
    assert "KUBE-SEP-" not in text


@pytest.mark.parametrize(
    "more",
    [
        "sessionAffinity: ClientIP",
        "internalTrafficPolicy: Local",
        "externalIPs: [198.51.100.7]",
        "type: NodePort, externalTrafficPolicy: Local",
    ],
)
def test_what_kube_proxy_keeps_of_a_service_changes_all_its_ports(more: str, tmp_path: Path) -> None:
    ports, _ = rewritten(tmp_path, "selector: {app: one}", f"selector: {{app: one}}, {more}")
    assert ports == ["ns/two:a", "ns/two:b"]
