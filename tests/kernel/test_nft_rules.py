"""Rules of nftables, read one by one: what matches, what they do, and what is not modelled."""

from __future__ import annotations

from typing import Any

import pytest

from kubesim.kernel.namespace import Host
from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.conntrack import Connection
from kubesim.kernel.netfilter.nft_matches import Unmodelled
from kubesim.kernel.netfilter.nft_rule import parse_nft_rule
from kubesim.kernel.netfilter.nft_ruleset import read_nft
from kubesim.kernel.netfilter.nft_sets import NftSet
from kubesim.kernel.netfilter.nft_tokens import NftSyntaxError
from kubesim.kernel.netfilter.recent import RecentClients
from kubesim.kernel.netfilter.rule import Probe
from kubesim.kernel.netfilter.targets import (
    Accept,
    DestinationNat,
    Drop,
    Goto,
    Jump,
    Masquerade,
    Redirect,
    Reject,
    Return,
    SourceNat,
    Target,
)
from kubesim.kernel.netfilter.traversal import State, Traversal
from kubesim.kernel.packet import Packet
from kubesim.kernel.rule_dumps import RuleDumps
from kubesim.kernel.rule_trace import Flow, trace_rules

ROOT = Host("node").root
ROOT.add_address(ROOT.loopback, "192.168.0.2")
SETS = {
    "names": NftSet("names", ["address"], {"10.0.0.1": None}),
    "pairs": NftSet("pairs", ["protocol", "port"], {"tcp . 80": "drop", "udp . 53": "goto other"}, is_map=True),
    "seen": NftSet("seen", ["address"], is_dynamic=True),
}


def packet(**changes: Any) -> Packet:
    fields = {"source": "10.244.0.5", "destination": "10.0.0.1", "protocol": "tcp", "source_port": 4000}
    found = Packet(**{**fields, "destination_port": 80, "payload_bytes": 0, "state": "NEW", **changes})
    found.connection = Connection(found.flow, found.flow.reversed())
    return found


def outcomes(text: str, **changes: Any) -> list[State]:
    chains = {"base": Chain("base", [parse_nft_rule(text, SETS.get)]), "other": Chain("other")}
    probe = Probe(packet(**changes), ROOT, "cali12", "eth0")
    return Traversal(chains.__getitem__, None).outcomes(chains["base"], probe)


def ends(text: str, **changes: Any) -> Target | None:
    (state,) = outcomes(text, **changes)
    assert state.tested == 1
    return state.verdict


@pytest.mark.parametrize(
    "matches",
    [
        "ip daddr 10.0.0.1",
        "ip daddr == 10.0.0.0/24",
        "ip daddr 10.0.0.0-10.0.0.9",
        "ip daddr != 10.0.0.2",
        "ip daddr != 10.0.1.0/24",
        "ip saddr { 10.244.0.0/16, 1.2.3.4 }",
        "ip saddr != { 1.2.3.4 , 10.245.0.0/16 }",
        "ip daddr @names",
        "ip saddr != @names",
        "ip protocol tcp",
        "meta l4proto 6",
        "meta l4proto { tcp, udp }",
        "meta nfproto ipv4",
        "tcp dport 80",
        "tcp dport 79-81",
        "tcp dport != 81",
        "tcp dport >= 80",
        "tcp dport < 81",
        "th sport 4000",
        "ip daddr . tcp dport 10.0.0.1 . 80",
        "ip daddr . meta l4proto . th dport { 10.0.0.1 . tcp . 80 }",
        "ip saddr . tcp dport { 10.244.0.0/16 . 1-100, 1.2.3.4 . 5 }",
        "tcp dport { * }",
        "ct state new",
        "ct state 0x2,0x8",
        "fib daddr type { 1, 3 }",
        "ct state established,new",
        "ct state { new, related }",
        "ct state != established",
        "ct status != dnat",
        "fib daddr type unicast",
        "fib daddr type != local",
        'iifname "cali*"',
        "iifname cali12",
        'iif != "eth0"',
        "meta iifname cali12",
        "oifname { eth0, eth1 }",
        "mark and 0x4000 == 0",
        "meta mark & 0x00004000 == 0x00000000",
        "meta mark 0",
        "mark != 0x1",
        "numgen random mod 1 == 0",
        "numgen random mod 4 < 4",
        "numgen inc mod 2 { 0, 1 }",
        "counter packets 3 bytes 200",
        "counter",
        "limit rate 10/second burst 5 packets",
        'log prefix "hello: " level info',
        "mark set 0x1 mark 1",
        "mark set 0x1 meta mark set mark | 0x2 mark 3",
        "meta mark set 0xff mark set meta mark & 0xf ^ 0x1 mark 0xe",
        "ct mark set meta mark",
        "notrack",
        "",
    ],
)  # fmt: skip
def test_what_matches(matches: str) -> None:
    assert ends(f"{matches} drop") == Drop()


@pytest.mark.parametrize(
    "matches",
    [
        "ip daddr 10.0.0.2",
        "ip daddr != 10.0.0.0/8",
        "ip6 daddr fd00::1",
        "ip6 daddr != fd00::1",
        "ip saddr @names",
        "ip saddr @seen",
        "udp dport 80",
        "udp dport != 81",
        "tcp dport { 1-79, 81 }",
        "tcp dport > 80",
        "tcp sport 80 tcp dport 80",
        "ip daddr . tcp dport 10.0.0.1 . 81",
        "meta l4proto != tcp",
        "ct state established,related",
        "ct status dnat",
        "fib daddr type local",
        'iifname "eth*"',
        "mark and 0x4000 != 0",
        "meta mark 0x1",
        "numgen random mod 4 4",
        "limit rate over 10/second",
        "meta cpu 3",
        "ip dscp 10",
        "tcp flags & (fin | syn | rst | ack) == syn",
        "socket transparent 1",
        'xt match "comment"',
        "@th,16,16 80",
        "tcp dport http",
        "jhash ip saddr mod 2 0",
    ],
)  # fmt: skip
def test_what_does_not_match(matches: str) -> None:
    assert ends(f"{matches} drop") is None


def test_own_addresses_are_local() -> None:
    assert ends("fib daddr type local ip daddr != 127.0.0.0/8 drop", destination="192.168.0.2") == Drop()
    assert ends("fib daddr type local ip daddr != 127.0.0.0/8 drop", destination="127.0.0.1") is None
    assert ends("fib saddr type local drop", source="192.168.0.2") == Drop()


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("accept", Accept()),
        ("drop", Drop()),
        ("return", Return()),
        ("jump other", Jump("other")),
        ("goto ns1/svc1/tcp/", Goto("ns1/svc1/tcp/")),
        ("reject", Reject()),
        ("reject with icmp type host-unreachable", Reject("icmp-host-unreachable")),
        ("reject with tcp reset", Reject("tcp-reset")),
        ("dnat to 10.1.1.1:80", DestinationNat("10.1.1.1", 80, "10.1.1.1:80")),
        ("dnat ip to 10.1.1.1", DestinationNat("10.1.1.1", None, "10.1.1.1")),
        ("dnat ip6 to [fd00::1]:80", DestinationNat("fd00::1", 80, "[fd00::1]:80")),
        ("dnat to fd00::1", DestinationNat("fd00::1", None, "fd00::1")),
        ("dnat to :8080", DestinationNat("", 8080, ":8080")),
        ("dnat to 10.1.1.1-10.1.1.9:80-90 random", DestinationNat("10.1.1.1", 80, "10.1.1.1-10.1.1.9:80-90")),
        ("snat to 10.1.1.1 fully-random,persistent", SourceNat("10.1.1.1", "10.1.1.1")),
        ("masquerade", Masquerade()),
        ("masquerade fully-random", Masquerade(is_random=True, text="fully-random")),
        ("masquerade to :1024-2048 random,persistent", Masquerade(is_random=True, text="to :1024-2048 random persistent")),
        ("redirect to :3128", Redirect(3128, "to :3128")),
        ("redirect", Redirect(None, "")),
        ("counter", None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("comment", ["", ' comment "why"'])
def test_targets(text: str, target: Target | None, comment: str) -> None:
    rule = parse_nft_rule(f"ip daddr 10.0.0.1 {text}{comment}", SETS.get)
    assert rule.target == target
    assert rule.comment == ("why" if comment else "")


def test_a_map_of_verdicts() -> None:
    text = "ip daddr @names meta l4proto . th dport vmap @pairs"
    (state,) = outcomes(text)
    assert (state.verdict, state.operations) == (Drop(), {"nft_set_lookup": 2})
    (state,) = outcomes(text, protocol="udp", destination_port=53)
    assert state.chain.name == "other"
    assert ends(text, destination_port=81) is None
    assert ends("meta l4proto . th dport vmap { tcp . 80-90 : accept, udp . 53 : drop }") == Accept()
    assert ends("ct state vmap { established : accept, * : drop }") == Drop()


def test_random_ways_have_their_shares() -> None:
    text = "numgen random mod 4 vmap { 0-1 : accept, 2 : drop }"
    assert [(state.verdict, state.probability) for state in outcomes(text)] == [
        (Accept(), 0.25), (Accept(), 0.25), (Drop(), 0.25), (None, 0.25),
    ]  # fmt: skip
    shares = {state.verdict is None: state.probability for state in outcomes("numgen random mod 10 < 3 drop")}
    assert shares == {False: pytest.approx(0.3), True: pytest.approx(0.7)}
    offset = outcomes("numgen random mod 2 offset 10 vmap { 10 : accept, 11 : drop }")
    assert [state.verdict for state in offset] == [Accept(), Drop()]


def test_sources_are_noted_in_a_set_and_found_there() -> None:
    (state,) = outcomes("update @seen { ip saddr timeout 3h } accept")
    assert (state.noted_in, state.operations) == (("seen",), {"nft_set_lookup": 1})
    ROOT.recent_clients["seen"] = RecentClients()
    ROOT.recent_clients["seen"].note("10.244.0.5")
    try:
        assert ends("ip saddr @seen drop") == Drop()
    finally:
        ROOT.recent_clients.clear()


def test_marks_are_changed() -> None:
    (state,) = outcomes("mark set mark or 0x4000")
    assert state.mark == 0x4000
    (state,) = outcomes("meta mark set meta mark ^ 0x00004000", mark=0x4001)
    assert state.mark == 1
    (state,) = outcomes("meta mark set mark and 0xffff00ff xor 0x100 drop", mark=0x1234)
    assert (state.mark, state.verdict) == (0x134, Drop())


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("quota over 10 mbytes drop", "quota"),
        ("ether saddr 00:11:22:33:44:55 accept", "ether saddr"),
        ("ct original ip daddr 1.2.3.4 accept", "ct original"),
        ("tcp dport map { 80 : 1 } accept", "tcp dport"),
        ("queue num 1 bypass", "queue"),
        ("flow add @ft", "flow"),
        ("numgen random mod 1000000 vmap { 0 : drop }", "numgen random"),
        ("meta priority set 1:2 accept", "meta priority"),
        ("add @seen { ip saddr . tcp dport } accept", "add"),
    ],
)
def test_what_is_not_modelled_keeps_its_name_and_costs_a_match(text: str, name: str) -> None:
    rule = parse_nft_rule(text, SETS.get)
    assert [match.name for match in rule.matches if isinstance(match, Unmodelled)] == [name]
    (state,) = outcomes(text)
    assert state.operations == {"iptables_match": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a rule is empty"),
        ("frobnicate drop", "'frobnicate' begins no expression"),
        ("jmup other", "did you mean 'jump'?"),
        ("jump", "the name of a chain is missing at the end"),
        ("ip daddr", "a value of kind address is missing at the end"),
        ("ip daddr 10.0.0.300 drop", "'10.0.0.300' is not an address or range"),
        ("ip daddr 10.0.0.9-10.0.0.1 drop", "ends before it begins"),
        ("tcp dport 65536 drop", "out of range"),
        ("meta l4proto tcpp drop", "did you mean 'tcp'?"),
        ("ct state newish drop", "did you mean 'new'?"),
        ("ip daddr @nobody drop", "there is no set 'nobody'"),
        ("meta l4proto vmap @pairs", "set 'pairs' has keys of 2 parts, not 1"),
        ("ip daddr { 10.0.0.1 drop", "'}' is missing at the end"),
        ("ip daddr { 10.0.0.1 drop }", "'drop' stands where an element should end"),
        ("tcp dport vmap { 80 }", "':' is missing at the end"),
        ("tcp dport vmap { 80 : fly }", "'fly' is not a verdict"),
        ("drop accept", "'accept' stands behind the verdict"),
        ('comment "a" drop', "'drop' stands behind the comment"),
        ("numgen random mod 0 vmap { 0 : drop }", "mod 0 makes no sense"),
        ("numgen sometimes mod 2 0", "numgen is random or inc"),
        ("update seen { ip saddr }", "stands where a set such as @name should"),
        ("dnat 10.0.0.1", "'10.0.0.1' stands where 'to' should"),
        ("masquerade slowly", "'slowly' is no option of a translation"),
        ('log prefix "open', "a quote is not closed"),
        ("ip daddr $WEB drop", "'$WEB' is not an address or range"),
    ],
)
def test_what_is_no_rule(text: str, message: str) -> None:
    with pytest.raises(NftSyntaxError) as caught:
        parse_nft_rule(text, SETS.get)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


MAPS = """table ip t {
 map m { type inet_service : ipv4_addr . inet_service; elements = { 80 : 10.0.0.2 . 8080, 81 : 10.0.0.3 . 8081 }
 }
 map one { type ipv4_addr : ipv4_addr; elements = { 5.5.5.5 : 10.0.0.9 }
 }
 map marks { type ipv4_addr : mark; elements = { 5.5.5.6 : 7 }
 }
 chain pre { type nat hook prerouting priority dstnat; policy accept;
  ip daddr 5.5.5.5 tcp dport 99 dnat to ip daddr map @one
  ip daddr 6.6.6.6 dnat ip to tcp dport map @m comment "by port"
  ip daddr 7.7.7.7 dnat ip addr . port to jhash ip saddr mod 2 seed 0x1 map { 0 : 10.0.0.2 . 80, 1 : 10.0.0.3 . 81 }
  ip daddr 8.8.8.8 dnat to numgen inc mod 2 map { 0 : 10.0.0.2, 1 : 10.0.0.3 } persistent
  ip daddr 5.5.5.6 dnat to ip daddr map @marks
 }
 chain f { type filter hook forward priority 0; policy drop;
  ct status & dnat == dnat accept
 }
}
"""


@pytest.mark.parametrize(
    ("destination", "port", "to"),
    [
        ("5.5.5.5", 99, {"10.0.0.9:99": 1.0}),
        ("6.6.6.6", 81, {"10.0.0.3:8081": 1.0}),
        ("7.7.7.7", 1, {"10.0.0.2:80": 0.5, "10.0.0.3:81": 0.5}),
        ("8.8.8.8", 1, {"10.0.0.2:1": 0.5, "10.0.0.3:1": 0.5}),
    ],
)
def test_destinations_are_looked_up_in_maps(destination: str, port: int, to: dict[str, float]) -> None:
    found = trace_rules(
        Flow("1.1.1.1", destination, "tcp", port), RuleDumps(nftables=[read_nft(MAPS, "dump")]).install
    ).outcomes
    assert {one.to: one.probability for one in found} == to
    assert {one.verdict for one in found} == {"ACCEPT"}


@pytest.mark.parametrize(("destination", "port"), [("6.6.6.6", 82), ("5.5.5.6", 1)])
def test_what_is_in_no_map_is_not_translated(destination: str, port: int) -> None:
    rules = read_nft(MAPS, "dump")
    (found,) = trace_rules(Flow("1.1.1.1", destination, "tcp", port), RuleDumps(nftables=[rules]).install).outcomes
    assert (found.to, found.verdict) == (f"{destination}:{port}", "DROP")
    assert rules.unmodelled() == {"dnat to a map": 1}


@pytest.mark.parametrize(
    ("text", "is_syn"),
    [
        ("tcp flags & (fin | syn | rst | ack) == syn drop", True),
        ("tcp flags syn / fin,syn,rst,ack drop", True),
        ("tcp flags & 0x17 == 0x2 drop", True),
        ("tcp flags & (fin|syn|rst|ack) != syn drop", False),
        ("tcp flags & ack drop", False),
        ("tcp flags syn drop", True),
        ("tcp flags { syn, rst } drop", True),
        ("tcp flags != syn counter drop", False),
    ],
)
def test_flags_of_tcp_are_compared(text: str, is_syn: bool) -> None:
    for is_opening in (True, False):
        (found,) = outcomes(text, is_opening=is_opening)
        assert (found.verdict is not None) is (is_opening is is_syn)
    (found,) = outcomes(text, protocol="udp")
    assert found.verdict is None


@pytest.mark.parametrize("text", ["counter packets PREROUTING bytes 100 drop", "counter packets 1 bytes { drop"])
def test_damaged_counters_are_told(text: str) -> None:
    with pytest.raises(NftSyntaxError, match="is not a number"):
        parse_nft_rule(text)
