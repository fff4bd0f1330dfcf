"""The contract of every CNI plugin with every service proxy: new files join by being there."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubesim.cluster import Cluster
from kubesim.cni import cni_names
from kubesim.errors import InputError
from kubesim.proxy import proxy_class, proxy_names
from kubesim.scenario.deployment import Deployment
from tests.clusters import Conversation, cluster_of, converse, deploy, refusal, sized_cluster, working_pairs
from tests.scenarios import CNIS

PAIRS = working_pairs()
REFUSED = [(cni, proxy) for cni in cni_names() for proxy in proxy_names() if (cni, proxy) not in PAIRS]
PLACES = ["same pod", "same node", "cross node"]

OF_ONE_NODE = set(cni_names()) - set(CNIS)


def clusters(place: str) -> tuple[Cluster, str]:
    """A cluster whose Services' endpoints are all at the place, and the address of the client."""
    nodes = ["node-1", "node-2"] if place == "cross node" else ["node-1"]
    endpoints = 1 if place == "same pod" else 3
    cluster = sized_cluster(services=5, endpoints=endpoints, nodes=len(nodes), endpoint_nodes=nodes[-1:])
    client = cluster.pod("svc-3-0") if place == "same pod" else cluster.pod("client-1")
    return cluster, client.address


def bring_up(cluster: Cluster, cni: str, proxy: str) -> Deployment:
    """The cluster with all its nodes; a plugin of one node refuses several, and has no ways between them."""
    if cni in OF_ONE_NODE and len(cluster.nodes) > 1:
        with pytest.raises(InputError, match="one node only"):
            deploy(cluster, cni, proxy)
        pytest.skip(f"{cni} is for one node")
    deployment = deploy(cluster, cni, proxy)
    for node in cluster.nodes:
        deployment.host(node.name)
    return deployment


def check_round_trips(found: Conversation, called: tuple[str, int], servers: set[tuple[str, int]], client: str) -> None:
    """Requests reach one of the servers, replies the client, from whom it called; the second time as the first."""
    assert found.established is not None
    assert found.established.packet.destination == found.first.packet.destination
    for request, reply in ((found.first, found.first_reply), (found.established, found.reply)):
        assert request is not None
        assert reply is not None
        assert request.reason is None
        assert (request.packet.destination, request.packet.destination_port) in servers
        assert reply.reason is None
        assert (reply.packet.source, reply.packet.source_port) == called
        assert (reply.packet.destination, reply.packet.destination_port) == (client, 40_000)


@pytest.mark.parametrize("proxy", ["iptables", "ipvs", "nftables", "userspace", "none", "dump"])
@pytest.mark.parametrize("cni", cni_names())
def test_what_needs_nothing_of_a_cni_goes_with_all(cni: str, proxy: str) -> None:
    assert (cni, proxy) in PAIRS


@pytest.mark.parametrize(("cni", "proxy"), REFUSED)
def test_a_pair_that_cannot_work_is_refused_with_the_reason(cni: str, proxy: str) -> None:
    reason = refusal(cni, proxy)
    assert reason is not None
    assert reason.startswith(("proxy: ", "cni: "))
    assert "\n" not in reason


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("cni", "proxy"), PAIRS)
def test_a_service_is_reached_and_answers_with_its_own_address(cni: str, proxy: str, place: str) -> None:
    cluster, client = clusters(place)
    deployment = bring_up(cluster, cni, proxy)
    service = cluster.service("svc-3")
    servers = {(endpoint.address, endpoint.port) for endpoint in cluster.endpoints(service, service.ports[0])}
    called = min(servers) if proxy_class(proxy).is_headless else (str(service.cluster_ip), 80)
    check_round_trips(converse(deployment, client, *called), called, servers, client)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("cni", "proxy"), PAIRS)
def test_a_pod_is_reached_by_its_own_address(cni: str, proxy: str, place: str) -> None:
    cluster, client = clusters(place)
    server = cluster.pod("svc-3-0").address
    found = converse(bring_up(cluster, cni, proxy), client, server, 8080)
    check_round_trips(found, (server, 8080), {(server, 8080)}, client)
    assert found.first.packet.source == client, "nobody has reason to translate the source"


@pytest.mark.parametrize(("cni", "proxy"), PAIRS)
def test_a_process_of_a_node_reaches_a_service(cni: str, proxy: str) -> None:
    cluster, _ = clusters("cross node")
    deployment = bring_up(cluster, cni, proxy)
    service = cluster.service("svc-2")
    servers = {(endpoint.address, endpoint.port) for endpoint in cluster.endpoints(service, service.ports[0])}
    node = cluster.node("node-1").address
    called = min(servers) if proxy_class(proxy).is_headless else (str(service.cluster_ip), 80)
    check_round_trips(converse(deployment, node, *called), called, servers, node)


@pytest.mark.parametrize(("cni", "proxy"), PAIRS)
def test_pods_of_a_node_are_alike(cni: str, proxy: str) -> None:
    """What lets a route be walked once for all pods of two nodes."""
    cluster = sized_cluster(services=6, endpoints=2, clients=("node-1", "node-1"), endpoint_nodes=["node-2"])
    ways = []
    for client in ("client-1", "client-2"):
        for server in ("svc-2-0", "svc-5-1"):
            deployment = bring_up(cluster, cni, proxy)
            found = converse(deployment, cluster.pod(client).address, cluster.pod(server).address, 8080)
            ways.append(
                [
                    [(hop.host, hop.context, hop.operation, hop.items, hop.size_bytes) for hop in path.hops]
                    for path in (found.first, found.first_reply, found.established, found.reply)
                    if path is not None
                ]
            )
    assert all(way == ways[0] for way in ways)


@pytest.mark.parametrize(("cni", "proxy"), PAIRS)
def test_walks_do_not_remember_each_other(cni: str, proxy: str) -> None:
    cluster, client = clusters("cross node")
    deployment = bring_up(cluster, cni, proxy)
    server = cluster.pod("svc-3-0").address
    first = converse(deployment, client, server, 8080).first
    again = converse(deployment, client, server, 8080).first
    deployment.forget_connections()
    anew = converse(deployment, client, server, 8080).first
    assert first.hops == anew.hops
    assert first.rules_tested == anew.rules_tested
    if proxy != "none":
        assert len(again.hops) < len(first.hops), "conntrack knows the connection"
        if cni != "antrea-geneve":  # the host sees the tunnel only, which is exempt from tracking
            assert sum(again.rules_tested.values()) < sum(first.rules_tested.values())


@pytest.mark.parametrize(("cni", "proxy"), [pair for pair in PAIRS if not proxy_class(pair[1]).is_headless])
def test_a_service_without_endpoints_refuses(cni: str, proxy: str) -> None:
    cluster = sized_cluster(services=2, endpoints=0, nodes=1)
    client, service = cluster.pod("client-1").address, cluster.service("svc-1")
    reason = converse(bring_up(cluster, cni, proxy), client, str(service.cluster_ip), 80).first.reason
    assert reason is not None
    assert "connection refused" in reason


OUTSIDE = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Node, metadata: {name: node-1}}
- {apiVersion: v1, kind: Node, metadata: {name: node-2}}
- {apiVersion: v1, kind: Pod, metadata: {name: web, labels: {app: web}},
   spec: {nodeName: node-2, containers: [{name: web, ports: [{containerPort: 8080}]}]}}
- {apiVersion: v1, kind: Service, metadata: {name: web},
   spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}}
"""


@pytest.mark.parametrize("node", ["node-1", "node-2"])
@pytest.mark.parametrize(("cni", "proxy"), PAIRS)
def test_a_node_port_is_reached_from_outside(cni: str, proxy: str, node: str, tmp_path: Path) -> None:
    cluster = cluster_of(OUTSIDE, tmp_path)
    client, server = cluster.outside[0].address, cluster.pod("web").address
    called = (cluster.node(node).address, 30080)
    found = converse(bring_up(cluster, cni, proxy), client, *called)
    if proxy_class(proxy).is_headless:
        assert found.first.decision is None, "nobody takes it"
        return
    check_round_trips(found, called, {(server, 8080)}, client)
