"""Open vSwitch: megaflows and upcalls, connections in zones, and that caches never change what is decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.kernel.address import Prefix
from kubesim.kernel.namespace import Host
from kubesim.kernel.openvswitch import (
    Action,
    Datapath,
    Discard,
    FlowKey,
    InternalPort,
    Mask,
    Megaflow,
    Output,
    Spread,
    Track,
)
from kubesim.kernel.packet import FlowTuple, Packet
from kubesim.kernel.veth import veth_pair
from kubesim.kernel.walk import Chance, Context, Path, Walk

CLIENT, SERVER, VIRTUAL = "10.0.0.1", "10.0.0.2", "10.96.0.1"


@dataclass
class Program:
    """User space that does as it is told, and counts how often it is asked."""

    decide: Callable[[FlowKey], tuple[Mask, Action]]
    asked: list[FlowKey] = field(default_factory=list)

    def translate(self, key: FlowKey) -> Megaflow:
        self.asked.append(key)
        return Megaflow(*self.decide(key), tables=7)

    def answer(self, address: str) -> str | None:
        return "02:00:00:00:00:99" if address == SERVER else None


def bridge(decide: Callable[[FlowKey], tuple[Mask, Action]]) -> tuple[Datapath, Program]:
    """A datapath with the ports ``one`` and ``two``, which lead nowhere that matters, and the host's port ``own``."""
    host, program = Host("host"), Program(decide)
    datapath = Datapath(host.root, "datapath", program)
    for name in ("one", "two"):
        inside = host.add_namespace(f"pod-{name}")
        datapath.add_port(veth_pair((inside, "eth0"), (host.root, name), 1500)[1])
    InternalPort(host.root, "own", 1500, datapath)
    return datapath, program


def packet(destination: str = SERVER, port: int = 80, source_port: int = 40_000, payload_bytes: int = 64) -> Packet:
    return Packet(CLIENT, destination, "tcp", source_port, port, payload_bytes)


def pass_through(datapath: Datapath, sent: Packet, port: str = "one", luck: float = 0.0) -> Path:
    """Give a packet to the datapath from one of its ports."""
    walk = Walk(Chance(luck))
    walk.host = "host"
    walk.context = Context.SOFTIRQ
    datapath.ports[port].receive(walk, sent)
    return walk.run(sent)


def operations(path: Path) -> list[str]:
    return [hop.operation for hop in path.hops]


def lookups(path: Path) -> list[int]:
    """Masks tried at each lookup."""
    return [hop.items for hop in path.hops if hop.operation == "ovs_flow_lookup"]


def to_two(*fields: str) -> Callable[[FlowKey], tuple[Mask, Action]]:
    return lambda _key: (Mask(fields), Output("two"))


def test_a_first_packet_goes_to_user_space_and_back() -> None:
    datapath, program = bridge(to_two("in_port"))
    path = pass_through(datapath, packet())
    assert operations(path)[:6] == [
        "ovs_receive", "ovs_flow_lookup", "ovs_upcall", "ovs_translate", "ovs_flow_put", "veth_transmit",
    ]  # fmt: skip
    contexts = {hop.operation: hop.context for hop in path.hops}
    assert contexts["ovs_upcall"] is contexts["ovs_translate"] is contexts["ovs_flow_put"] is Context.DAEMON
    assert contexts["veth_transmit"] is Context.SOFTIRQ
    assert next(hop.items for hop in path.hops if hop.operation == "ovs_translate") == 7
    assert len(program.asked) == 1


def test_what_was_not_looked_at_may_differ() -> None:
    datapath, program = bridge(to_two("in_port", "destination"))
    pass_through(datapath, packet())
    assert "ovs_upcall" not in operations(pass_through(datapath, packet(port=81, source_port=5)))
    assert "ovs_upcall" in operations(pass_through(datapath, packet(destination="10.0.0.3")))
    assert "ovs_upcall" in operations(pass_through(datapath, packet(), port="two"))
    assert len(program.asked) == 3


def test_part_of_an_address_can_be_looked_at() -> None:
    datapath, program = bridge(lambda _key: (Mask.within(Prefix("10.0.0.0/24")), Output("two")))
    for destination in ("10.0.0.2", "10.0.0.77", "10.0.1.2"):
        pass_through(datapath, packet(destination))
    assert [key.destination for key in program.asked] == ["10.0.0.2", "10.0.1.2"]


def test_each_mask_is_a_table_and_a_flow_remembers_its_own() -> None:
    datapath, _ = bridge(
        lambda key: (
            Mask(("destination",)) if key.destination_port == 80 else Mask(("destination_port",)),
            Output("two"),
        )
    )
    assert lookups(pass_through(datapath, packet("10.0.0.9", port=80))) == [0], "no mask yet"
    assert lookups(pass_through(datapath, packet(port=81))) == [1], "tried in vain"
    assert lookups(pass_through(datapath, packet(port=81, source_port=7))) == [2], "the second holds it"
    assert lookups(pass_through(datapath, packet(port=81, source_port=7))) == [1], "remembered"
    datapath.flush(keeps_megaflows=True)
    assert lookups(pass_through(datapath, packet(port=81, source_port=7))) == [2]
    datapath.flush()
    assert lookups(pass_through(datapath, packet(port=81, source_port=7))) == [0]


def tracked(key: FlowKey) -> tuple[Mask, Action]:
    """Track all; new connections are made, and translated if they go to the virtual address."""
    mask = Mask(("recirculation", "state", "destination"))
    if not key.recirculation:
        return mask, Track(1, ("seen",))
    if key.recirculation == ("seen",) and key.state == "new":
        destination = (SERVER, 8080) if key.destination == VIRTUAL else None
        return mask, Track(1, ("made",), commit=True, mark=5, destination=destination)
    return mask, Output("two" if key.in_port == "one" else "one")


def test_connections_are_made_once_and_become_established() -> None:
    datapath, program = bridge(tracked)
    first = pass_through(datapath, packet())
    assert [one for one in operations(first) if one.startswith("conntrack")] == [
        "conntrack_lookup", "conntrack_new", "conntrack_confirm",
    ]  # fmt: skip
    assert len(lookups(first)) == 3, "each recirculation is another lookup"
    again = pass_through(datapath, packet())
    assert [one for one in operations(again) if one.startswith("conntrack")] == ["conntrack_lookup"]
    pass_through(datapath, Packet(*packet().flow.reversed(), 64), port="two")
    pass_through(datapath, packet())
    states = [(key.state, key.connection_mark) for key in program.asked if key.recirculation == ("seen",)]
    assert states == [("new", 0), ("reply", 5), ("established", 5)]
    assert len(datapath.zones) == 1
    assert datapath.namespace.conntrack is None, "netfilter's own table has nothing to do with it"


def test_translation_holds_in_both_directions() -> None:
    datapath, _ = bridge(tracked)
    request = packet(VIRTUAL)
    assert operations(pass_through(datapath, request)).count("nat_rewrite") == 1
    assert request.flow == FlowTuple(CLIENT, SERVER, "tcp", 40_000, 8080)
    reply = Packet(*request.flow.reversed(), 64)
    pass_through(datapath, reply, port="two")
    assert reply.flow == FlowTuple(VIRTUAL, CLIENT, "tcp", 80, 40_000)
    second = packet(VIRTUAL)
    assert "nat_setup" not in operations(pass_through(datapath, second))
    assert second.destination == SERVER


def test_zones_are_apart() -> None:
    datapath, program = bridge(
        lambda key: (
            Mask(("in_port", "recirculation", "state")),
            Output("own")
            if key.recirculation == ("made",)
            else Track(1 if key.in_port == "one" else 2, ("made",), commit=bool(key.recirculation))
            if key.recirculation
            else Track(1 if key.in_port == "one" else 2, ("seen",)),
        )
    )
    for port in ("one", "two"):
        pass_through(datapath, packet(), port=port)
    assert [key.state for key in program.asked if key.recirculation == ("seen",)] == ["new", "new"]
    assert len(datapath.zones) == 2


def test_a_group_spreads_by_the_flow_and_notes_the_choice() -> None:
    servers = tuple((f"10.0.0.{number}", 8080) for number in range(2, 6))
    datapath, _ = bridge(
        lambda key: (Mask(("recirculation",)), Output("two") if key.recirculation else Spread(servers, ("bucket",)))
    )
    chosen = [pass_through(datapath, packet(VIRTUAL), luck=luck).decision for luck in (0.1, 0.3, 0.6, 0.9)]
    assert [(one.destination, one.interval) for one in chosen if one is not None] == [
        ("10.0.0.2", (0.0, 0.25)), ("10.0.0.3", (0.25, 0.5)), ("10.0.0.4", (0.5, 0.75)), ("10.0.0.5", (0.75, 1.0)),
    ]  # fmt: skip


def test_the_host_is_a_port_too() -> None:
    datapath, _ = bridge(lambda key: (Mask(("in_port",)), Output("two" if key.in_port == "own" else "own")))
    up = pass_through(datapath, packet())
    assert operations(up)[-3:] == ["backlog", "ip_receive", "route_lookup"], "no device between"
    own = datapath.ports["own"]
    assert own.resolve(SERVER) == "02:00:00:00:00:99"
    assert own.resolve("10.0.0.77") is None
    walk = Walk()
    own.transmit(walk, packet())
    assert operations(walk.run(packet()))[0] == "ovs_receive"


@pytest.mark.parametrize(("payload_bytes", "is_sent"), [(1448, True), (1449, False)])
def test_what_is_too_long_is_dropped(payload_bytes: int, *, is_sent: bool) -> None:
    datapath, _ = bridge(to_two("in_port"))
    path = pass_through(datapath, packet(payload_bytes=payload_bytes))
    assert ("veth_transmit" in operations(path)) is is_sent
    assert is_sent or "does not fit the MTU of 1500 of two" in str(path.reason)


def test_user_space_says_why_it_drops() -> None:
    datapath, _ = bridge(lambda _key: (Mask(()), Discard("nobody wants it")))
    assert pass_through(datapath, packet()).reason == "nobody wants it"
    assert pass_through(datapath, packet()).reason == "nobody wants it"


FIELDS = ("in_port", "source", "destination", "source_port", "destination_port")
KEYS = st.tuples(
    st.sampled_from(["one", "two"]), st.integers(0, 3), st.integers(0, 3), st.integers(1, 3), st.integers(1, 3)
)


@given(
    masks=st.lists(st.sets(st.sampled_from(FIELDS)), min_size=3, max_size=3),
    bits=st.integers(24, 32),
    sent=st.lists(KEYS, max_size=30),
)
def test_caches_do_not_change_what_is_decided(
    masks: list[set[str]], bits: int, sent: list[tuple[str, int, int, int, int]]
) -> None:
    """User space decides by what it looks at; what a packet meets is what would be decided for it alone."""

    def decide(key: FlowKey) -> tuple[Mask, Action]:
        looked_at = Mask((*sorted({"destination_port", *masks[key.destination_port % 3]}),), bits)
        return looked_at, Discard(repr(looked_at.of(key)))

    datapath, program = bridge(decide)
    for port, source, destination, source_port, destination_port in sent:
        one = Packet(f"10.0.0.{source}", f"10.0.0.{destination}", "udp", source_port, destination_port, 1)
        expected = decide(FlowKey(port, one.destination_mac, *one.flow))[1]
        assert Discard(str(pass_through(datapath, one, port).reason)) == expected
    assert len(program.asked) == len({repr(decide(key)) for key in program.asked}), "nothing is asked twice"
