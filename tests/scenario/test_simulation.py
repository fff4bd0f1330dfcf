"""Whole runs: reproducible, conserving, and of the shape that theory and measurement say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesim.errors import InputError
from kubesim.kernel import socket
from kubesim.kernel.packet import Packet
from kubesim.kernel.walk import Chance
from kubesim.proxy import proxy_class
from kubesim.scenario import Result, run, trace
from kubesim.scenario.deployment import Deployment
from kubesim.scenario.simulation import costs_of, deploy
from kubesim.scenario.visits import priced
from tests.clusters import ROUTED, converse, working_pairs
from tests.scenarios import CNIS, PROXIES, WORKLOADS, scenario, simulate


@pytest.mark.parametrize("workload", sorted(WORKLOADS))
@pytest.mark.parametrize("proxy", PROXIES)
def test_every_workload_runs_with_every_proxy(workload: str, proxy: str) -> None:
    result = simulate(traffic={"workload": workload}, proxy=proxy)
    summary = result.summary
    assert summary["lost_transactions"] == 0
    assert summary["refused_flows"] == 0
    assert summary["transactions"] > 0
    assert 0 < summary["latency_p50_ns"] <= summary["latency_p99_ns"]
    assert summary["throughput_per_s"] > 0
    assert 0 < summary["busiest_core_utilisation"] <= 1


@pytest.mark.parametrize("cni", CNIS)
@pytest.mark.parametrize("workload", sorted(WORKLOADS))
def test_packets_are_conserved(workload: str, cni: str) -> None:
    size = {"message_bytes": 1300} if workload == "udp_stream" else {}  # Weave's MTU is the smallest
    traffic = {"workload": workload, **size}
    result = simulate(traffic=traffic, cni=cni, hardware={"receive_ring": 4, "transmit_queue": 3})
    plan, trace = result.planned.plan, result.trace
    released = trace.arrive_ns[:, 0] >= 0
    delivered, dropped = trace.is_delivered(plan), trace.is_dropped()
    assert not (delivered & dropped).any()
    assert ((delivered | dropped) == released).all(), "nothing is in flight at the end"


def frames(result: Result) -> list[pd.DataFrame]:
    """Every table of a result."""
    return [result.transactions, result.breakdown, result.utilisation, result.packets(), result.hops()]


@pytest.mark.parametrize("workload", ["tcp_crr", "poisson_connections"])
def test_the_same_seed_gives_the_same_tables(workload: str) -> None:
    one, again = (simulate(traffic={"workload": workload}) for _ in range(2))
    for first, second in zip(frames(one), frames(again), strict=True):
        pd.testing.assert_frame_equal(first, second)
    assert one.summary == again.summary
    for changes in ({"seed": 2}, {"replication": 1}):
        assert simulate(traffic={"workload": workload}, **changes).summary != one.summary


def test_alternatives_meet_the_same_packets() -> None:
    """Common random numbers: arrivals, Services and the luck of service times do not depend on what is compared."""
    one, other = (
        simulate(traffic={"workload": "poisson_connections"}, proxy=proxy) for proxy in ("iptables", "nftables")
    )
    assert (one.messages.release_ns == other.messages.release_ns).all()
    assert (one.messages.flows.service == other.messages.flows.service).all()
    stretch = [result.planned.plan.service_ns[:, 0] / np.maximum(1, _means(result)[:, 0]) for result in (one, other)]
    assert np.corrcoef(*stretch)[0, 1] > 0.99


def _means(result: Result) -> Any:
    """Mean service time of each packet's visits, from its hops."""
    hops = result.hops()
    first = hops[hops["node"] == "node-1"].groupby("packet")["cost_ns"].sum()
    return np.array(first.reindex(range(result.planned.plan.packets), fill_value=0))[:, None]


PAIRS: list[tuple[Any, Any]] = [
    pair for pair in working_pairs(nodes=2) if pair[1] != "dump" and not proxy_class(pair[1]).is_headless
]
OF_CILIUM: list[tuple[Any, Any]] = [
    (
        {"name": "cilium", "routing": routing, "host_routing": host_routing},
        {"name": "cilium-ebpf", "socket_lb": sockets},
    )
    for routing in ("tunnel", "native")
    for host_routing in ("bpf", "legacy")
    for sockets in (True, False)
]
"""Its settings change where servers are chosen, and what is paid after that."""


@settings(max_examples=60)
@given(
    pair=st.sampled_from(PAIRS + OF_CILIUM),
    services=st.integers(1, 40),
    endpoints=st.integers(1, 6),
    nodes=st.integers(2, 3),
    seed=st.integers(0, 1000),
)
def test_openings_and_routes_put_together_are_whole_walks(
    pair: tuple[Any, Any], services: int, endpoints: int, nodes: int, seed: int
) -> None:
    """What is walked once per class is what a packet of its own would have walked, hop by hop."""
    cni, proxy = pair
    settled = scenario(
        cni=cni,
        proxy=proxy,
        seed=seed,
        cluster={"nodes": nodes, "services": services, "endpoints": endpoints, "endpoint_nodes": None},
        traffic={"workload": "tcp_crr", "transactions": 6, "clients": 2, "clients_on": ["node-1", "node-2"]},
    )
    result = run(settled)
    messages, classes, costs = result.messages, result.classes, costs_of(settled)
    for flow in range(len(messages.flows)):
        client = messages.clients[messages.flows.client[flow]].address
        service, port, *_ = messages.services[messages.flows.service[flow]]
        deployment = deploy(settled)
        listed = sorted(deployment.cluster.endpoints(service, port), key=lambda one: f"{one.address}:{one.port}")
        names = [deployment.server_name(one.address, one.port) for one in listed]
        position = names.index(classes.servers[classes.server[flow]])
        if proxy in ("ipvs", "userspace"):
            _bring_round_robin_to(position, deployment, client, str(service.cluster_ip))
        if deployment.has_one_flow_tunnels:  # a tunnel that all flows share has been used before
            converse(deployment, client, listed[position].address, listed[position].port, source_port=99)
            deployment.forget_connections(keeps_tunnels=True)
        luck = (position + 0.5) / endpoints
        if deployment.upcall_ratio is not None:  # others have left their megaflows
            server = (listed[position].address, listed[position].port) if proxy == "ipvs" else None
            other = Packet(client, str(service.cluster_ip), "tcp", 99, port.port, 64, is_opening=True)
            chance = Chance(luck, server)
            socket.send(deployment.namespace_at(client), other, chance=chance, materialise=deployment.materialise)
            deployment.forget_connections(keeps_megaflows=True)
        walked = converse(deployment, client, str(service.cluster_ip), port.port, luck=luck).first
        together = [*classes.openings[classes.opening[flow]].hops, *classes.routes[classes.route[flow]][0].hops]
        assert shape(together) == shape(priced(walked.hops, costs))


def _bring_round_robin_to(position: int, deployment: Deployment, client: str, virtual: str) -> None:
    """Open connections until round robin is about to choose the server at a position, then forget them."""
    for number in range(position):
        converse(deployment, client, virtual, 80, source_port=100 + number)
    deployment.forget_connections()


def shape(hops: Any) -> list[tuple[str, str, int]]:
    """Hops without what differs between a SYN and a packet with data: system calls and their bytes."""
    return [
        (one.hop.host, one.hop.operation, one.hop.items)
        for one in hops
        if not one.hop.operation.startswith(("syscall_", "socket_"))
    ]


def test_first_packets_are_linear_in_services_for_iptables_and_flat_for_nftables() -> None:
    sizes = np.array([10, 100, 1000, 3000])
    first: dict[str, list[float]] = {}
    established: dict[str, list[float]] = {}
    for proxy in ("iptables", "nftables", "ipvs"):
        for services in sizes:
            summary = simulate(
                cni="flannel-host-gw",
                proxy=proxy,
                cluster={"services": int(services)},
                traffic={"workload": "tcp_crr", "to": {"choice": "last"}, "transactions": 5},
            ).summary
            first.setdefault(proxy, []).append(summary["first_packet_ns"])
            established.setdefault(proxy, []).append(summary["established_packet_ns"])
    slopes = np.diff(first["iptables"]) / np.diff(sizes)
    assert slopes == pytest.approx(np.full(3, slopes.mean()), rel=0.15), "linear, a little steeper out of the caches"
    assert slopes.mean() == pytest.approx(2 * 4.75, rel=0.1), "scanned on both nodes"
    assert np.ptp(first["nftables"]) == 0
    assert np.ptp(first["ipvs"]) < 200, "its table of services has 256 buckets"
    for costs in established.values():
        assert np.ptp(costs) == 0


def test_keep_alive_hides_the_difference() -> None:
    gaps = []
    for requests in (1, 10, 100):
        cpu = [
            simulate(
                proxy=proxy,
                cni="flannel-host-gw",
                cluster={"services": 4000},
                traffic={"workload": "poisson_connections", "requests": requests, "connections": 30, "rate_per_s": 500},
            ).summary["cpu_ns_per_transaction"]
            for proxy in ("iptables", "nftables")
        ]
        gaps.append(cpu[0] / cpu[1] - 1)
    assert gaps[0] > 0.1
    assert gaps[1] < gaps[0] / 2
    assert gaps[2] < 0.02


@pytest.mark.parametrize("proxy", PROXIES)
def test_vxlan_costs_more_than_plain_routing(proxy: str) -> None:
    datagrams = {"workload": "udp_stream", "message_bytes": 64, "datagrams": 1500}
    by_cni, small = [], []
    for cni in ("flannel-vxlan", "flannel-host-gw", ROUTED):
        by_cni.append(simulate(cni=cni, proxy=proxy, hardware={"nic_gbit_per_s": 100}).summary)
        small.append(simulate(cni=cni, proxy=proxy, traffic=datagrams).summary["throughput_per_s"])
    for plain in (1, 2):
        assert by_cni[0]["established_packet_ns"] > by_cni[plain]["established_packet_ns"] + 1000
        assert by_cni[0]["latency_p50_ns"] > by_cni[plain]["latency_p50_ns"] + 2000
        if proxy != "userspace":  # whose process sends through the tunnel, on a core of its own
            assert small[0] < 0.9 * small[plain]


def test_calico_pays_for_its_own_chains_with_every_packet() -> None:
    with_chains, without = (simulate(cni=cni).summary for cni in ("calico-bgp", ROUTED))
    assert with_chains["established_packet_rules"] > without["established_packet_rules"] + 30
    assert with_chains["established_packet_ns"] > without["established_packet_ns"] + 1000


@pytest.mark.parametrize(
    ("cni", "bound"), [("flannel-vxlan", 1398 / 1538), ("flannel-host-gw", 1448 / 1538), ("calico-bgp", 1448 / 1538)]
)
def test_streams_reach_the_line_rate_and_no_more(cni: str, bound: float) -> None:
    result = simulate(
        cni=cni, hardware={"nic_gbit_per_s": 1}, traffic={"workload": "tcp_stream", "buffers": 400, "clients": 1}
    )
    goodput = result.summary["goodput_bit_per_s"] / 1e9
    assert goodput == pytest.approx(bound, rel=0.005)
    assert goodput <= bound * 1.0005


def test_little_law_holds_for_a_whole_network() -> None:
    """Transactions in flight on average: throughput times latency. In a closed loop it is the number of connections."""
    result = simulate(traffic={"transactions": 400, "connections": 6})
    frame = result.transactions
    complete = frame[frame["is_measured"]]
    product = result.summary["throughput_per_s"] * complete["latency_ns"].mean() / 1e9
    assert product == pytest.approx(6, rel=0.02)


def test_an_overloaded_receiver_loses_datagrams() -> None:
    result = simulate(
        traffic={
            "workload": "udp_stream",
            "clients": 6,
            "clients_on": ["node-1"],
            "datagrams": 3000,
            "to": {"choice": "first"},
        },
        hardware={"cores": 8, "softirq_cores": 1, "nic_gbit_per_s": 100},
    )
    assert result.summary["loss_ratio"] > 0.1
    assert result.summary["dropped_packets"] > 0


def test_tables_say_what_they_say() -> None:
    result = simulate(traffic={"workload": "tcp_crr", "transactions": 20, "connections": 1})
    transactions = result.transactions
    assert len(transactions) == 20
    assert (transactions["latency_ns"] == transactions["end_ns"] - transactions["start_ns"]).all()
    assert set(transactions["client"]) == {"default/client-1"}
    assert transactions["server"].str.startswith("default/svc-").all()
    packets = result.packets()
    assert set(packets["kind"]) == {"syn", "syn_ack", "ack", "request", "reply", "fin", "fin_ack", "last_ack"}
    assert packets.groupby("packet")["visit"].max().max() == 5
    assert (packets["service_ns"] >= 1).all()
    hops = result.hops()
    assert (hops.groupby("packet").size() > 20).all()
    syn = hops[hops["kind"] == "syn"]
    assert (syn[syn["operation"] == "conntrack_new"].groupby("packet").size() == 4).all(), (
        "inner and outer, on two nodes"
    )
    breakdown = result.breakdown
    assert breakdown["share"].sum() == pytest.approx(1)
    assert breakdown["total_ns"].sum() == hops["cost_ns"].sum()
    utilisation = result.utilisation
    assert (utilisation["utilisation"] <= 1).all()


def test_what_applications_compute_is_in_the_breakdown() -> None:
    result = simulate(traffic={"server_us": 50, "transactions": 20})
    (work,) = result.breakdown.loc[result.breakdown["operation"] == "application", "ns_per_transaction"]
    assert work == 50_000
    assert result.summary["latency_p50_ns"] > 50_000


HEADLESS = """\
{apiVersion: v1, kind: Service, metadata: {name: db}, spec: {clusterIP: None, selector: {app: db}, ports: [{port: 5432}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: en}, spec: {type: ExternalName, externalName: example.org}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec: {replicas: 2, template: {metadata: {labels: {app: db}}, spec: {containers: [{name: c}]}}}
"""


@pytest.fixture
def headless(tmp_path: Path) -> Path:
    """A manifest with a headless Service."""
    file = tmp_path / "headless.yaml"
    file.write_text(HEADLESS)
    return file


@pytest.mark.parametrize("proxy", PROXIES)
def test_clients_of_a_headless_service_have_its_pods_addresses(proxy: str, headless: Path) -> None:
    traffic = {"workload": "tcp_crr", "to": "db", "transactions": 40}
    result = simulate(cluster={"manifests": [headless]}, proxy=proxy, traffic=traffic)
    assert result.summary["lost_transactions"] == 0
    servers = result.transactions.groupby("server")["flow"].nunique()
    assert set(servers.index) == {"default/db-0", "default/db-1"}
    assert servers.min() > 5
    chosen = scenario(cluster={"manifests": [headless]}, proxy=proxy)
    direct = {trace(chosen, "client-1", f"{name}:5432").packets[0].rules_tested for name in ("db-0", "db-1")}
    hops = result.hops()
    is_rule = hops["operation"].isin(["iptables_rule", "iptables_nft_rule", "nft_rule"])
    rules = hops[hops["kind"].eq("syn") & is_rule].groupby("packet")["count"].sum()
    assert set(rules) == direct, "as if a client called the pod"


def test_an_external_name_is_no_target(headless: Path) -> None:
    with pytest.raises(InputError, match="Service default/en is an ExternalName, another name in DNS: no packet goes"):
        simulate(cluster={"manifests": [headless]}, traffic={"to": "en"})


def test_a_service_without_endpoints_refuses_everybody() -> None:
    result = simulate(cluster={"endpoints": 0})
    summary = result.summary
    assert summary["transactions"] == 0
    assert summary["refused_flows"] == 1
    (reason,) = result.planned.refusals
    assert "has no endpoints" in reason
    assert result.trace.arrive_ns.max() >= 0, "the SYN was sent"
    assert len(result.transactions) == 0
    assert "not one of the connections gets anywhere: there is nothing to measure" in result.notices
    assert not [notice for notice in simulate().notices if "gets anywhere" in notice]


def test_a_datagram_above_the_mtu_goes_in_fragments() -> None:
    rr = {"workload": "udp_rr", "transactions": 20}
    small, large = (simulate(traffic={**rr, "request_bytes": size}) for size in (1400, 4000))
    assert large.summary["loss_ratio"] == 0
    items = [one.breakdown.set_index("operation")["items"] for one in (small, large)]
    assert items[1]["nic_receive"] - items[0]["nic_receive"] == 20 * 2
    assert "ip_fragment" not in items[0]
    assert items[1]["ip_fragment"] == 20 * 3 * 3, "the pod, and both nodes, which put them together for conntrack"


def test_a_wake_up_is_paid_by_idle_cores_only() -> None:
    unloaded = simulate(traffic={"transactions": 100})
    waits = unloaded.trace.waiting_ns()[8:]
    assert (waits[waits > 0] == 1570).all(), "behind the handshake nobody waits but for cores to wake up"
    assert (waits > 0).sum() == (waits >= 0).any(axis=1).sum() * 2, "the receive queue's and the process's, each time"


def test_online_boutique_runs(online_boutique: Any) -> None:
    result = simulate(
        cluster={"manifests": [str(online_boutique)], "services": 0, "nodes": 3, "endpoint_nodes": None},
        traffic={"workload": "call_graph", "users": 2, "requests": 3, "clients_on": None},
    )
    assert len(result.transactions) == 6
    assert result.summary["lost_transactions"] == 0
    assert result.summary["latency_p50_ns"] > 17 * 100_000, "17 calls, each computing for 100 us"


def test_session_affinity_and_schedulers_in_a_run(tmp_path: Any) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: w}, sessionAffinity: ClientIP, ports: [{port: 80}]}}\n"
        "---\n"
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: w}, spec: {replicas: 5, template: {metadata: {labels: {app: w}}, spec: {}}}}\n"
    )
    for proxy in ("iptables", "nftables", "ipvs"):
        result = simulate(
            proxy=proxy,
            cluster={"manifests": [str(file)], "services": 0, "endpoint_nodes": None},
            traffic={"workload": "tcp_crr", "clients": 3, "transactions": 8, "to": "web", "clients_on": ["node-1"]},
        )
        servers = result.transactions.groupby("client")["server"].nunique()
        assert (servers == 1).all(), proxy


def test_schedulers_give_each_connection_of_a_client_to_the_next_server() -> None:
    """Also those of whose client and Service much is known by then."""
    result = simulate(
        proxy={"name": "ipvs", "scheduler": "rr"},
        cluster={"services": 2, "endpoints": 3},
        traffic={"workload": "tcp_crr", "transactions": 30, "connections": 1, "to": {"choice": "first"}},
    )
    servers = result.classes.server.tolist()
    assert len(servers) == 30
    assert all(len(set(servers[turn : turn + 3])) == 3 for turn in range(28)), "in turn"


def test_a_list_of_100_clients_loses_the_affinity_of_the_others(tmp_path: Any) -> None:
    """Clients of a node that come in turn: those that xt_recent has just forgotten are the next."""
    file = tmp_path / "m.yaml"
    file.write_text(
        "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: w}, sessionAffinity: ClientIP, ports: [{port: 80}]}}\n"
        "---\n"
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: w}, spec: {replicas: 5, template: {metadata: {labels: {app: w}}, spec: {}}}}\n"
    )
    moved = {}
    for proxy, clients in (("iptables", 600), ("iptables", 90), ("nftables", 600)):
        result = simulate(
            proxy=proxy,
            cni="flannel-host-gw",
            cluster={"manifests": [str(file)], "services": 0, "endpoint_nodes": None, "nodes": 1},
            traffic={
                "workload": "poisson_connections",
                "clients": clients,
                "connections": 3 * clients,
                "to": "web",
                "clients_on": ["node-1"],
            },
        )
        servers = result.transactions.groupby("client")["server"].nunique()
        moved[proxy, clients] = (servers > 1).mean()
    assert moved["iptables", 600] > 0.5, "each of 5 endpoints has a list of 100, and 120 clients"
    assert moved["iptables", 90] == 0
    assert moved["nftables", 600] == 0


def test_connections_are_spread_over_endpoints_alike() -> None:
    for proxy in PROXIES:
        result = simulate(
            proxy=proxy,
            cluster={"services": 1, "endpoints": 4},
            traffic={"workload": "tcp_crr", "transactions": 2000},
        )
        shares = result.transactions["server"].value_counts(normalize=True)
        assert len(shares) == 4
        assert shares.to_numpy() == pytest.approx(np.full(4, 0.25), abs=0.035), proxy
        if proxy == "ipvs":
            assert shares.nunique() == 1, "round robin is exact"
