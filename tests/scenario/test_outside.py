"""Calls from outside of the cluster: node ports and load balancers, where packets go and who they seem to come from."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from kubesim.cluster import Cluster
from kubesim.cluster.spec import LoadBalancing
from kubesim.errors import InputError
from kubesim.kernel.walk import Path as WalkedPath
from kubesim.scenario import Result, Scenario, run, trace
from tests.clusters import Conversation, cluster_of, converse, deploy, rules
from tests.scenarios import scenario

MANIFEST = """
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Pod, metadata: {name: web-a, labels: {app: web}},
   spec: {nodeName: node-2, containers: [{name: web, ports: [{containerPort: 8080}]}]}}
- {apiVersion: v1, kind: Pod, metadata: {name: web-b, labels: {app: web}},
   spec: {nodeName: node-3, containers: [{name: web, ports: [{containerPort: 8080}]}]}}
- {apiVersion: v1, kind: Node, metadata: {name: node-1}}
- {apiVersion: v1, kind: Node, metadata: {name: node-2}}
- {apiVersion: v1, kind: Node, metadata: {name: node-3}}
- {apiVersion: v1, kind: Service, metadata: {name: web},
   spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: 8080, nodePort: 30080}]}}
- {apiVersion: v1, kind: Service, metadata: {name: web-local},
   spec: {type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web},
          ports: [{port: 80, targetPort: 8080, nodePort: 30081}]}}
- {apiVersion: v1, kind: Service, metadata: {name: guarded},
   spec: {type: LoadBalancer, selector: {app: web}, loadBalancerSourceRanges: [198.51.100.0/24],
          ports: [{port: 80, targetPort: 8080}]}}
- {apiVersion: v1, kind: Service, metadata: {name: inner}, spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}}
"""

KUBE_PROXIES = ("iptables", "nftables", "ipvs")
NODE_1 = "192.168.0.11"


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return cluster_of(MANIFEST, tmp_path)


def outside(cluster: Cluster) -> str:
    return cluster.outside[0].address


def hooks(path: WalkedPath | None) -> list[tuple[str, str]]:
    assert path is not None
    return [(visit.host, visit.hook) for visit in path.hooks if visit.family == "inet"]


def machines(path: WalkedPath | None) -> list[str]:
    """The machines a packet passes, in order."""
    assert path is not None
    return list(dict.fromkeys(hop.host for hop in path.hops))


def call(cluster: Cluster, port: int, cni: str = "flannel-host-gw", proxy: str = "iptables") -> Conversation:
    """Call a port of the node without an endpoint from outside."""
    return converse(deploy(cluster, cni, proxy), outside(cluster), NODE_1, port)


@pytest.mark.parametrize("proxy", KUBE_PROXIES)
def test_a_node_port_hides_the_client_and_sends_on(cluster: Cluster, proxy: str) -> None:
    found = call(cluster, 30080, proxy=proxy)
    server = found.first.packet.destination
    assert server in {cluster.pod("web-a").address, cluster.pod("web-b").address}
    assert found.first.packet.source == NODE_1, "masqueraded, so that the answer comes back this way"
    node = str(cluster.pod_at(server).node)  # type: ignore[union-attr]
    assert machines(found.first) == ["outside-1", "node-1", node]
    assert machines(found.first_reply) == [node, "node-1", "outside-1"]
    assert found.first_reply is not None
    assert (found.first_reply.packet.source, found.first_reply.packet.source_port) == (NODE_1, 30080)
    assert found.first_reply.packet.destination == outside(cluster)


def test_hooks_of_a_node_port(cluster: Cluster) -> None:
    found = call(cluster, 30080)
    node = str(found.first.hops[-1].host)
    way = ["prerouting", "forward", "postrouting"]
    assert hooks(found.first) == [("node-1", hook) for hook in way] + [(node, hook) for hook in way]
    assert hooks(found.first_reply) == [(node, hook) for hook in way] + [("node-1", hook) for hook in way]


def test_a_node_port_is_found_behind_all_services(cluster: Cluster) -> None:
    first, later = call(cluster, 30080).first, call(cluster, 30080).established
    assert rules(first, "node-1", "nat/PREROUTING") > len(cluster.services)
    assert rules(later, "node-1", "nat/PREROUTING") == 0, "conntrack knows the connection"


@pytest.mark.parametrize("proxy", ["iptables", "nftables"])
def test_policy_local_drops_where_there_is_no_endpoint(cluster: Cluster, proxy: str) -> None:
    first = call(cluster, 30081, proxy=proxy).first
    assert first.reason is not None
    assert "dropped" in first.reason
    assert machines(first) == ["outside-1", "node-1"]


def test_ipvs_goes_on_to_another_node_without_hiding_the_client(cluster: Cluster) -> None:
    """Answers then come from the pod's own address, and nobody outside waits for them (pkg/proxy/ipvs, syncEndpoint)."""
    found = call(cluster, 30081, "calico-bgp", "ipvs")
    assert found.first.packet.source == outside(cluster)
    assert found.first_reply is not None
    assert found.first_reply.packet.source == found.first.packet.destination


@pytest.mark.parametrize("proxy", KUBE_PROXIES)
def test_policy_local_keeps_the_client_and_the_node(cluster: Cluster, proxy: str) -> None:
    deployment = deploy(cluster, "flannel-vxlan", proxy)
    found = converse(deployment, outside(cluster), cluster.node("node-2").address, 30081)
    assert found.first.packet.source == outside(cluster), "the server sees who calls"
    assert found.first.packet.destination == cluster.pod("web-a").address
    assert machines(found.first) == ["outside-1", "node-2"]
    assert machines(found.reply) == ["node-2", "outside-1"]


def played(tmp_path: Path, to: str, load_balancer: LoadBalancing = "machine", **changes: object) -> Result:
    """Ninety connections of three clients outside."""
    file = tmp_path / "web.yaml"
    file.write_text(MANIFEST)
    return run(asked(file, to, load_balancer, **changes))


def asked(file: Path, to: str, load_balancer: LoadBalancing = "machine", **changes: object) -> Scenario:
    traffic = {"workload": "tcp_crr", "clients_on": ["outside"], "clients": 3, "transactions": 30, "to": to}
    wanted = {name: value for name, value in {**traffic, **changes}.items() if value is not None}
    return Scenario.model_validate(
        {
            "cluster": {"manifests": [str(file)], "load_balancer": load_balancer},
            "cni": "flannel-host-gw",
            "proxy": "iptables",
            "traffic": wanted,
        }
    )


def entries(result: Result) -> set[str]:
    """The machines that packets from outside come to first."""
    hops = [route[0].hops for route in result.classes.routes]
    return {next(one.hop.host for one in way if one.hop.operation == "port_serialise") for way in hops}


@pytest.mark.parametrize("to", ["web", "web-local"])
def test_a_machine_in_front_takes_all_connections_and_aims_at_node_ports(tmp_path: Path, to: str) -> None:
    result = played(tmp_path, to)
    assert entries(result) == {"load-balancer"}
    assert result.transactions["is_complete"].all()
    assert set(result.transactions["server"]) == {"default/web-a", "default/web-b"}


def test_one_node_leads_by_arp_and_all_nodes_share_by_bgp(tmp_path: Path) -> None:
    assert len(entries(played(tmp_path, "web", "l2"))) == 1
    assert entries(played(tmp_path, "web", "bgp")) == {"node-1", "node-2", "node-3"}
    assert entries(played(tmp_path, "web-local", "bgp")) == {"node-2", "node-3"}, "only those with an endpoint"


@pytest.mark.parametrize("proxy", KUBE_PROXIES)
def test_every_way_in_serves_every_connection(tmp_path: Path, proxy: str) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(MANIFEST)
    for load_balancer in ("machine", "l2", "bgp"):
        chosen = asked(file, "web", load_balancer).model_copy(update={"proxy": scenario(proxy=proxy).proxy})
        result = run(chosen)
        assert result.transactions["is_complete"].all()
        share = (result.transactions["server"] == "default/web-a").mean()
        assert 0.25 < share < 0.75, load_balancer


def test_node_ports_take_turns_over_nodes(tmp_path: Path) -> None:
    assert entries(played(tmp_path, "web", through="node-port")) == {"node-1", "node-2", "node-3"}
    only = played(tmp_path, "web", through="node-port", node_ports_of=["node-3"])
    assert entries(only) == {"node-3"}
    open_loop = {"workload": "poisson_connections", "connections": 100, "rate_per_s": 1000}
    half = {"through": "node-port", "node_ports_of": ["node-1", "node-2"], "transactions": None}
    lost = played(tmp_path, "web-local", "machine", **open_loop, **half)
    assert lost.transactions["is_complete"].mean() == 0.5, "what comes to the node without an endpoint is lost"


def test_source_ranges_are_for_load_balancers_addresses(tmp_path: Path) -> None:
    refused = played(tmp_path, "guarded", "bgp")
    assert not refused.transactions["is_complete"].any()
    assert any("nothing to measure" in notice for notice in refused.notices)


def test_pods_are_served_by_a_load_balancers_address_without_leaving_the_cluster(cluster: Cluster) -> None:
    pod, vip = cluster.pod("web-a"), cluster.service("web").load_balancer_ips[0]
    found = converse(deploy(cluster, "flannel-host-gw", "iptables"), pod.address, vip, 80)
    assert set(machines(found.first)) <= {"node-2", "node-3"}
    assert found.first_reply is not None
    assert found.first_reply.packet.source == vip


def test_a_trace_from_outside(tmp_path: Path) -> None:
    file = tmp_path / "web.yaml"
    file.write_text(MANIFEST)
    found = trace(asked(file, "web"), "outside-1", "web")
    assert [packet.delivered_to for packet in found.packets][1] == "outside-1"
    assert machines(found.packets[0].path)[:2] == ["outside-1", "load-balancer"]
    with pytest.raises(InputError, match="nobody outside of the cluster can call it"):
        trace(asked(file, "web"), "outside-1", "inner")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"to": {"choice": "last"}, "workload": "udp_rr"}, "no Service with a UDP port can be called from outside"),
        ({"to": "inner"}, "traffic.to: Service default/inner is a ClusterIP and has no node port"),
        (
            {"to": "inner", "through": "load-balancer"},
            "traffic.to: Service default/inner is a ClusterIP and has no load balancer's",
        ),
        (
            {"to": "web", "through": "node-port", "node_ports_of": ["node-9"]},
            "traffic.node_ports_of: there is no node 'node-9'",
        ),
    ],
)
def test_what_cannot_be_called(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        played(tmp_path, **changes)  # type: ignore[arg-type]


def test_node_ports_and_addresses_are_given_where_they_are_missing(tmp_path: Path) -> None:
    text = "\n---\n".join(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name},
                "spec": {"type": kind, "ports": [{"port": 80, **({"nodePort": 30000} if name == "a" else {})}]},
            }
        )
        for name, kind in (("a", "NodePort"), ("b", "LoadBalancer"), ("c", "LoadBalancer"), ("d", "ClusterIP"))
    )
    found = {one.name: one for one in cluster_of(text, tmp_path).services}
    assert [found[name].ports[0].node_port for name in "abcd"] == [30000, 30001, 30002, None]
    assert [found[name].load_balancer_ips for name in "abcd"] == [(), ("203.0.113.1",), ("203.0.113.2",), ()]
