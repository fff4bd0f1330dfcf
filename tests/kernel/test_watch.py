"""What is seen of a packet on its way: its headers where they change, and what tables say."""

from __future__ import annotations

from kubesim.kernel import socket
from kubesim.kernel.netfilter.targets import Accept, DestinationNat
from kubesim.kernel.packet import FlowTuple, Packet
from kubesim.kernel.walk import Path
from kubesim.kernel.watch import Watch, headers_of
from tests.clusters import deploy, sized_cluster

CLIENT, VIRTUAL, SERVER = "10.244.0.2", "10.96.0.2", "10.244.1.4"


def walked(watch: Watch | None) -> Path:
    """An opening packet to a Service whose endpoints are on the other node, behind VXLAN."""
    cluster = sized_cluster(endpoint_nodes=["node-2"])
    deployment = deploy(cluster, "flannel-vxlan", "iptables")
    packet = Packet(CLIENT, VIRTUAL, "tcp", 40_000, 80, 64, is_opening=True)
    return socket.send(deployment.namespace_at(CLIENT), packet, materialise=deployment.materialise, watch=watch)


def test_watching_changes_nothing() -> None:
    watched, alone = walked(Watch()), walked(None)
    assert alone.watch is None
    assert (watched.hops, watched.hooks, watched.rules_tested) == (alone.hops, alone.hooks, alone.rules_tested)


def test_headers_where_they_change() -> None:
    path = walked(watch := Watch())
    assert path.watch is watch
    changed = [watch.sights[0]]
    for sight in watch.sights:
        if sight.headers != changed[-1].headers:
            changed.append(sight)
    sent = FlowTuple(CLIENT, VIRTUAL, "tcp", 40_000, 80)
    translated = FlowTuple(CLIENT, SERVER, "tcp", 40_000, 8080)
    assert [sight.headers[-1] for sight in changed] == [sent, translated, translated, translated]
    assert [len(sight.headers) for sight in changed] == [1, 1, 2, 1]
    assert changed[2].headers[0][:3] == ("192.168.0.11", "192.168.0.12", "udp")
    before = [path.hops[sight.hops_before - 1].operation for sight in changed[1:]]
    assert before == ["nat_rewrite", "vxlan_encapsulate", "gro_cells"]
    assert [sight.namespace.name for sight in changed] == ["default/client-1", "node-1", "node-1", "node-2"]


def test_every_hook_and_every_rule_is_seen() -> None:
    path = walked(watch := Watch())
    assert len(watch.hook_starts) == len(path.hooks)
    assert watch.hook_starts == sorted(watch.hook_starts)
    assert sum(ruling.state.tested for ruling in watch.rulings) == sum(path.rules_tested.values())
    verdicts = [ruling.state.verdict for ruling in watch.rulings if ruling.state.verdict is not None]
    assert [type(verdict) for verdict in verdicts] == [DestinationNat, Accept, Accept]


def test_headers_from_the_outermost_in() -> None:
    inner = Packet("10.0.0.1", "10.0.0.2", "tcp", 1, 2, 10)
    outer = Packet("192.168.0.1", "192.168.0.2", "ipencap", 0, 0, 0, inner=inner)
    assert headers_of(outer) == (outer.flow, inner.flow)
