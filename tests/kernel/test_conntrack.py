"""A conntrack table that is full, source ports that are used up, and short lists of clients."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.kernel.namespace import Host, Namespace
from kubesim.kernel.netfilter.conntrack import Conntrack
from kubesim.kernel.netfilter.hooks import Hook, HookCall, Verdict
from kubesim.kernel.netfilter.nat import Nat
from kubesim.kernel.netfilter.recent import PLACES, RecentClients
from kubesim.kernel.packet import Packet
from kubesim.kernel.walk import Walk
from tests.clusters import cluster_of, converse, deploy, operations, sized_cluster


def table_of(limit: int, buckets: int = 1, others: int = 0) -> Conntrack:
    """A table of its own; with one bucket, every search sees all entries."""
    table = Conntrack(Host("node").root)
    table.limit, table.buckets, table.others = limit, buckets, others
    return table


def call_of(hook: Hook, namespace: Namespace) -> HookCall:
    """A hook without devices."""
    return HookCall(hook, namespace, None, None)


def send(table: Conntrack, packet: Packet) -> dict[str, int]:
    """Show a packet to the table as on its way through a node; what it paid, by operation and items."""
    walk, namespace = Walk(), table._namespace
    verdict = table.track(walk, packet, call_of(Hook.PREROUTING, namespace))
    if verdict is Verdict.ACCEPT:
        table.confirm(walk, packet, call_of(Hook.POSTROUTING, namespace))
    path = walk.run(packet)
    found: dict[str, int] = {}
    for hop in path.hops:
        found[hop.operation] = found.get(hop.operation, 0) + hop.items
    return found


def packet(number: int, protocol: str = "udp") -> Packet:
    """The first packet of a connection by number."""
    return Packet("10.0.0.1", "10.0.0.2", protocol, 1000 + number, 80, 0)


def reply(number: int, protocol: str = "udp") -> Packet:
    """Its answer."""
    return Packet("10.0.0.2", "10.0.0.1", protocol, 80, 1000 + number, 0)


NEW = {"conntrack_lookup": 1, "conntrack_new": 1, "conntrack_confirm": 1}


def test_a_table_takes_as_many_as_its_limit_says() -> None:
    table = table_of(limit=3)
    assert [send(table, packet(number)) for number in range(3)] == [NEW] * 3
    assert len(table) == 3


def test_a_full_table_lets_those_go_that_are_not_assured() -> None:
    table = table_of(limit=2, buckets=1)
    for number in range(2):
        send(table, packet(number, "tcp"))
        send(table, reply(number, "tcp"))
    send(table, packet(0, "tcp"))
    assert [one.is_assured for one in table.connections()] == [True, False], "the handshake of one is done"
    found = send(table, packet(9, "tcp"))
    assert found == {**NEW, "conntrack_early_drop": 4, "conntrack_evict": 1}, "each entry is there in both directions"
    assert [one.original.source_port for one in table.connections()] == [1000, 1009]


def test_a_full_table_of_assured_connections_drops_new_ones_and_keeps_the_others() -> None:
    table = table_of(limit=2, buckets=1, others=1)
    for one in (packet(0, "tcp"), reply(0, "tcp"), packet(0, "tcp")):
        send(table, one)
    refused = packet(1, "tcp")
    assert send(table, refused) == {"conntrack_lookup": 1, "conntrack_early_drop": 2 + 8 * 2}
    assert refused.connection is None
    assert send(table, packet(0, "tcp")) == {"conntrack_lookup": 1}
    assert send(table, reply(0, "tcp")) == {"conntrack_lookup": 1}


@given(others=st.integers(0, 2_000_000))
def test_a_search_meets_the_entries_of_eight_buckets(others: int) -> None:
    found = send(table_of(limit=1, buckets=262_144, others=max(1, others)), packet(0))
    assert found["conntrack_early_drop"] == 16 * max(1, others) // 262_144


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 8), st.integers(1, 64))
def test_no_table_is_ever_fuller_than_its_limit(numbers: list[int], limit: int, buckets: int) -> None:
    table = table_of(limit, buckets)
    for number in numbers:
        send(table, packet(number, "tcp"))
        send(table, reply(number, "tcp"))
        send(table, packet(number, "tcp"))
        assert len(table) <= limit


def test_a_packet_through_a_full_node_says_what_linux_logs() -> None:
    cluster = sized_cluster(services=1, endpoints=1, endpoint_nodes=["node-2"])
    deployment = deploy(cluster, "flannel-host-gw", "iptables")
    client, virtual = cluster.pod("client-1").address, str(cluster.service("svc-1").cluster_ip)
    for name, dropped_at in (("node-2", "node-2"), ("node-1", "node-1")):
        table = deployment.host(name).root.conntrack
        assert table is not None
        table.limit = table.others = 1000
        deployment.forget_connections()
        first = converse(deployment, client, virtual, 80).first
        assert first.reason == f"nf_conntrack: table full, dropping packet, in {name}"
        assert first.hops[-1].host == dropped_at
        assert [hop.operation for hop in first.hops[-2:]] == ["conntrack_lookup", "conntrack_early_drop"]


def masquerade(nat: Nat, table: Conntrack, number: int, *, is_random_port: bool = False) -> tuple[str | None, int, int]:
    """Open a connection to one server from behind one address; why it failed, its port, and the ports tried in vain."""
    walk, namespace, one = Walk(), table._namespace, packet(0)
    one.source = f"10.1.{number // 250}.{number % 250}"
    table.track(walk, one, call_of(Hook.PREROUTING, namespace))
    assert one.connection is not None
    nat.translate_source(walk, one.connection, "192.0.2.1", is_random_port=is_random_port)
    table.confirm(walk, one, call_of(Hook.POSTROUTING, namespace))
    path = walk.run(one)
    tried = sum(hop.items for hop in path.hops if hop.operation == "nat_port_search")
    reason = path.reason if one.connection.is_confirmed is False else None
    return reason, one.connection.reply.destination_port, tried


def test_translated_ports_are_kept_then_searched_then_used_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubesim.kernel.netfilter.nat._PORTS", 40)
    nat = Nat(Host("node").root)
    table = nat._conntrack
    first = masquerade(nat, table, 0)
    assert first == (None, 1000, 0), "its own port, which is below those that are drawn"
    found = [masquerade(nat, table, number) for number in range(1, 41)]
    assert {port for _, port, _ in found} == set(range(1024, 1064))
    assert not any(reason for reason, _, _ in found)
    assert max(tried for _, _, tried in found) > 0
    reason, _, tried = masquerade(nat, table, 41)
    assert reason == "conntrack of node: another connection has the same tuple (insert_failed)"
    assert tried == 128 + 64 + 32 + 16 + 8
    assert len(table) == 41


def test_a_random_port_that_is_free_costs_no_search() -> None:
    nat = Nat(Host("node").root)
    reason, port, tried = masquerade(nat, nat._conntrack, 0, is_random_port=True)
    assert (reason, tried) == (None, 0)
    assert port != 1000


@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 5))
def test_a_list_of_clients_holds_those_seen_last(numbers: list[int], places: int) -> None:
    clients = RecentClients(places)
    for number in numbers:
        clients.note(str(number))
    last = list(dict.fromkeys(reversed(numbers)))[:places]
    assert {number for number in range(10) if str(number) in clients} == set(last)


AFFINITY = """
{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {selector: {app: w}, sessionAffinity: ClientIP, ports: [{port: 80}]}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: w}, spec: {replicas: 2, template: {metadata: {labels: {app: w}}, spec: {}}}}
---
{apiVersion: apps/v1, kind: Deployment, metadata: {name: client}, spec: {replicas: 102, template: {metadata: {labels: {app: c}}, spec: {nodeName: node-1}}}}
"""


@pytest.mark.parametrize(("proxy", "is_kept"), [("iptables", False), ("nftables", True)])
def test_affinity_of_a_node_with_more_than_100_clients_is_lost(proxy: str, is_kept: bool, tmp_path: Path) -> None:
    cluster = cluster_of(AFFINITY, tmp_path, nodes=1)
    deployment = deploy(cluster, "calico-bgp", proxy)
    virtual = str(cluster.service("web").cluster_ip)
    clients = [pod.address for pod in cluster.pods if pod.owner == "client"]
    assert len(clients) > PLACES
    servers = [converse(deployment, client, virtual, 80, luck=0.1).first.packet.destination for client in clients]
    assert len(set(servers)) == 1
    for client, expected in ((clients[-1], True), (clients[0], is_kept)):
        again = converse(deployment, client, virtual, 80, luck=0.9, source_port=41_000).first
        assert (again.packet.destination == servers[0]) is expected


def test_operations_of_a_connection_that_fits_are_as_without_a_limit() -> None:
    cluster = sized_cluster(services=1, endpoints=1, endpoint_nodes=["node-2"])
    client, virtual = cluster.pod("client-1").address, str(cluster.service("svc-1").cluster_ip)
    without, limited = (deploy(cluster, "calico-bgp", "iptables") for _ in range(2))
    for node in ("node-1", "node-2"):
        table = limited.host(node).root.conntrack
        assert table is not None
        table.limit, table.others = 1000, 900
    found = [converse(deployment, client, virtual, 80) for deployment in (without, limited)]
    assert operations(found[0].first) == operations(found[1].first)
