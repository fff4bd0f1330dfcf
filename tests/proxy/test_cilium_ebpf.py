"""Cilium in place of kube-proxy: sockets that are balanced once, packets that are one by one, and clients outside."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from kubesim.cluster import ClusterSpec, build_cluster
from kubesim.errors import InputError
from kubesim.proxy.cilium_ebpf import Plugin, Settings
from kubesim.scenario import Scenario, run
from tests.clusters import cluster_of, converse, deploy, operations, sized_cluster
from tests.cni.test_cilium import FAR, LEGACY, NATIVE, NEAR, cilium
from tests.cni.test_hook_traversal import TOPOLOGY
from tests.scenarios import scenario

if TYPE_CHECKING:
    from kubesim.cluster import Cluster
    from kubesim.kernel.walk import Path as WalkedPath
    from kubesim.scenario import Result
    from kubesim.scenario.deployment import Deployment

NODE_PORT, BALANCED = 30_080, "203.0.113.240"
SERVICES = """
- apiVersion: v1
  kind: Service
  metadata: {name: web}
  spec:
    type: LoadBalancer
    clusterIP: 10.96.0.41
    externalTrafficPolicy: POLICY
    sessionAffinity: AFFINITY
    ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
  status: {loadBalancer: {ingress: [{ip: 203.0.113.240}]}}
- {apiVersion: v1, kind: Endpoints, metadata: {name: web},
   subsets: [{addresses: [ADDRESSES], ports: [{port: 8080}]}]}
"""
AT = {"near": "{ip: 10.244.1.12, nodeName: n1}", "far": "{ip: 10.244.2.21, nodeName: n2}"}


def cluster_with(tmp_path: Path, *places: str, policy: str = "Cluster", affinity: str = "None") -> Cluster:
    """Two nodes, and a Service with endpoints on the first (near) or the second (far)."""
    text = SERVICES.replace("POLICY", policy).replace("AFFINITY", affinity)
    text = TOPOLOGY + text.replace("ADDRESSES", ", ".join(AT[one] for one in places))
    return cluster_of(text, tmp_path, load_balancer="bgp")


def client_of(deployment: Deployment) -> str:
    """The address of a machine on the nodes' network that is not of the cluster."""
    return deployment.cluster.outside[0].address


def call(deployment: Deployment, address: str, port: int, protocol: str = "tcp", luck: float = 0.0) -> list[WalkedPath]:
    """First packet, its reply, a second packet and its reply, of a client outside."""
    found = converse(deployment, client_of(deployment), address, port, protocol, luck)
    paths = [found.first, found.first_reply, found.established, found.reply]
    arrived = [path for path in paths if path is not None and path.reason is None]
    assert len(arrived) == 4, found.first.reason
    return arrived


def way(path: WalkedPath) -> list[str]:
    """The machines that a packet passes."""
    hosts = [hop.host for hop in path.hops]
    return [host for before, host in zip(["", *hosts], hosts, strict=False) if host != before]


class TestInside:
    """Clients in the cluster."""

    def test_established_packets_cost_what_they_cost_without_any_service(self) -> None:
        ways = []
        for services, called in ((10, "svc-03"), (5000, "svc-0003"), (10, None)):
            cluster = sized_cluster(services=services, endpoints=2, endpoint_nodes=["node-2"])
            deployment = cilium(cluster, "cilium-ebpf", NATIVE)
            target = ("10.244.1.5", 8080) if called is None else (str(cluster.service(called).cluster_ip), 80)
            found = converse(deployment, cluster.pod("client-1").address, *target)
            assert found.established is not None
            assert found.reply is not None
            ways.append([*operations(found.established).items(), *operations(found.reply).items()])
        assert ways[0] == ways[1] == ways[2]

    def test_a_socket_is_balanced_when_it_connects(self, tmp_path: Path) -> None:
        deployment = cilium(cluster_with(tmp_path, "near", "far"), "cilium-ebpf", NATIVE)
        first = converse(deployment, "10.244.1.11", "10.96.0.41", 80).first
        start = [(hop.operation, hop.at) for hop in first.hops[:8]]
        assert start[2:] == [
            ("bpf_program", "connect4"), ("bpf_map_lookup", "services"), ("bpf_map_lookup", "services"),
            ("bpf_map_lookup", "backends"), ("bpf_map_lookup", "reverse NAT of sockets"),
            ("bpf_map_update", "reverse NAT of sockets"),
        ]  # fmt: skip
        assert first.decision is not None
        assert first.decision.hops_before == 6
        assert "bpf_nat" not in operations(first), "packets leave with the server's address"

    @pytest.mark.parametrize(("luck", "server"), [(0.25, NEAR), (0.75, FAR)])
    def test_chance_chooses_with_equal_shares(self, tmp_path: Path, luck: float, server: str) -> None:
        deployment = cilium(cluster_with(tmp_path, "near", "far"), "cilium-ebpf")
        found = converse(deployment, "10.244.1.11", "10.96.0.41", 80, luck=luck).first
        assert found.packet.destination == server
        assert found.decision is not None
        assert found.decision.interval == ((0.0, 0.5) if server == NEAR else (0.5, 1.0))

    def test_datagrams_are_balanced_one_by_one(self, tmp_path: Path) -> None:
        deployment = cilium(cluster_of(TOPOLOGY, tmp_path), "cilium-ebpf", NATIVE)
        found = converse(deployment, "10.244.1.11", "10.96.0.21", 53, "udp")
        assert found.established is not None
        at = Counter(hop.at for hop in found.established.hops if hop.operation == "bpf_map_lookup")
        assert at["services"] == 2, "the sender's socket; and the card of the other node, which has none"
        lookups = [hop for hop in found.established.hops if hop.at == "reverse NAT of sockets"]
        assert [hop.items for hop in lookups] == [3, 1], "sendmsg4, and the server's recvmsg4"
        assert found.reply is not None
        assert (found.reply.packet.source, found.reply.packet.source_port) == ("10.96.0.21", 53)

    def test_without_sockets_packets_are_balanced_at_the_pods_device(self, tmp_path: Path) -> None:
        deployment = cilium(cluster_with(tmp_path, "near", "far"), "cilium-ebpf", NATIVE, socket_lb=False)
        found = converse(deployment, "10.244.1.11", "10.96.0.41", 80, luck=0.7)
        for path in (found.first, found.established, found.reply):
            assert operations(path)["bpf_nat"] == 1
            assert not path or not path.hooks
        assert found.reply is not None
        assert found.reply.packet.source == "10.96.0.41"
        of_node = converse(deployment, "192.168.0.11", "10.96.0.41", 80)
        assert "bpf_nat" not in operations(of_node.first), "sockets of nodes are balanced all the same"
        assert of_node.first.hops[2].at == "connect4"

    @pytest.mark.parametrize("has_sockets", [True, False])
    def test_a_client_with_affinity_stays_with_its_server(self, tmp_path: Path, has_sockets: bool) -> None:
        cluster = cluster_with(tmp_path, "near", "far", affinity="ClientIP")
        deployment = cilium(cluster, "cilium-ebpf", socket_lb=has_sockets)
        servers = []
        for number, luck in enumerate((0.7, 0.2, 0.1)):
            found = converse(deployment, "10.244.1.11", "10.96.0.41", 80, luck=luck, source_port=40_000 + number)
            servers.append(found.first.packet.destination)
            assert found.first.decision is not None
            assert found.first.decision.is_sticky
            deployment.forget_connections()
        assert servers == [FAR, FAR, FAR]

    def test_node_ports_of_any_node_are_known_to_sockets(self, tmp_path: Path) -> None:
        deployment = cilium(cluster_with(tmp_path, "far"), "cilium-ebpf")
        for node in ("192.168.0.11", "192.168.0.12"):
            found = converse(deployment, "10.244.1.11", node, NODE_PORT)
            assert found.first.packet.destination == FAR
            assert found.reply is not None
            assert (found.reply.packet.source, found.reply.packet.source_port) == (node, NODE_PORT)
            deployment.forget_connections()

    def test_openings_and_costs_of_a_run_are_flat_in_services(self) -> None:
        cost = []
        for services in (10, 3000):
            settled = scenario(
                cni="cilium", proxy="cilium-ebpf", cluster={"services": services}, traffic={"workload": "tcp_crr"}
            )
            cost.append(run(settled).summary["first_packet_ns"])
        assert cost[0] == cost[1]


class TestOutside:
    """Clients outside, by NodePort and load balancer."""

    @pytest.mark.parametrize(
        ("address", "port", "policy"), [("192.168.0.11", NODE_PORT, "Cluster"), (BALANCED, 80, "Local")]
    )
    @pytest.mark.parametrize("settings", [{}, NATIVE])
    def test_a_server_on_the_same_node_sees_the_client(
        self, tmp_path: Path, settings: dict[str, Any], address: str, port: int, policy: str
    ) -> None:
        deployment = cilium(cluster_with(tmp_path, "near", policy=policy), "cilium-ebpf", settings)
        first, reply, second, _ = call(deployment, address, port)
        assert (first.packet.source, first.packet.destination) == (client_of(deployment), NEAR)
        assert way(first) == ["outside-1", "n1"]
        assert way(reply) == ["n1", "outside-1"]
        assert (reply.packet.source, reply.packet.source_port) == (address, port)
        assert not first.hooks
        assert not reply.hooks
        assert operations(second)["bpf_nat"] == operations(reply)["bpf_nat"] == 1

    @pytest.mark.parametrize(
        ("settings", "source", "hooks"),
        [(NATIVE, "192.168.0.11", []), ({}, "10.244.1.1", ["output", "postrouting", "prerouting", "input"])],
    )
    def test_answers_of_another_node_come_back_through_the_first(
        self, tmp_path: Path, settings: dict[str, Any], source: str, hooks: list[str]
    ) -> None:
        first, reply, second, _ = call(
            cilium(cluster_with(tmp_path, "far"), "cilium-ebpf", settings), "192.168.0.11", NODE_PORT
        )
        assert (first.packet.source, first.packet.destination) == (source, FAR)
        assert first.packet.source_port == second.packet.source_port >= 32_768
        assert way(first) == ["outside-1", "n1", "n2"]
        assert way(reply) == ["n2", "n1", "outside-1"]
        assert (reply.packet.source, reply.packet.source_port) == ("192.168.0.11", NODE_PORT)
        assert [visit.hook for visit in first.hooks] == hooks, "only those of the tunnel's packet"
        assert operations(first)["bpf_nat"] == operations(reply)["bpf_nat"] == 2

    @pytest.mark.parametrize("settings", [LEGACY, NATIVE | LEGACY])
    @pytest.mark.parametrize("place", ["near", "far"])
    def test_legacy_host_routing_sees_requests_to_its_own_pods_only(
        self, tmp_path: Path, settings: dict[str, Any], place: str
    ) -> None:
        first, reply, second, again = call(
            cilium(cluster_with(tmp_path, place), "cilium-ebpf", settings), "192.168.0.11", NODE_PORT
        )
        for answer in (reply, again):
            assert (answer.packet.source, answer.packet.source_port) == ("192.168.0.11", NODE_PORT)
            assert not [visit for visit in answer.hooks if visit.hook == "forward" and visit.host == "n1"]
        forwarded = [visit.host for visit in first.hooks if visit.hook == "forward"]
        assert forwarded == [visit.host for visit in second.hooks if visit.hook == "forward"]
        assert forwarded == {"near": ["n1"], "far": ["n2"] if "routing" in settings else []}[place]

    @pytest.mark.parametrize("mode", ["dsr", "hybrid"])
    def test_with_direct_return_another_node_answers_itself(self, tmp_path: Path, mode: str) -> None:
        deployment = cilium(cluster_with(tmp_path, "far"), "cilium-ebpf", NATIVE, mode=mode)
        first, reply, second, again = call(deployment, "192.168.0.11", NODE_PORT)
        assert (first.packet.source, first.packet.destination) == (client_of(deployment), FAR)
        assert way(first) == ["outside-1", "n1", "n2"]
        assert way(reply) == way(again) == ["n2", "outside-1"]
        assert (reply.packet.source, reply.packet.source_port) == ("192.168.0.11", NODE_PORT)
        sizes = [[hop.size_bytes for hop in path.hops if hop.operation == "nic_serialise"] for path in (first, second)]
        assert sizes[0][1] == sizes[0][0] + 8, "the option"
        assert sizes[1][1] == sizes[1][0], "which only the SYN has"

    def test_hybrid_is_for_tcp_only(self, tmp_path: Path) -> None:
        cluster = cluster_of(
            TOPOLOGY.replace(
                "spec: {clusterIP: 10.96.0.21, ports: [{port: 53, targetPort: 5353, protocol: UDP}]}",
                "spec: {type: NodePort, clusterIP: 10.96.0.21, "
                "ports: [{port: 53, targetPort: 5353, protocol: UDP, nodePort: 30080}]}",
            ),
            tmp_path,
        )
        for mode, expected in (("dsr", ["n2", "outside-1"]), ("hybrid", ["n2", "n1", "outside-1"])):
            deployment = cilium(cluster, "cilium-ebpf", NATIVE, mode=mode)
            paths = call(deployment, "192.168.0.11", NODE_PORT, "udp")
            assert way(paths[1]) == way(paths[3]) == expected

    def test_a_local_policy_keeps_to_the_node(self, tmp_path: Path) -> None:
        deployment = cilium(cluster_with(tmp_path, "near", "far", policy="Local"), "cilium-ebpf")
        assert call(deployment, "192.168.0.11", NODE_PORT, luck=0.9)[0].packet.destination == NEAR
        alone = cilium(cluster_with(tmp_path, "far", policy="Local"), "cilium-ebpf")
        refused = converse(alone, client_of(alone), "192.168.0.11", NODE_PORT).first
        assert "connection refused" in str(refused.reason)

    def test_source_ranges_are_for_the_load_balancers_address(self, tmp_path: Path) -> None:
        for given, is_admitted in (("198.51.100.0/24", False), ("192.168.0.0/24", True)):
            text = TOPOLOGY + SERVICES.replace("POLICY", "Cluster").replace("AFFINITY", "None")
            text = text.replace(
                "ports: [{port: 80, t", f"loadBalancerSourceRanges: [{given}]\n    ports: [{{port: 80, t"
            )
            cluster = cluster_of(text.replace("ADDRESSES", AT["near"]), tmp_path, load_balancer="bgp")
            deployment = cilium(cluster, "cilium-ebpf")
            found = converse(deployment, client_of(deployment), BALANCED, 80).first
            assert (found.reason is None) is is_admitted
            assert is_admitted or "is in no source range of 203.0.113.240:80" in str(found.reason)
            assert converse(deployment, client_of(deployment), "192.168.0.11", NODE_PORT).first.reason is None

    def test_maglev_chooses_by_the_flow_for_clients_outside_only(self, tmp_path: Path) -> None:
        cluster = cluster_with(tmp_path, "near", "far")
        found = [
            call(cilium(cluster, "cilium-ebpf", algorithm="maglev"), "192.168.0.11", NODE_PORT, luck=luck)[0]
            for luck in (0.1, 0.9)
        ]
        assert found[0].packet.destination == found[1].packet.destination
        decision = found[0].decision
        assert decision is not None
        assert decision.schedule is not None
        spread = Counter(decision.schedule("192.0.2.1", port)[0] for port in range(2000))
        assert spread[NEAR] == pytest.approx(1000, rel=0.15)
        assert spread[FAR] + spread[NEAR] == 2000
        inside = converse(cilium(cluster, "cilium-ebpf", algorithm="maglev"), "10.244.1.11", "10.96.0.41", 80)
        assert inside.first.decision is not None
        assert inside.first.decision.schedule is None

    def test_pods_call_outside_under_their_nodes_address(self, tmp_path: Path) -> None:
        for settings in ({}, NATIVE):
            deployment = cilium(cluster_of(TOPOLOGY, tmp_path), "cilium-ebpf", settings)
            found = converse(deployment, "10.244.1.11", client_of(deployment), 443)
            assert found.first.packet.source == "192.168.0.11"
            assert found.reply is not None
            assert (found.reply.reason, found.reply.packet.destination) == (None, "10.244.1.11")

    def test_servers_on_the_nodes_own_network(self, tmp_path: Path) -> None:
        text = TOPOLOGY + SERVICES.replace("POLICY", "Cluster").replace("AFFINITY", "None")
        for place, passed in (("192.168.0.11", ["n1", "outside-1"]), ("192.168.0.12", ["n2", "n1", "outside-1"])):
            cluster = cluster_of(text.replace("ADDRESSES", f"{{ip: {place}}}"), tmp_path)
            paths = call(cilium(cluster, "cilium-ebpf"), "192.168.0.11", NODE_PORT)
            assert paths[0].packet.destination == place
            assert way(paths[1]) == passed
            assert (paths[1].packet.source, paths[1].packet.source_port) == ("192.168.0.11", NODE_PORT)


def played(tmp_path: Path, proxy: dict[str, Any], **traffic: Any) -> Result:
    """Connections of clients outside to node ports of the first node; half of the servers are on it."""
    text = TOPOLOGY + SERVICES.replace("POLICY", "Cluster").replace("AFFINITY", "None")
    file = tmp_path / "manifest.yaml"
    file.write_text(text.replace("ADDRESSES", f"{AT['near']}, {AT['far']}"))
    asked = {"workload": "tcp_crr", "clients_on": ["outside"], "clients": 3, "transactions": 60, "to": "web"}
    wanted = {
        "cluster": {"manifests": [str(file)], "node_cidr": "192.168.0.0/24"},
        "cni": {"name": "cilium", **NATIVE},
        "proxy": {"name": "cilium-ebpf", **proxy},
        "traffic": {**asked, **traffic},
    }
    return run(Scenario.model_validate(wanted))


class TestRuns:
    """Whole runs with clients outside."""

    def test_direct_return_spares_the_node_in_between(self, tmp_path: Path) -> None:
        only = {"through": "node-port", "node_ports_of": ["n1"]}
        work = {}
        for mode in ("snat", "dsr"):
            result = played(tmp_path, {"mode": mode}, **only)
            assert result.transactions["is_complete"].all()
            assert set(result.transactions["server"]) == {"default/p12", "default/p21"}
            hops = result.hops()
            work[mode] = int(hops[hops["node"] == "n1"]["cost_ns"].sum())
        assert work["dsr"] < 0.9 * work["snat"]

    @pytest.mark.parametrize("algorithm", ["random", "maglev"])
    def test_every_connection_through_a_load_balancer_is_served(self, tmp_path: Path, algorithm: str) -> None:
        result = played(tmp_path, {"algorithm": algorithm})
        assert result.transactions["is_complete"].all()
        assert 0.2 < (result.transactions["server"] == "default/p12").mean() < 0.8

    def test_pods_call_the_load_balancers_address_at_their_sockets(self, tmp_path: Path) -> None:
        result = played(tmp_path, {}, clients_on=["n1"], through="load-balancer")
        assert result.transactions["is_complete"].all()
        assert "bpf_nat" not in set(result.hops()["operation"])


class TestWhatItWrites:
    """Maps as text, and their changes."""

    def test_services_as_text(self, tmp_path: Path) -> None:
        cluster = cluster_with(tmp_path, "near", "far")
        text = Plugin(cluster, Settings()).text(cluster.node("n1"), "services", "ipv4")
        assert text.splitlines()[0].split() == ["ID", "Frontend", "Service", "Type", "Backend"]
        rows = [line.split() for line in text.splitlines()]
        start = next(number for number, row in enumerate(rows) if "10.96.0.41:80/TCP" in row)
        assert rows[start][1:] == ["10.96.0.41:80/TCP", "ClusterIP", "1", "=>", "10.244.1.12:8080/TCP", "(active)"]
        assert rows[start + 1] == ["2", "=>", "10.244.2.21:8080/TCP", "(active)"]
        kinds = {row[1]: row[2] for row in rows if len(row) > 4}
        assert kinds["203.0.113.240:80/TCP"] == "LoadBalancer"
        assert kinds["192.168.0.11:30080/TCP"] == kinds["0.0.0.0:30080/TCP"] == "NodePort"
        with pytest.raises(InputError, match="no form 'service' of cilium-ebpf: did you mean 'services'"):
            Plugin(cluster, Settings()).text(cluster.node("n1"), "service", "ipv4")

    @pytest.mark.parametrize("services", [10, 1000])
    def test_a_change_writes_only_what_differs(self, services: int) -> None:
        costs = {}
        for change in ("service-added", "endpoint-replaced", "node-restarted"):
            settled = scenario(
                cni="cilium",
                proxy="cilium-ebpf",
                cluster={"services": services, "endpoints": 3},
                update={"change": change},
                traffic={"workload": "tcp_rr", "transactions": 2},
            )
            summary = run(settled).summary
            costs[change] = summary["update_rules"], summary["update_ns"]
        assert costs["service-added"][0] == 2 + 3 + 3, "the address, its way back, slots and servers"
        assert costs["endpoint-replaced"][0] == 3 + 1 + 1, "slots that have moved; one server more, one less"
        assert costs["node-restarted"][0] == services * 8
        assert costs["service-added"][1] == pytest.approx(8 * costs["node-restarted"][1] / (services * 8), rel=0.01)

    def test_a_table_of_maglev_is_written_for_addresses_outside(self, tmp_path: Path) -> None:
        cluster = cluster_with(tmp_path, "near", "far")
        sizes = [
            Plugin(cluster, Settings(algorithm=algorithm)).update(cluster.node("n1"), None, is_partial=True)
            for algorithm in ("random", "maglev")
        ]
        assert sizes[1].rules - sizes[0].rules == 3, "of the load balancer's, the node's, and any node's address"
        assert sizes[1].text_bytes - sizes[0].text_bytes == 3 * 4 * 16_381


class TestRefusals:
    """What cannot work."""

    def test_other_plugins_have_no_programs(self) -> None:
        deployment = deploy(sized_cluster(), "calico-bgp", "cilium-ebpf")
        with pytest.raises(InputError, match="needs programs at the devices of pods, which node-1 has not"):
            deployment.host("node-1")

    @pytest.mark.parametrize("mode", ["dsr", "hybrid"])
    def test_direct_return_does_not_go_through_a_tunnel(self, mode: str) -> None:
        deployment = cilium(build_cluster(ClusterSpec(nodes=1)), "cilium-ebpf", mode=mode)
        with pytest.raises(InputError, match=rf"proxy.mode: {mode} needs nodes that route the pods' packets"):
            deployment.host("node-1")
