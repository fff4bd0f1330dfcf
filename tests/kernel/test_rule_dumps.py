"""Files of each tool are told apart, and a packet fares alike in all modes where it should."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubesim.cluster import read_cluster
from kubesim.errors import InputError
from kubesim.kernel.netfilter.hooks import Hook
from kubesim.kernel.rule_dumps import read_dumps
from kubesim.kernel.rule_trace import Flow, RuleTrace, trace_rules
from kubesim.proxy import proxy_class

MANIFEST = Path(__file__).parent / "every-feature.yaml"
NODE, POD, OUTSIDE = "192.168.0.2", "10.244.1.5", "203.0.113.9"
FORMS = {"iptables": ["save"], "nftables": ["nft"], "ipvs": ["save", "ipset", "ipvsadm"]}


def dumps(mode: str, tmp_path: Path) -> list[Path]:
    """What the tools would print on a node."""
    cluster = read_cluster([MANIFEST], "node-a")
    plugin = proxy_class(mode)
    proxy = plugin(cluster, plugin.settings_model(cluster_cidr=["10.244.0.0/16"]))
    files = []
    for form in FORMS[mode]:
        file = tmp_path / f"{mode}-{form}"
        file.write_text(proxy.text(cluster.node("node-a"), form, "ipv4"), "utf-8")
        files.append(file)
    return files


def follow(files: list[Path], source: str, destination: str, port: int, protocol: str = "tcp") -> RuleTrace:
    hook = Hook.OUTPUT if source == NODE else Hook.PREROUTING
    return trace_rules(
        Flow(source, destination, protocol, port, hook), read_dumps(files).install, [NODE, "192.168.99.11"]
    )


@pytest.mark.parametrize("mode", list(FORMS))
@pytest.mark.parametrize(
    ("flow", "to", "is_masqueraded"),
    [
        ((POD, "172.30.0.41", 80), {"10.244.1.10:8080", "10.244.2.10:8080", "10.244.2.100:8080"}, False),
        ((OUTSIDE, "172.30.0.41", 80), {"10.244.1.10:8080", "10.244.2.10:8080", "10.244.2.100:8080"}, True),
        ((OUTSIDE, NODE, 30041), {"10.244.1.10:8080", "10.244.2.10:8080", "10.244.2.100:8080"}, True),
        ((OUTSIDE, NODE, 30044), {"10.244.1.30:80"}, False),
        ((POD, "172.30.0.47", 80), {"10.244.1.50:80"}, False),
        ((NODE, "172.30.0.41", 80), {"10.244.1.10:8080", "10.244.2.10:8080", "10.244.2.100:8080"}, True),
        ((POD, "10.244.2.7", 8080), {"10.244.2.7:8080"}, False),
    ],
)
def test_all_modes_send_packets_to_the_same_places(
    mode: str, flow: tuple[str, str, int], to: set[str], is_masqueraded: bool, tmp_path: Path
) -> None:
    outcomes = follow(dumps(mode, tmp_path), *flow).outcomes
    assert {one.to for one in outcomes} == to
    assert {(one.verdict, one.is_masqueraded) for one in outcomes} == {("ACCEPT", is_masqueraded)}
    assert [one.probability for one in outcomes] == pytest.approx([1 / len(to)] * len(to), abs=1e-9)


@pytest.mark.parametrize("mode", list(FORMS))
def test_a_service_with_nobody_behind_it_refuses(mode: str, tmp_path: Path) -> None:
    (outcome,) = follow(dumps(mode, tmp_path), POD, "172.30.0.46", 80).outcomes
    assert outcome.verdict == "REJECT"


def test_hairpins_are_masqueraded_in_all_modes(tmp_path: Path) -> None:
    for mode in FORMS:
        outcomes = follow(dumps(mode, tmp_path), "10.244.1.10", "172.30.0.41", 80).outcomes
        assert {one.to: one.is_masqueraded for one in outcomes}["10.244.1.10:8080"], mode


def test_an_empty_file_and_a_missing_one(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    with pytest.raises(InputError, match="it is empty"):
        read_dumps([empty])
    with pytest.raises(InputError, match="cannot read"):
        read_dumps([tmp_path / "nowhere"])


def test_what_is_not_modelled_is_said_once_for_each_file(tmp_path: Path) -> None:
    file = tmp_path / "dump"
    file.write_text("*filter\n-A INPUT -m owner --uid-owner 0 -j NFQUEUE\n-A INPUT -m owner --uid-owner 1\nCOMMIT\n")
    (notice,) = read_dumps([file]).notices
    assert notice.endswith("1 NFQUEUE, 2 owner")


V4 = "*nat\n-A PREROUTING -d 10.96.0.7/32 -p tcp -j DNAT --to-destination 10.244.0.5:8080\nCOMMIT\n"
V6 = "*nat\n-A PREROUTING -d fd00:96::7/128 -p tcp -j DNAT --to-destination [fd00:244::5]:8080\nCOMMIT\n"


def written(tmp_path: Path, *texts: str) -> list[Path]:
    files = []
    for number, text in enumerate(texts):
        files.append(tmp_path / f"dump{number}")
        files[-1].write_text(text, "utf-8")
    return files


@pytest.mark.parametrize("is_in_one_file", [True, False])
@pytest.mark.parametrize("texts", [(V4, V6), (V6, V4)])
def test_each_packet_meets_the_dump_of_its_family(texts: tuple[str, str], is_in_one_file: bool, tmp_path: Path) -> None:
    files = written(tmp_path, "".join(texts)) if is_in_one_file else written(tmp_path, *texts)
    for flow, to, other in (
        (Flow("10.244.0.9", "10.96.0.7", "tcp", 80), "10.244.0.5:8080", "IPv6"),
        (Flow("fd00::9", "fd00:96::7", "tcp", 80), "[fd00:244::5]:8080", "IPv4"),
    ):
        read = read_dumps(files, is_ipv6=":" in flow.source)
        assert [one.to for one in trace_rules(flow, read.install).outcomes] == [to]
        assert [f"its rules of {other} are left out" in notice for notice in read.notices] == [True]


def test_the_family_of_a_dump_is_what_its_header_says(tmp_path: Path) -> None:
    rule = "*filter\n-A FORWARD -p tcp -j DROP\nCOMMIT\n"
    for tool, is_ipv6 in (("iptables", False), ("ip6tables", True)):
        (file,) = written(tmp_path, f"# Generated by {tool}-save v1.8.9 (nf_tables) on Tue Jan  2 2024\n{rule}")
        assert len(read_dumps([file], is_ipv6=is_ipv6).iptables) == 1
        said = read_dumps([file], is_ipv6=not is_ipv6).notices
        assert "are left out" in said[0]
        assert "none of the dumps has rules" in said[1]
    (file,) = written(tmp_path, rule)
    assert len(read_dumps([file], is_ipv6=True).iptables) == 1


def test_two_dumps_of_one_table_are_refused(tmp_path: Path) -> None:
    legacy, nft = (f"# Generated by iptables-save v1.8.9 ({tool}) on Tue\n{V4}" for tool in ("legacy", "nf_tables"))
    with pytest.raises(InputError, match=r"dump1: table nat of IPv4 is there already, from .*dump0: give one of them"):
        read_dumps(written(tmp_path, legacy, nft))
    with pytest.raises(InputError, match="table ip x of nftables is there already"):
        read_dumps(written(tmp_path, "table ip x {\n}\n", "table ip x {\n}\n"))
    with pytest.raises(InputError, match="set x is there already"):
        read_dumps(written(tmp_path, "create x hash:ip\n", "create x hash:ip\n"))


def test_lines_keep_their_numbers_where_a_file_has_two_dumps(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 5: "):
        read_dumps(written(tmp_path, V4 + V6.replace("-A PREROUTING", "-A NOWHERE")))


def test_sets_that_rules_ask_for_in_vain_are_named(tmp_path: Path) -> None:
    rules = (
        "*filter\n-A FORWARD -m set ! --match-set nosuch src -j DROP\n-A FORWARD -m set --match-set here src -j DROP\n"
        "-A FORWARD -m set --match-set listed src -j DROP\nCOMMIT\n"
    )
    read = read_dumps(written(tmp_path, rules, "create here hash:ip\ncreate listed list:set\n"))
    assert read.notices == [
        "set nosuch is in none of the dumps, and so taken for empty: give `ipset save` too",
        "sets of types that are not modelled are taken for empty: listed (list:set)",
    ]


def test_dumps_without_rules_are_named(tmp_path: Path) -> None:
    (notice,) = read_dumps(written(tmp_path, "create here hash:ip\n")).notices
    assert notice == "none of the dumps has rules that an IPv4 packet meets"


def test_limits_and_ranges_are_named(tmp_path: Path) -> None:
    rules = (
        "*nat\n-A PREROUTING -m limit --limit 1/sec -j DNAT --to-destination 10.0.0.1-10.0.0.3:80-90 --random\n"
        "-A OUTPUT -p tcp -j REDIRECT --to-ports 80-90\nCOMMIT\n"
    )
    nft = "table ip t {\nchain c {\ntcp dport 1 dnat to 10.0.0.1-10.0.0.3\ntcp dport 2 redirect to :80-90\n}\n}\n"
    limit, ranges, of_nft = read_dumps(written(tmp_path, rules, nft)).notices
    assert limit.endswith("1 limit")
    assert ranges.endswith("is shown: 10.0.0.1-10.0.0.3:80-90 --random, --to-ports 80-90")
    assert of_nft.endswith("is shown: 10.0.0.1-10.0.0.3, to :80-90")


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("IP Virtual Server version 1.2.1 (size=4096)\n", "ipvsadm -Sn"),
        ("Name: x\nType: hash:ip\n", "ipset save"),
        ("Chain INPUT (policy ACCEPT)\n", "iptables-save"),
        ("-P INPUT ACCEPT\n-N X\n-A INPUT -j X\n", "iptables-save"),
        ('{"nftables": []}', "nft list ruleset"),
    ],
)
def test_texts_for_people_are_known(text: str, command: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"give what `{command}` prints"):
        read_dumps(written(tmp_path, text))


def test_only_newlines_end_a_line(tmp_path: Path) -> None:
    text = '\ufeff*filter\n-A FORWARD -m comment --comment "a\u2028b\x85c\x0bd" -j DROP\nCOMMIT\n'
    (rules,) = read_dumps(
        written(tmp_path, text, 'create x hash:ip comment\nadd x 1.1.1.1 comment "a\u2028b"\n')
    ).iptables
    assert [rule.comment for _, _, rule in rules.rules()] == ["a\u2028b\x85c\x0bd"]
