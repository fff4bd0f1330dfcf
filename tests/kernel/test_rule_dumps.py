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
