"""Reading and printing the rules of a host: what iptables prints comes back to the letter, and nonsense is told."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from kubesim.errors import InputError
from kubesim.kernel.namespace import Host
from kubesim.kernel.netfilter.hooks import Hook
from kubesim.kernel.netfilter.ruleset import RuleSet
from kubesim.kernel.netfilter.syntax import parse_rule
from kubesim.kernel.rule_trace import Flow, RuleTrace, trace_rules
from tests.netns import kernel_node, needs_kernel, require

FOREIGN = (Path(__file__).parent / "foreign.iptables-save").read_text("utf-8")


def plain(text: str) -> str:
    """A dump without comments and counters."""
    lines = [re.sub(r"^\[\d+:\d+\] ", "", line) for line in text.splitlines() if not line.startswith("#")]
    return re.sub(r"\[\d+:\d+\]", "[0:0]", "\n".join([*lines, ""]))


def follow(text: str, source: str, destination: str, port: int, hook: Hook = Hook.PREROUTING) -> RuleTrace:
    return trace_rules(Flow(source, destination, "tcp", port, hook), RuleSet.read(text, "dump").install)


def test_a_real_dump_is_printed_as_it_was() -> None:
    assert RuleSet.read(FOREIGN, "dump").save() == plain(FOREIGN)


def test_what_is_not_modelled_is_named() -> None:
    found = RuleSet.read(FOREIGN, "dump").unmodelled()
    assert found == {"owner": 1, "recent": 1, "limit": 1, "NFQUEUE": 1}


@pytest.mark.parametrize(
    ("destination", "port", "to", "verdict"),
    [
        ("192.168.0.2", 8080, "172.17.0.2:80", "ACCEPT"),
        ("192.168.0.2", 9005, "172.17.0.3:9005", "ACCEPT"),
        ("192.168.0.2", 9011, "192.168.0.2:9011", "DROP"),
        ("172.17.0.9", 443, "172.17.0.9:443", "ACCEPT"),
        ("198.51.100.1", 25, "198.51.100.1:25", "REJECT"),
        ("198.51.100.1", 26, "198.51.100.1:26", "DROP"),
    ],
)
def test_packets_through_a_real_dump(destination: str, port: int, to: str, verdict: str) -> None:
    (outcome,) = follow(FOREIGN, "203.0.113.5", destination, port).outcomes
    assert (outcome.to, outcome.verdict) == (to, verdict)


def test_a_redirected_packet_stays_here_and_meets_the_policy() -> None:
    found = trace_rules(
        Flow("203.0.113.5", "192.168.0.2", "tcp", 8888), RuleSet.read(FOREIGN, "dump").install, ["192.168.0.2"]
    )
    (outcome,) = found.outcomes
    assert (outcome.to, outcome.verdict) == ("192.168.0.2:80", "DROP")
    assert outcome.rules_tested["filter/INPUT"] == 6 + 5 + 1


def test_source_nat() -> None:
    (outcome,) = follow(FOREIGN, "10.9.0.1", "172.17.0.9", 443).outcomes
    assert outcome.is_masqueraded


def test_probabilities_are_those_of_the_rules() -> None:
    text = """*nat
-A PREROUTING -m statistic --mode random --probability 0.25 -j DNAT --to-destination 10.0.0.1:1
-A PREROUTING -m statistic --mode nth --every 3 -j DNAT --to-destination 10.0.0.2:2
-A PREROUTING -m statistic --mode random ! --probability 0.25 -j DNAT --to-destination 10.0.0.3
COMMIT
"""
    found = {one.to: one.probability for one in follow(text, "10.9.0.1", "10.9.0.2", 80).outcomes}
    assert found == pytest.approx(
        {"10.0.0.1:1": 0.25, "10.0.0.2:2": 0.25, "10.0.0.3:80": 0.375, "10.9.0.2:80": 0.125}, abs=1e-9
    )


@pytest.mark.parametrize(
    "rule",
    [
        "-A X -p tcp -m tcp --dport 80 -j ACCEPT",
        "-A X ! -s 10.0.0.0/8 -d 10.0.0.1/32 -i cali+ ! -o eth0 -p udp -m udp ! --sport 1:10 --dport 53 -g Y",
        "-A X -m comment --comment one -j RETURN",
        '-A X -m comment --comment "two words \\"quoted\\" \\\\" -j RETURN',
        "-A X -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP",
        "-A X -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j DROP",
        "-A X -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
        "-A X -m state --state NEW,ESTABLISHED -j RETURN",
        "-A X -m mark --mark 0x5 -j MARK --set-xmark 0x7/0xffffffff",
        "-A X -m set ! --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT",
        "-A X -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT",
        "-A X -o gw0 -m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL -j MASQUERADE",
        "-A X -p tcp -j DNAT --to-destination 1.2.3.4-1.2.3.9:80-90 --random",
        "-A X -p tcp -j MASQUERADE --to-ports 1024-2000 --random-fully",
        "-A X -p tcp -j REJECT --reject-with tcp-reset",
        "-A X -m u32 --u32 0x0 -j ACCEPT",
        "-A X",
    ],
)
def test_rules_come_back_as_iptables_prints_them(rule: str) -> None:
    chain, read = parse_rule(rule)
    assert read.save(chain) == rule


@pytest.mark.parametrize(
    ("rule", "saved"),
    [
        ("-A X --protocol 6 --source 10.1.2.3/8 --jump ACCEPT", "-A X -s 10.0.0.0/8 -p tcp -j ACCEPT"),
        ("-A X -p tcp --dport 80 -m comment --comment a -j ACCEPT",
         "-A X -p tcp -m tcp --dport 80 -m comment --comment a -j ACCEPT"),
        ("-A X -m comment --comment a -p udp --dport 53", "-A X -p udp -m comment --comment a -m udp --dport 53"),
        ("-A X -s 0.0.0.0/0 -p all -i + -j DROP", "-A X -j DROP"),
        ("-A X -j MARK --set-mark 0x1/0x2", "-A X -j MARK --set-xmark 0x1/0x3"),
        ("-A X -j MARK --and-mark 0xff", "-A X -j MARK --set-xmark 0x0/0xffffff00"),
        ("-A X -p tcp --syn -j DROP", "-A X -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP"),
        ("-A X -s ! 10.0.0.0/8 -j DROP", "-A X ! -s 10.0.0.0/8 -j DROP"),
        ("[3:180] -A X -j DROP", "-A X -j DROP"),
    ],
)  # fmt: skip
def test_other_ways_to_write_a_rule(rule: str, saved: str) -> None:
    chain, read = parse_rule(rule)
    assert read.save(chain) == saved


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("hello", "line 2: a rule begins with -A CHAIN"),
        ("-A", "line 2: a rule begins with -A CHAIN"),
        ("-A NOWHERE -j ACCEPT", "line 2: there is no chain 'NOWHERE'"),
        ("-A INPUT -s 10.0.0.256 -j ACCEPT", "line 2: '10.0.0.256' is not an address or range"),
        ("-A INPUT -p tcp --dport 70000", "line 2: --dport: 70000 is not a port"),
        ("-A INPUT -p tcp --dport web", "line 2: --dport: 'web' is not a number"),
        ("-A INPUT -j MARK", "line 2: MARK needs to be told"),
        ("-A INPUT -j DNAT", "line 2: DNAT needs --to-destination"),
        ("-A INPUT -m statistic --mode random --probability 2", "line 2: --probability: '2' is not between 0 and 1"),
        ('-A INPUT -m comment --comment "open', "line 2: a quote is not closed"),
        ("-A INPUT -s", "line 2: -s needs a value"),
        ("-A INPUT !", "line 2: '!' stands before nothing"),
        ("-A INPUT -p tcp --tcp-flags SYN,XYZ SYN", "line 2: --tcp-flags: there is no flag 'XYZ'"),
        ("-A INPUT --dport 80", "line 2: --dport belongs to no match or target"),
        (":INPUT MAYBE [0:0]", "line 2: ':INPUT MAYBE [0:0]' is no chain"),
        (":INPUT - [0:0]", "line 2: chain INPUT: only the chains of hooks have a policy"),
        ("*tables", "line 2: there is no table 'tables': did you mean 'mangle'?"),
        ("-X NOWHERE", "line 2: there is no chain 'NOWHERE'"),
    ],
)
def test_a_line_that_is_no_rule_is_told_with_its_number(line: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message.partition(": did")[0])):
        RuleSet.read(f"*filter\n{line}\nCOMMIT\n", "dump")


def test_a_dump_that_is_cut_off_or_none() -> None:
    with pytest.raises(InputError, match="ends before COMMIT"):
        RuleSet.read("*nat\n", "dump")
    with pytest.raises(InputError, match="there are no rules of iptables"):
        RuleSet.read("\n# nothing\n", "dump")
    with pytest.raises(InputError, match="line 1: '-A INPUT -j ACCEPT' stands before any table"):
        RuleSet.read("-A INPUT -j ACCEPT\n", "dump")


def test_chains_that_jump_in_circles_are_refused() -> None:
    text = "*filter\n:A - [0:0]\n:B - [0:0]\n-A INPUT -j A\n-A A -j B\n-A B -p tcp -g A\nCOMMIT\n"
    with pytest.raises(InputError, match="chains of table filter jump in circles: A > B > A"):
        RuleSet.read(text, "dump")


def test_a_jump_to_what_is_no_chain_is_a_target_that_is_not_modelled() -> None:
    rules = RuleSet.read("*filter\n-A FORWARD -j SOMETHING\n-A FORWARD -j DROP\nCOMMIT\n", "dump")
    assert rules.unmodelled() == {"SOMETHING": 1}
    (outcome,) = trace_rules(Flow("10.0.0.1", "10.0.0.2", "tcp", 80), rules.install).outcomes
    assert (outcome.verdict, outcome.rules_tested) == ("DROP", {"filter/FORWARD": 2})


def test_restore_empties_the_chains_it_names_and_keeps_others() -> None:
    rules = RuleSet.read("*nat\n:A - [0:0]\n:B - [0:0]\n-A A -j RETURN\n-A B -j RETURN\nCOMMIT\n", "dump")
    rules.restore("*nat\n:A - [0:0]\n:C - [0:0]\n-A A -j ACCEPT\n-X C\n-I PREROUTING -j A\n-N D\nCOMMIT\n", "restore")
    assert [line for line in rules.save().splitlines() if line.startswith("-A")] == [
        "-A PREROUTING -j A",
        "-A A -j ACCEPT",
        "-A B -j RETURN",
    ]
    assert set(rules.tables["nat"]) == {"PREROUTING", "INPUT", "OUTPUT", "POSTROUTING", "A", "B", "D"}


def test_installed_rules_replace_those_of_the_table() -> None:
    root = Host("node").root
    RuleSet.read("*filter\n:A - [0:0]\n-A INPUT -j A\nCOMMIT\n", "one").install(root)
    RuleSet.read("*filter\n-A FORWARD -j DROP\nCOMMIT\n", "other").install(root)
    assert [len(root.tables["filter"].chain(name)) for name in ("INPUT", "FORWARD")] == [0, 1]


MUTATIONS = 5000
WORDS = [
    "-A",
    "-j",
    "!",
    '"',
    "-m",
    "--dport",
    "*nat",
    ":",
    "[0:0]",
    "COMMIT",
    "-s",
    "0x",
    "/33",
    "-g",
    "\\",
    "\x00",
    "é",
    "-1",
]


def mutated(text: str, luck: random.Random) -> str:
    """A text with some words or letters taken out, put in, or exchanged."""
    lines = text.splitlines()
    for _ in range(luck.randint(1, 3)):
        row = luck.randrange(len(lines))
        words = lines[row].split(" ")
        place = luck.randrange(len(words))
        match luck.randrange(6):
            case 0:
                del words[place]
            case 1:
                words.insert(place, luck.choice(WORDS))
            case 2:
                words[place] = luck.choice(WORDS)
            case 3:
                words[place] = words[place][: luck.randint(0, len(words[place]))]
            case 4:
                other = luck.randrange(len(words))
                words[place], words[other] = words[other], words[place]
            case _:
                lines[row], lines[-1] = lines[-1], lines[row]
                continue
        lines[row] = " ".join(words)
    return "\n".join(lines)


def small(luck: random.Random) -> str:
    """Some rules of the dump, in one table of it."""
    table = luck.choice(FOREIGN.split("COMMIT")[:4])
    head = [line for line in table.splitlines() if line[:1] in ("*", ":")]
    rules = [line for line in table.splitlines() if "-A " in line]
    return "\n".join([*head, *luck.sample(rules, min(len(rules), 6)), "COMMIT", ""])


def test_mutated_dumps_are_read_or_refused_in_one_line() -> None:
    luck = random.Random(7)
    read = 0
    for _ in range(MUTATIONS):
        text = mutated(small(luck), luck)
        try:
            rules = RuleSet.read(text, "dump")
            rules.save()
            trace_rules(Flow("10.244.1.1", "192.168.0.2", "tcp", 8080), rules.install)
            read += 1
        except InputError as error:
            assert "\n" not in str(error)
    assert 0 < read < MUTATIONS


class TestAgainstKernel:
    """iptables itself reads and prints the dump as we do."""

    pytestmark = needs_kernel

    def test_a_dump_comes_back(self) -> None:
        require("iptables-legacy-restore")
        known = "\n".join(line for line in FOREIGN.splitlines() if not re.search(r"rpfilter|nth|NFQUEUE", line)) + "\n"
        with kernel_node(["192.168.0.2"]) as node:
            node.do("iptables-legacy-restore", text=known)
            printed = plain(node.do("iptables-legacy-save"))
        ours = RuleSet.read(known, "dump").save()
        assert sorted(printed.split("COMMIT\n")) == sorted(ours.split("COMMIT\n"))
        assert RuleSet.read(printed, "kernel").save().count("\n") == printed.count("\n")
