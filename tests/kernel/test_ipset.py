"""IP sets: what is in them, their text, and reading it."""

from __future__ import annotations

import ipaddress
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.errors import InputError
from kubesim.kernel.namespace import Host
from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.ipset import Entry, IpSet, entry_text, install_ipsets, read_ipsets
from kubesim.kernel.netfilter.matches import InSet
from kubesim.kernel.netfilter.rule import Probe
from kubesim.kernel.netfilter.traversal import State
from kubesim.kernel.packet import Packet

SAVED = """\
create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536 bucketsize 12 initval 0x5fc7cf25
add KUBE-CLUSTER-IP 10.96.0.1,tcp:443
add KUBE-CLUSTER-IP 10.96.0.10,udp:53
create KUBE-LOOP-BACK hash:ip,port,ip family inet hashsize 1024 maxelem 65536
add KUBE-LOOP-BACK 10.244.1.5,tcp:8080,10.244.1.5
create SOURCES hash:ip,port,net family inet hashsize 1024 maxelem 65536
add SOURCES 1.2.3.4,tcp:80,10.0.0.0/8
add SOURCES 1.2.3.4,tcp:80,10.1.0.0/16 nomatch
add SOURCES 1.2.3.4,tcp:80,10.1.2.3
create PORTS bitmap:port range 0-65535
add PORTS 30001
create SIX hash:ip,port family inet6 hashsize 1024 maxelem 65536 comment
add SIX fd00::1,sctp:80 comment "a blank, and a comma"
create NAMES list:set size 8
add NAMES PORTS
create ODD hash:net,iface family inet hashsize 1024 maxelem 65536
add ODD 10.0.0.0/24,physdev:eth0
create PINGS hash:ip,port family inet hashsize 1024 maxelem 65536
add PINGS 10.0.0.1,icmp:echo-request
"""


def packet(source: str, destination: str, protocol: str, port: int) -> Packet:
    """A packet from port 40000."""
    return Packet(source, destination, protocol, 40_000, port, 0)


@pytest.fixture(scope="module")
def sets() -> dict[str, IpSet]:
    """The sets of the text above."""
    return read_ipsets(SAVED, "sets")


@pytest.mark.parametrize(
    ("name", "flags", "one", "expected"),
    [
        ("KUBE-CLUSTER-IP", "dst,dst", packet("10.9.0.1", "10.96.0.1", "tcp", 443), True),
        ("KUBE-CLUSTER-IP", "dst,dst", packet("10.9.0.1", "10.96.0.1", "udp", 443), False),
        ("KUBE-CLUSTER-IP", "src,dst", packet("10.96.0.1", "10.9.0.1", "tcp", 443), True),
        ("KUBE-CLUSTER-IP", "dst", packet("10.9.0.1", "10.96.0.1", "tcp", 443), False),
        ("KUBE-LOOP-BACK", "dst,dst,src", packet("10.244.1.5", "10.244.1.5", "tcp", 8080), True),
        ("KUBE-LOOP-BACK", "dst,dst,src", packet("10.244.1.6", "10.244.1.5", "tcp", 8080), False),
        ("SOURCES", "dst,dst,src", packet("10.9.0.1", "1.2.3.4", "tcp", 80), True),
        ("SOURCES", "dst,dst,src", packet("10.1.9.9", "1.2.3.4", "tcp", 80), False),
        ("SOURCES", "dst,dst,src", packet("10.1.2.3", "1.2.3.4", "tcp", 80), True),
        ("SOURCES", "dst,dst,src", packet("11.0.0.1", "1.2.3.4", "tcp", 80), False),
        ("SOURCES", "dst,dst,src", packet("fd00::9", "1.2.3.4", "tcp", 80), False),
        ("PORTS", "dst", packet("10.9.0.1", "10.0.0.1", "udp", 30001), True),
        ("PORTS", "src", packet("10.9.0.1", "10.0.0.1", "udp", 30001), False),
        ("SIX", "dst,dst", packet("fd00::9", "fd00::1", "sctp", 80), True),
        ("NAMES", "dst", packet("10.9.0.1", "10.0.0.1", "udp", 30001), False),
        ("ODD", "src,src", packet("10.0.0.1", "10.0.0.1", "udp", 30001), False),
    ],
)
def test_whether_a_packet_is_in_a_set(
    sets: dict[str, IpSet], name: str, flags: str, one: Packet, expected: bool
) -> None:
    assert sets[name].contains(one, tuple(flags.split(","))) is expected


def test_a_match_looks_sets_of_its_namespace_up(sets: dict[str, IpSet]) -> None:
    namespace = Host("node").root
    probe = Probe(packet("10.9.0.1", "10.0.0.1", "tcp", 30001), namespace, None, None)
    match = InSet("PORTS", ("dst",))
    assert match.probability(probe, State(Chain(""), 0)) == 0, "there is no such set"
    install_ipsets(namespace, sets.values())
    assert match.probability(probe, State(Chain(""), 0)) == 1


def test_what_was_read_is_printed_again() -> None:
    again = "".join(ipset.save() for ipset in read_ipsets(SAVED, "sets").values())
    assert {name: (one.kind, one.options, one.entries) for name, one in read_ipsets(again, "again").items()} == {
        name: (one.kind, one.options, one.entries) for name, one in read_ipsets(SAVED, "sets").items()
    }
    assert "add SOURCES 1.2.3.4,tcp:80,10.1.0.0/16 nomatch\n" in again
    assert "add PINGS 10.0.0.1,icmp:echo-request\n" in again


addresses = st.integers(0, 2**32 - 1).map(lambda number: str(ipaddress.IPv4Address(number)))


@given(
    ranges=st.lists(st.tuples(addresses, st.integers(1, 32)), max_size=8),
    source=addresses,
)
def test_a_range_is_found_as_by_comparing_with_each(ranges: list[tuple[str, int]], source: str) -> None:
    networks = [ipaddress.IPv4Network(f"{address}/{length}", strict=False) for address, length in ranges]
    entries: set[Entry] = {("1.2.3.4", "tcp", 80, str(network)) for network in networks}
    ipset = IpSet("S", "hash:ip,port,net", entries)
    asked = [source, *(str(network.broadcast_address) for network in networks)]
    for one in asked:
        expected = any(ipaddress.IPv4Address(one) in network for network in networks)
        assert ipset.contains(packet(one, "1.2.3.4", "tcp", 80), ("dst", "dst", "src")) is expected


@given(address=addresses, protocol=st.sampled_from(["tcp", "udp", "sctp"]), port=st.integers(0, 65535))
def test_entries_survive_their_text(address: str, protocol: str, port: int) -> None:
    text = entry_text("hash:ip,port", (address, protocol, port))
    read = read_ipsets(f"create S hash:ip,port\nadd S {text}\n", "text")
    assert read["S"].entries == {(address, protocol, port)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("add S 1", "sets, line 1: there is no set 'S': there is none"),
        ("create KUBE-A hash:ip\nadd KUBE-B 1.2.3.4", "line 2: there is no set 'KUBE-B': did you mean 'KUBE-A'?"),
        ("create S", "line 1: create needs the name of a set and its type"),
        ("create S hash:ip\ncreate S hash:ip", "line 2: set S is there already"),
        ("create S tree:ip", "'tree:ip' is no type of a set, such as hash:ip,port"),
        ("create S hash:ip\nadd S here", "line 2: 'here' is not an address"),
        ("create S hash:net\nadd S 10.0.0.0/40", "'10.0.0.0/40' is not a range of addresses"),
        ("create S bitmap:port\nadd S 70000", "70000 is not a port"),
        ("create S bitmap:port\nadd S http", "port: 'http' is not a number"),
        ("create S hash:ip,port\nadd S 1.2.3.4", "'1.2.3.4' is no entry of hash:ip,port: 2 parts are needed"),
        ("-A INPUT -j ACCEPT\nx", "there is no set 'INPUT'"),
        ("list S", "a line begins with create or add, not 'list'"),
        ('create S hash:ip comment "', "a quote is not closed"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_ipsets(text, "sets")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_broken_text_never_gives_more_than_an_input_error() -> None:
    chance, started = random.Random(1), time.monotonic()
    letters = [*SAVED, '"', "\\", "\x00", "٣", "é", "\u2028", ",", "/", "create ", "add ", "nomatch"]
    for _ in range(2000):
        text = list(SAVED)
        for _ in range(chance.randint(1, 5)):
            place = chance.randrange(len(text))
            text[place : place + chance.choice((0, 1, 1, 30))] = chance.choices(letters, k=chance.randint(0, 2))
        try:
            read = read_ipsets("".join(text), "sets")
        except InputError as error:
            assert str(error).startswith("sets, line ")
        else:
            for ipset in read.values():
                ipset.save()
                ipset.contains(packet("10.9.0.1", "1.2.3.4", "tcp", 80), ("dst", "dst", "src"))
    assert time.monotonic() - started < 30
