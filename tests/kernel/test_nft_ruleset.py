"""Dumps of nftables: both of their forms, what is wrong with others, and the real nft's own."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.errors import InputError
from kubesim.kernel.namespace import Host, Namespace
from kubesim.kernel.netfilter.hooks import Hook, HookCall
from kubesim.kernel.netfilter.nft_ruleset import NftRuleSet, read_nft
from kubesim.kernel.packet import Packet
from tests.kubeproxy_examples import Example, each_example
from tests.real_nft import real_nft

FLAT = """
add table ip t { comment "a table" ; }
add chain ip t in { type filter hook prerouting priority -110 ; }
add chain ip t web/tcp/80
add chain ip t no { comment "nobody there" ; }
add set ip t known { type ipv4_addr ; flags dynamic,timeout ; timeout 10800s ; }
add map ip t ways { type ipv4_addr . inet_proto . inet_service : verdict ; comment "where to" ; }
add rule ip t in ip saddr @known drop comment "known already"
add rule ip t in ip daddr . meta l4proto . th dport vmap @ways
add rule ip t web/tcp/80 numgen random mod 2 vmap { 0 : accept , 1 : goto no }
add rule ip t no reject
add element ip t ways { 10.0.0.1 . tcp . 80 comment "web" : goto web/tcp/80 }
add element ip t ways { 10.0.0.2 . tcp . 80 : drop }
"""

BLOCKS = """
table ip t { # handle 1
        comment "a table"
        set known {
                type ipv4_addr
                size 65535
                flags dynamic,timeout
                timeout 3h
                elements = { 9.9.9.9 timeout 3h expires 2h59m59s100ms counter packets 1 bytes 60 comment "he" }
        }

        map ways {
                type ipv4_addr . inet_proto . inet_service : verdict
                comment "where to"
                elements = { 10.0.0.1 . tcp . 80 comment "web" : goto web/tcp/80,
                             10.0.0.2 . tcp . 80 : drop }
        }

        chain in {
                type filter hook prerouting priority dstnat - 10; policy accept;
                ip saddr @known drop comment "known already"
                ip daddr . meta l4proto . th dport vmap @ways # handle 7
        }

        chain web/tcp/80 {
                numgen random mod 2 vmap { 0 : accept,
                             1 : goto no }
        }

        chain no {
                comment "nobody there"
                reject
        }
}
"""


def fates(rules: NftRuleSet) -> list[tuple[str, float, int]]:
    """What becomes of some packets at each base chain."""
    root = Host("node").root
    found = []
    for table in rules.install(root):
        for name, (_, hook, _) in table.base_chains.items():
            for source, destination in (("10.1.0.1", "10.0.0.1"), ("9.9.9.9", "10.0.0.2"), ("10.1.0.1", "10.0.0.3")):
                packet = Packet(source, destination, "tcp", 4000, 80, 0, state="NEW")
                for state in table.outcomes(name, packet, HookCall(hook, root, "eth0", "eth0")):
                    found.append((f"{name} {state.verdict}", state.probability, state.tested))  # noqa: PERF401
    return found


@pytest.mark.parametrize("text", [FLAT, BLOCKS])
def test_both_forms_are_read_alike(text: str) -> None:
    rules = read_nft(text, "dump")
    table = rules.table("ip", "t")
    assert set(table.chains) == {"in", "web/tcp/80", "no"}
    base = table.bases["in"]
    assert (base.kind, base.hook, base.priority, base.policy) == ("filter", Hook.PREROUTING, -110, "ACCEPT")
    assert table.sets["ways"].comments == {"10.0.0.1 . tcp . 80": "web"}
    assert [rule.comment for _, rule in table.rules()] == ["known already", "", "", "nobody there"]
    assert len(table.sets["known"]) == (1 if text is BLOCKS else 0)
    to_known = ("in Drop()", 1.0, 1) if text is BLOCKS else ("in Drop()", 1.0, 2)
    assert fates(rules) == [
        ("in Accept()", 0.5, 3), ("in Reject(reject_with='icmp-port-unreachable')", 0.5, 4), to_known, ("in None", 1.0, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("priority", "number"),
    [
        ("-110", -110), ("0", 0), ("filter", 0), ("dstnat", -100), ("srcnat", 100), ("mangle - 1", -151),
        ("filter + 10", 10), ("filter - 110", -110), ("dstnat-10", -110), ("raw+5", -295), ("security", 50),
    ],
)  # fmt: skip
def test_priorities(priority: str, number: int) -> None:
    text = f"table ip t {{\n chain c {{\n type filter hook output priority {priority}; policy drop;\n }}\n}}\n"
    base = read_nft(text, "dump").table("ip", "t").bases["c"]
    assert (base.priority, base.policy, base.hook) == (number, "DROP", Hook.OUTPUT)


def test_a_policy_drops_what_nothing_accepts() -> None:
    rules = read_nft(
        "table inet t { chain c { type filter hook input priority 0; policy drop; tcp dport 22 accept }; }", "d"
    )
    assert {verdict for verdict, _, _ in fates(rules)} == {"c Drop()"}


def test_later_commands_change_what_is_there() -> None:
    text = FLAT + (
        "flush chain ip t web/tcp/80\nadd rule ip t web/tcp/80 drop\ninsert rule ip t web/tcp/80 counter\n"
        "delete element ip t ways { 10.0.0.2 . tcp . 80 }\nflush set ip t known\n"
        "add table ip6 other\ndelete table ip6 other\ndestroy chain ip t nobody\n"
    )
    rules = read_nft(text, "dump")
    assert list(rules.tables) == [("ip", "t")]
    assert [rule.matches for rule in rules.table("ip", "t").chains["web/tcp/80"].rules] == [(), ()]
    assert [verdict for verdict, _, _ in fates(rules)] == ["in Drop()", "in None", "in None"]
    assert not read_nft(FLAT + "flush table ip t\n", "dump").table("ip", "t").chains["no"].rules


def test_only_tables_of_the_ip_layer_are_installed() -> None:
    text = (
        "table netdev n { chain c { type filter hook ingress device eth0 priority 0; policy accept; } }\n"
        "table ip6 s { chain c { type nat hook output priority -100; } }\n"
        "table inet i { counter hits { packets 0 bytes 0 }; chain c { type route hook output priority mangle; } }\n"
    )
    rules = read_nft(text, "dump")
    assert [(one.family, one.name) for one in rules.install(Host("node").root)] == [("ip6", "s"), ("inet", "i")]
    with pytest.raises(InputError, match="there is no table ip x"):
        rules.table("ip", "x")


def test_what_is_not_modelled_is_counted() -> None:
    text = FLAT + "add rule ip t in quota over 1 mbytes drop\nadd rule ip t in quota until 5 mbytes log\n"
    assert dict(read_nft(text, "dump").unmodelled()) == {"quota": 2, "log": 1}


def changed(old: str, new: str, text: str = FLAT) -> str:
    assert old in text
    return text.replace(old, new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "dump: there are no rules of nftables: no line such as table ip kube-proxy {"),
        ("hello world\n", "dump, line 1: 'hello' is no command of nft"),
        ("\n\ntabel ip t {\n}\n", "dump, line 3: 'tabel' is no command of nft: did you mean 'table'?"),
        (changed("add rule ip t no", "add rule ip tt no"), "line 11: there is no table ip tt: did you mean 'ip t'?"),
        (changed("add rule ip t no", "add rule ip t on"), "line 11: there is no chain 'on'"),
        (changed("ip saddr @known", "ip saddr @know"), "line 8: there is no set 'know'"),
        (changed("1 : goto no ", "1 : goto mo "), "line 10: there is no chain 'mo': known: in, no, web/tcp/80"),
        (changed(": goto web/tcp/80", ": goto web/tcp/8"), "line 12: there is no chain 'web/tcp/8': did you mean"),
        (changed("ip saddr @known", "this is not nft"), "line 8: 'this' begins no expression"),
        (changed("10.0.0.2 . tcp", "10.0.0.2 . tpc"), "line 13: 'tpc' is not a protocol: did you mean 'tcp'?"),
        (changed("type filter", "type filtre"), "line 3: 'filtre' is not a type of chain: did you mean 'filter'?"),
        (changed("prerouting", "preroutin"), "line 3: 'preroutin' is not a hook: did you mean 'prerouting'?"),
        (changed("-110", "soon"), "line 3: 'soon' is not a priority"),
        (changed("add element", "ad element"), "line 12: 'ad' is no command of nft"),
        (changed("add map ip", "add mop ip"), "line 7: 'mop' cannot be added: did you mean 'map'?"),
        (changed("flags dynamic", "flag dynamic"), "line 6: 'flag' is nothing that a set has: did you mean 'flags'?"),
        (changed("type ipv4_addr ;", ""), "line 6: set 'known' does not say of what type it is"),
        (changed("goto no }", "goto no"), "line 10: '{' is not closed: a part is missing"),
        (changed("chain no {", "chan no {", BLOCKS), "line 30: 'chan' is nothing that a table has: did you mean 'chain'?"),
        (changed("policy accept", "policy maybe", BLOCKS), "line 20: 'maybe' is not a policy"),
        (changed('"nobody there"', '"nobody', BLOCKS), "line 31: a quote is not closed"),
        (BLOCKS + "}\n", "line 35: '}' stands where nothing is open"),
        (BLOCKS[:-3], "is not closed: a part is missing"),
        (FLAT + "flush chain ip t x\n", "line 14: there is no chain 'x'"),
        (FLAT + "delete rule ip t no handle 4\n", "line 14: delete rule: only whole objects"),
        (changed("reject", "goto in"), "chains of table ip t jump in circles: "),
        (changed("reject", "jump no"), "chains of table ip t jump in circles: no > no"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_nft(text, "dump")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


PIECES = ["{", "}", ",", ":", ";", "\n", ".", "@", "@ways", '"', "add", "rule", "ip", "t", "table", "chain", "jump", "no",
          "vmap", "numgen", "mod", "0", "65536", "10.0.0.0/33", "!=", "elements", "=", "\\", "#", "\x00", "é", "-", "set"]  # fmt: skip


def mutated(text: str, chance: random.Random) -> str:
    """A text with some words lost, doubled, swapped or changed."""
    words = text.replace("\n", " \n ").split(" ")
    for _ in range(chance.randint(1, 4)):
        at, other = chance.randrange(len(words)), chance.randrange(len(words))
        match chance.randrange(5):
            case 0:
                del words[at]
            case 1:
                words.insert(at, chance.choice(PIECES))
            case 2:
                words[at], words[other] = words[other], words[at]
            case 3:
                words[at] = words[at][: chance.randint(0, len(words[at]))] + chance.choice(PIECES)
            case _:
                words[at:at] = words[min(at, other) : max(at, other)][:20]
    return " ".join(words)


def read_or_refuse(text: str) -> None:
    """Read it and walk it, or refuse it in one line."""
    try:
        fates(read_nft(text, "dump"))
    except InputError as error:
        assert str(error).startswith("dump")
        assert len(str(error).splitlines()) == 1


def test_damaged_dumps_are_read_or_refused() -> None:
    chance = random.Random(20_260_724)
    started = time.monotonic()
    for number in range(3000):
        read_or_refuse(mutated(FLAT if number % 2 else BLOCKS, chance))
    assert time.monotonic() - started < 60


@given(st.lists(st.sampled_from([*PIECES, " ", "accept", "daddr", "tcp", "10.0.0.1", "comment"]), max_size=30))
def test_any_words_are_read_or_refused(words: list[str]) -> None:
    read_or_refuse("table ip t {\nchain no {\n}\nchain c {\n" + " ".join(words) + "\n}\n}\n")


@pytest.mark.root
@pytest.mark.parametrize("options", [(), ("-a",), ("-n",), ("-s",)])
def test_what_the_real_nft_lists_is_read(options: tuple[str, ...]) -> None:
    with real_nft() as nft:
        nft.load(FLAT)
        listed, table = nft.listed(*options), nft.run(*options, "list", "table", "ip", "t")
    assert fates(read_nft(listed, "nft list")) == fates(read_nft(FLAT, "dump"))
    assert fates(read_nft(table, "nft list")) == fates(read_nft(FLAT, "dump"))


FOREIGN = """
table inet filter {
    counter hits { packets 0 bytes 0; }
    set blocked { type ipv4_addr; flags interval; auto-merge; elements = { 10.9.0.0/16, 192.0.2.1-192.0.2.9 } }
    set ports { type inet_service; elements = { 22, 80, 443 } }
    map marks { type inet_service : mark; elements = { 80 : 0x1 } }
    map jumps { typeof ip saddr . tcp dport : verdict; flags interval; elements = { 10.0.0.0/8 . 80-90 : accept, 10.9.0.0/16 . 22 : jump late } }
    chain late {
        counter name hits log prefix "late: " group 3 limit rate 5/minute burst 3 packets accept
    }
    chain input {
        type filter hook input priority filter + 5; policy drop;
        ct state vmap { invalid : drop, established : accept, related : accept }
        iifname lo accept
        ip saddr @blocked counter drop
        ip saddr . tcp dport vmap @jumps
        tcp dport @ports ct count over 10 reject with tcp reset
        tcp flags & (fin | syn | rst | ack) == syn meta mark set tcp dport map @marks
        icmp type { echo-request, echo-reply } limit rate 10/second accept
        ip6 nexthdr icmpv6 icmpv6 type nd-neighbor-solicit accept
        meta l4proto { tcp, udp } th dport 53 accept comment "names"
        ip daddr & 255.255.0.0 == 10.8.0.0 log group 2
        meta skuid 1000 meta pkttype host socket transparent 1 meta cpu 0 accept
        fib saddr . iif oif missing drop
        ct mark set meta mark and 0xff
        quota over 10 mbytes drop
        udp dport 67-68 ip ttl > 3 ip dscp cs1 return
    }
    chain out {
        type nat hook postrouting priority srcnat - 1;
        oifname "eth*" ip saddr 10.0.0.0/8 masquerade random,persistent
        ip saddr 192.168.0.0/16 snat ip to 1.2.3.4-1.2.3.9
    }
    chain in {
        type nat hook prerouting priority dstnat + 1;
        dnat ip to numgen random mod 2 map { 0 : 10.0.0.1, 1 : 10.0.0.2 }
        tcp dport 8080 redirect to :80
        meta nfproto ipv6 tcp dport 81 dnat ip6 to [fd00::1]:80
    }
}
"""
"""Rules of others, with much that is not modelled."""


def test_rules_of_others_are_read() -> None:
    rules = read_nft(FOREIGN, "dump")
    assert len(fates(rules)) >= 9
    assert {"icmp type", "ct count", "log", "limit", "ip daddr", "quota"} <= set(rules.unmodelled())


@pytest.mark.root
def test_rules_of_others_come_back_from_the_real_nft() -> None:
    with real_nft() as nft:
        nft.load(FOREIGN)
        listed = nft.listed("-n")
    assert fates(read_nft(listed, "nft list")) == fates(read_nft(FOREIGN, "dump"))


@pytest.mark.root
@each_example
def test_worked_examples_come_back_from_the_real_nft(name: str, tmp_path: Path) -> None:
    example = Example(name, tmp_path)
    text = example.text("expected.nftables")
    with real_nft() as nft:
        nft.load(text)
        listed = read_nft(nft.listed(), "nft list")
    assert not listed.unmodelled()
    flows = _flows(example)
    assert _verdicts(listed, flows) == _verdicts(read_nft(text, "text"), flows)


def _flows(example: Example) -> list[Packet]:
    """A packet to every element of the maps, and to some that are in none."""
    found = []
    for table in read_nft(example.text("expected.nftables"), "text").tables.values():
        addresses = [*table.sets["cluster-ips"]._added, "203.0.113.77", "192.168.0.2"]
        for members in table.sets.values():
            keys = [key.split(" . ") for key in members._added if members.is_map]
            for *address, protocol, port in keys:
                for destination in address or addresses:
                    for source in ("10.180.0.2", "203.0.113.130", "192.168.0.9"):
                        found.append(Packet(source, destination, protocol, 4000, int(port), 0, state="NEW"))  # noqa: PERF401
    return found


def _verdicts(rules: NftRuleSet, flows: list[Packet]) -> list[tuple[str, str, float, int, int]]:
    root: Namespace = Host("node").root
    root.add_address(root.loopback, "192.168.0.9")
    found = []
    for table in rules.install(root):
        for name, (_, hook, _) in sorted(table.base_chains.items()):
            for packet in flows:
                call = HookCall(hook, root, "eth0", "eth0")
                found += [
                    (name, str(state.verdict), state.probability, state.tested, state.mark)
                    for state in table.outcomes(name, packet, call)
                ]
    return found
