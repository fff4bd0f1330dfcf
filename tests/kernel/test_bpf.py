"""Programs at devices, and what their maps keep."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.kernel.address import Prefix
from kubesim.kernel.bpf.connections import ConnectionMap, Direction, Place, Tracked
from kubesim.kernel.bpf.program import Program, Verdict, redirect, redirect_neigh, redirect_peer
from kubesim.kernel.bpf.services import Frontend, Services, VirtualService
from kubesim.kernel.bpf.sockets import SocketPrograms
from kubesim.kernel.bpf.source_nat import SourceNat
from kubesim.kernel.bpf.state import Bpf
from kubesim.kernel.device import Device
from kubesim.kernel.namespace import Host, Namespace
from kubesim.kernel.packet import FlowTuple, Packet
from kubesim.kernel.route import Route
from kubesim.kernel.socket import send
from kubesim.kernel.veth import Veth, veth_pair
from kubesim.kernel.walk import Chance, Path, Walk

FLOW = FlowTuple("10.0.0.2", "10.0.1.2", "tcp", 40_000, 80)


class Pair:
    """Two namespaces behind veth pairs of one host, and what programs between them see."""

    def __init__(self) -> None:
        self.host = Host("machine")
        self.root = self.host.root
        self.root.is_forwarding = True
        self.near, self.near_end = self._attach("near", "10.0.0.2")
        self.far, self.far_end = self._attach("far", "10.0.1.2")
        self.seen: list[str] = []

    def _attach(self, name: str, address: str) -> tuple[Namespace, Veth]:
        inside = self.host.add_namespace(name)
        eth0, outside = veth_pair((inside, "eth0"), (self.root, name), 1500)
        inside.add_address(eth0, address)
        outside.is_proxy_arp = True
        inside.routes.add(Route(Prefix("0.0.0.0/0"), eth0, via="169.254.1.1"))
        self.root.routes.add(Route(Prefix(address), outside))
        return inside, outside

    def call(self, **fields: int) -> Path:
        packet = Packet("10.0.0.2", "10.0.1.2", "tcp", 40_000, 80, 64, is_opening=True)
        for field, value in fields.items():
            setattr(packet, field, value)
        return send(self.near, packet)

    def note(self, verdict: Verdict) -> Program:
        """A program that notes what it sees."""

        def program(_walk: Walk, _packet: Packet, device: Device) -> Verdict:
            self.seen.append(device.name)
            return verdict

        return program


def count(path: Path, operation: str) -> int:
    return sum(hop.operation == operation for hop in path.hops)


def test_programs_see_what_comes_in_and_what_goes_out() -> None:
    pair = Pair()
    pair.near_end.ingress_program = pair.note(Verdict.PASS)
    pair.far_end.egress_program = pair.note(Verdict.PASS)
    pair.far_end.ingress_program = pair.note(Verdict.PASS)
    assert pair.call().delivered_to == "far"
    assert pair.seen == ["near", "far"]


@pytest.mark.parametrize("end", ["near_end", "far_end"])
def test_what_a_program_takes_goes_no_further(end: str) -> None:
    pair = Pair()
    pair.near_end.ingress_program = pair.note(Verdict.TAKEN if end == "near_end" else Verdict.PASS)
    pair.far_end.egress_program = pair.note(Verdict.TAKEN)
    assert pair.call().reason == "the packet was consumed without reaching a socket"
    assert pair.seen == (["near"] if end == "near_end" else ["near", "far"])


def test_a_redirected_packet_skips_the_ip_layer_and_one_to_the_peer_the_backlog_too() -> None:
    pair = Pair()
    plain = pair.call()

    def to_device(walk: Walk, packet: Packet, _device: Device) -> Verdict:
        redirect(walk, packet, pair.far_end)
        return Verdict.TAKEN

    def to_peer(walk: Walk, packet: Packet, _device: Device) -> Verdict:
        redirect_peer(walk, packet, pair.far_end)
        return Verdict.TAKEN

    found = {}
    for name, program in (("device", to_device), ("peer", to_peer)):
        pair.near_end.ingress_program = program
        found[name] = pair.call()
        assert found[name].delivered_to == "far"
    assert [count(path, "ip_forward") for path in (plain, *found.values())] == [1, 0, 0]
    assert [count(path, "backlog") for path in (plain, *found.values())] == [2, 2, 1]
    assert [count(path, "veth_transmit") for path in (plain, *found.values())] == [2, 2, 1]


def test_a_packet_is_sent_to_its_next_hop() -> None:
    pair = Pair()

    def to_neighbour(walk: Walk, packet: Packet, _device: Device) -> Verdict:
        redirect_neigh(walk, packet, pair.root)
        return Verdict.TAKEN

    pair.near_end.ingress_program = to_neighbour
    found = pair.call()
    assert (found.delivered_to, count(found, "bpf_fib_lookup"), count(found, "ip_forward")) == ("far", 1, 0)
    assert "does not fit the MTU of 1400 of far" in str(_with(pair, mtu=1400).call(payload_bytes=1440).reason)
    assert "nobody answers for 10.0.1.2" in str(_with(pair, is_proxy_arp=False).call(ttl=1).reason)
    pair.root.routes.add(Route(Prefix("10.0.1.2"), None))
    assert "network unreachable" in str(pair.call().reason)


def _with(pair: Pair, **changes: int) -> Pair:
    for name, value in changes.items():
        setattr(pair.far_end, name, value)
    return pair


def test_a_reply_is_found_by_the_other_end_first() -> None:
    connections, walk = ConnectionMap(), Walk()
    assert connections.find(walk, FLOW, Direction.OUT) == (None, False)
    out = Tracked(called=Place("10.96.0.1", 80))
    connections.add(walk, FLOW, Direction.OUT, out)
    assert connections.find(walk, FLOW, Direction.OUT) == (out, False)
    assert connections.find(walk, FLOW, Direction.IN) == (None, False), "the other end has an entry of its own"
    assert connections.find(walk, FLOW.reversed(), Direction.IN) == (out, True)
    path = walk.run(Packet(*FLOW, payload_bytes=0))
    assert (count(path, "bpf_map_lookup"), count(path, "bpf_map_update")) == (2 + 2 + 2 + 1, 1)
    connections.flush()
    assert len(connections) == 0


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 65_535)), unique=True, max_size=40))
def test_translated_sources_are_told_apart_and_found_again(clients: list[tuple[int, int]]) -> None:
    nat, walk = SourceNat(), Walk()
    seen = {}
    for host, port in clients:
        packet = Packet(f"10.0.0.{host}", "10.0.1.2", "tcp", port, 80, 0)
        nat.translate(walk, packet, "192.0.2.1")
        assert packet.source == "192.0.2.1"
        assert packet.source_port >= 32_768
        seen[packet.flow] = (f"10.0.0.{host}", port)
    assert len(seen) == len(clients)
    for flow, client in seen.items():
        reply = Packet(*flow.reversed(), payload_bytes=0)
        assert nat.revert(walk, reply)
        assert (reply.destination, reply.destination_port) == client
    nat.flush()
    assert not any(nat.revert(walk, Packet(*flow.reversed(), payload_bytes=0)) for flow in seen)


@given(st.integers(2, 9), st.integers(0, 8))
def test_maglev_gives_equal_shares_and_keeps_most_when_one_goes(servers: int, gone: int) -> None:
    places = tuple(Place(f"10.0.0.{number}", 80) for number in range(servers))
    table = VirtualService(Frontend("10.96.0.1", "tcp", 80), places, has_maglev=True)
    rest = tuple(place for number, place in enumerate(places) if number != gone % servers)
    other = VirtualService(table.frontend, rest, has_maglev=True)
    clients = [("198.51.100.1", port) for port in range(1500)]
    before, after = ([service._scheduled(*client) for client in clients] for service in (table, other))
    shares = Counter(before)
    assert max(shares.values()) < 1.5 * len(clients) / servers
    moved = sum(old != new for old, new in zip(before, after, strict=True) if old != tuple(places[gone % servers]))
    assert moved < 0.1 * len(clients)


def test_sockets_of_named_namespaces_only() -> None:
    pair = Pair()
    service = VirtualService(Frontend("10.96.0.1", "tcp", 80), (Place("10.0.1.2", 8080),))
    services = Services(
        lambda frontend: service if frontend == service.frontend else None, is_at_sockets=True, is_at_card=False
    )
    pair.host.bpf = Bpf(services)
    for names, destination in ((None, "10.0.1.2"), (frozenset({"near"}), "10.0.1.2"), (frozenset({"machine"}), None)):
        pair.host.bpf.sockets = SocketPrograms(services, names)
        packet = Packet("10.0.0.2", "10.96.0.1", "tcp", 40_000, 80, 64, is_opening=True)
        path = send(pair.near, packet, chance=Chance())
        assert path.delivered_to == ("far" if destination else None)
    pair.host.bpf.sockets = SocketPrograms(services)
    direct = pair.call()
    assert (direct.delivered_to, count(direct, "bpf_map_lookup")) == ("far", 1)


def test_flushing_a_host_forgets_its_programs_connections() -> None:
    pair = Pair()
    pair.host.bpf = Bpf(Services(lambda _frontend: None, is_at_sockets=False, is_at_card=False))
    pair.host.bpf.connections.add(Walk(), FLOW, Direction.OUT, Tracked())
    pair.host.forget_connections()
    assert len(pair.host.bpf.connections) == 0
