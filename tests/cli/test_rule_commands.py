"""Commands about rules."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kubesim.cli.commands import app
from kubesim.errors import InputError

KERNEL = Path(__file__).parents[1] / "kernel"
EVERY, FOREIGN = str(KERNEL / "every-feature.yaml"), str(KERNEL / "foreign.iptables-save")

WALK = ("--rules", FOREIGN, "--src", "1.2.3.4", "--dst", "1.2.3.4", "--dport", "1")


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def refused(*words: str) -> str:
    outcome = call(*words)
    assert isinstance(outcome.exception, InputError), outcome.output
    assert "\n" not in str(outcome.exception)
    return str(outcome.exception)


@pytest.mark.parametrize(
    ("mode", "form", "start"),
    [
        ("iptables", "restore", "*filter\n:KUBE-SERVICES - [0:0]\n"),
        ("iptables", "save", "*nat\n:PREROUTING ACCEPT [0:0]\n"),
        ("nftables", "nft", "add table ip kube-proxy"),
        ("ipvs", "ipvsadm", "-A -"),
        ("ipvs", "ipset", "create KUBE-LOOP-BACK"),
        ("ipvs", "restore", "*nat\n"),
    ],
)
def test_rules_are_printed_in_each_form(mode: str, form: str, start: str) -> None:
    outcome = call("rules", "-f", EVERY, "--node", "node-a", "--mode", mode, "--format", form)
    assert outcome.exception is None, outcome.output
    assert outcome.stdout.startswith(start)
    assert outcome.stdout.endswith("\n")


def test_manifests_may_follow_one_option(tmp_path: Path) -> None:
    more = tmp_path / "more.yaml"
    more.write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: z}\nspec: {clusterIP: 172.30.9.9, ports: [{port: 1}]}\n"
    )
    both = call("rules", "-f", EVERY, str(more), "--node", "node-a").stdout
    assert both == call("rules", "-f", EVERY, "-f", str(more), "--node", "node-a").stdout
    assert "default/z has no endpoints" in both


def test_a_later_sync_writes_what_has_changed(tmp_path: Path) -> None:
    after = tmp_path / "after.yaml"
    after.write_text(Path(EVERY).read_text("utf-8").replace("10.244.2.100", "10.244.2.101"), "utf-8")
    words = ("rules", "-f", str(after), "--node", "node-a", "--before", EVERY)
    partial, full = call(*words).stdout, call(*words, "--full").stdout
    assert partial.count("--to-destination") == 3
    assert full.count("--to-destination") > 10
    for text in (partial, full):
        assert text.count("-X KUBE-SEP-") == 1
    assert call("rules", "-f", EVERY, "--node", "node-a", "--before", EVERY).stdout.count("--to-destination") == 0
    assert "no text of a later sync" in refused(*words, "--mode", "nftables")


def test_rules_need_a_manifest() -> None:
    assert refused("rules") == "-f: a manifest is needed"
    assert refused("rules", "-f", "nowhere.yaml") == "cannot read nowhere.yaml: No such file or directory"
    assert refused("rules", "-f", "/dev/null") == "/dev/null holds no Kubernetes object"


def test_a_full_sync_is_one_after_another() -> None:
    assert "--full is of no use without --before" in refused("rules", "-f", EVERY, "--full")


def test_a_dump_is_walked_to_json() -> None:
    words = ("--src", "203.0.113.5", "--dst", "192.168.0.2", "--proto", "tcp", "--dport", "8080")
    outcome = call("trace", "--rules", FOREIGN, *words, "--in-interface", "eth0", "--json")
    found = json.loads(outcome.stdout)
    (way,) = found["outcomes"]
    assert (way["to"], way["verdict"], way["probability"], way["masquerade"]) == ("172.17.0.2:80", "ACCEPT", 1.0, False)
    assert way["rules_tested"] == {
        "raw/PREROUTING": 1 + 3,
        "mangle/FORWARD": 1,
        "nat/PREROUTING": 1 + 2,
        "filter/FORWARD": 1 + 1 + 2,
        "mangle/POSTROUTING": 1,
        "nat/POSTROUTING": 2 + 3,
    }
    assert any("not modelled" in notice for notice in found["notices"])
    assert any("the node's own address" in notice for notice in found["notices"])


def test_what_comes_in_elsewhere_fares_otherwise() -> None:
    words = (
        "--rules",
        FOREIGN,
        "--src",
        "172.17.0.9",
        "--dst",
        "192.168.0.2",
        "--dport",
        "8080",
        "--local",
        "192.168.0.2",
    )
    found = json.loads(call("trace", *words, "--in-interface", "docker0", "--json").stdout)
    (way,) = found["outcomes"]
    assert (way["to"], way["verdict"]) == ("192.168.0.2:8080", "DROP")
    (own,) = json.loads(call("trace", *words, "--hook", "OUTPUT", "--json").stdout)["outcomes"]
    assert own["to"] == "172.17.0.2:80"


def test_outcomes_are_shown_to_people() -> None:
    outcome = call("trace", "--rules", FOREIGN, "--src", "203.0.113.5", "--dst", "198.51.100.1", "--dport", "25")
    assert "REJECT" in outcome.stdout
    assert "rejected by filter/FORWARD" in outcome.stdout


@pytest.mark.parametrize(("words", "to"), [((), "local:15006"), (("--hook", "OUTPUT"), "127.0.0.1:15001")])
def test_packets_redirected_to_a_node_without_known_addresses(words: tuple[str, ...], to: str, tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    dump.write_text(
        "*nat\n-A PREROUTING -p tcp -j REDIRECT --to-ports 15006\n-A OUTPUT -p tcp -j REDIRECT --to-ports 15001\nCOMMIT\n"
        "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n"
    )
    flow = ("--src", "10.0.0.1", "--dst", "10.0.0.2", "--dport", "80", "--in-interface", "eth1", *words, "--json")
    (way,) = json.loads(call("trace", "--rules", str(dump), *flow).stdout)["outcomes"]
    assert (way["to"], way["verdict"]) == (to, "ACCEPT")


def test_a_scenario_says_what_of_its_dumps_is_not_modelled(tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    dump.write_text("*filter\n-A FORWARD -m owner --uid-owner 0 -j DROP\nCOMMIT\n")
    scenario = tmp_path / "scenario.yaml"
    scenario.write_text(
        "name: dumped\ncluster: {nodes: 2, services: 1, endpoints: 2, endpoint_nodes: [node-2]}\ncni: flannel-vxlan\n"
        f"proxy: {{name: dump, rules: {dump}}}\n"
        "traffic: {workload: tcp_rr, clients_on: [node-1], transactions: 40}\n"
    )
    outcome = call("run", str(scenario))
    assert outcome.exception is None, outcome.exception
    assert "1 owner" in outcome.stderr


def test_addresses_in_brackets_are_shown_as_they_are(tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    dump.write_text(
        "*nat\n-A PREROUTING -d fd00:96::7/128 -p tcp -j DNAT --to-destination [fd00:100:1::5]:8080\nCOMMIT\n"
        '*filter\n-A FORWARD -m comment --comment "not [red]this[/red]" -j DROP\nCOMMIT\n'
    )
    shown = call("trace", "--rules", str(dump), "--src", "fd00::9", "--dst", "fd00:96::7", "--dport", "80").stdout
    assert "[fd00:100:1::5]:8080" in shown
    assert "not [red]this[/red]" in shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--rules", FOREIGN), "--rules needs --src, --dst and --dport too"),
        (("--rules", FOREIGN, "--src", "1.2.3.4", "--dst", "x", "--dport", "1"), "dst: 'x' is not an address"),
        (("--rules", FOREIGN, "--src", "::1", "--dst", "1.2.3.4", "--dport", "1"), "are of different families"),
        (
            ("--rules", FOREIGN, "--src", "1.2.3.4", "--dst", "1.2.3.4", "--dport", "1", "--proto", "tpc"),
            "proto: 'tpc'",
        ),
        (
            ("--rules", FOREIGN, "--src", "1.2.3.4", "--dst", "1.2.3.4", "--dport", "1", "--hook", "INPUT"),
            "--hook: there is no",
        ),
        (("--rules", EVERY, "--src", "1.2.3.4", "--dst", "1.2.3.4", "--dport", "1"), "line 2: "),
        (("--rules", "nowhere", "--src", "1.2.3.4", "--dst", "1.2.3.4", "--dport", "1"), "cannot read nowhere"),
        ((), "trace needs a scenario with --from and --to, or --rules"),
        ((*WALK, "--local", "foo"), "local: 'foo' is not an address"),
        ((*WALK, "--local", "::5"), "--local: ::5 is of another family than --src 1.2.3.4"),
        ((*WALK, "--in-interface", ""), "in-interface: '' is no name of a device"),
        (("--rules", FOREIGN, "--src", "fe80::1", "--dst", "fe80::1%eth0", "--dport", "1"), "has a zone"),
        ((*WALK, "scenario.yaml"), "SCENARIO.yaml goes with a scenario, not with --rules"),
        ((*WALK, "--from", "a"), "--from goes with a scenario, not with --rules"),
        ((*WALK, "--set", "proxy=ipvs"), "--set goes with a scenario, not with --rules"),
        (("scenario.yaml", "--src", "1.1.1.1"), "--src goes with --rules, not with a scenario"),
    ],
)
def test_wrong_words_are_told_in_one_line(words: tuple[str, ...], message: str) -> None:
    assert message in refused("trace", *words)
