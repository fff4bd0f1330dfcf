"""kube-proxy's iptables mode against worked examples: text, state in the kernel, packets and rules tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kubesim.cluster import Cluster
from kubesim.kernel.netfilter.hooks import Hook
from kubesim.kernel.netfilter.ruleset import RuleSet
from kubesim.kernel.rule_trace import Flow, trace_rules
from kubesim.proxy._iptables_rules import IptablesRules
from kubesim.proxy._iptables_sync import restore_text
from kubesim.proxy._kube_proxy import NodeView
from kubesim.proxy.iptables import Plugin, Settings
from tests.kubeproxy_examples import Example, each_example


def rules_of(example: Example, cluster: Cluster) -> IptablesRules:
    return IptablesRules(NodeView(cluster, Settings(**example.settings()), example.node))


@each_example
def test_the_restore_text_is_kube_proxys(name: str, tmp_path: Path) -> None:
    example = Example(name, tmp_path)
    proxy = Plugin(example.cluster(), Settings(**example.settings()))
    assert example.marked(proxy.text(example.node, "restore", "ipv4")) == example.text("expected.iptables-restore")


@each_example
def test_the_save_text_is_the_kernels(name: str, tmp_path: Path) -> None:
    example = Example(name, tmp_path)
    saved = Plugin(example.cluster(), Settings(**example.settings())).text(example.node, "save", "ipv4")
    assert saved == example.text("expected.iptables-save")
    assert RuleSet.read(saved, "save").save() == saved


@each_example
def test_later_syncs_write_what_kube_proxy_writes(name: str, tmp_path: Path) -> None:
    example = Example(name, tmp_path)
    before = rules_of(example, example.cluster())
    for step, cluster, is_forced in example.steps():
        rules = rules_of(example, cluster)
        written = example.marked(restore_text(rules, before, is_partial=not is_forced))
        assert written == example.text(f"expected.iptables-restore.{step}"), step
        before = rules


@each_example
@pytest.mark.parametrize("knows_addresses", [True, False])
def test_packets_fare_as_in_the_kernel(name: str, knows_addresses: bool, tmp_path: Path) -> None:
    example = Example(name, tmp_path)
    if not (example.path / "kernel_flows.json").exists():
        pytest.skip("no packets were sent through this example")
    expected = json.loads(example.text("flows.json"))
    seen = {flow["name"]: flow for flow in json.loads(example.text("kernel_flows.json"))["flows"]}
    rules = RuleSet.read(example.text("expected.iptables-save"), "save")
    for flow in expected["flows"]:
        kernel = seen.get(flow["name"])
        hook = Hook.OUTPUT if kernel is not None and kernel["injectedIn"] == "node" else Hook.PREROUTING
        packet = Flow(flow["sourceIP"], flow["destIP"], flow["protocol"], flow["destPort"], hook)
        found = trace_rules(packet, rules.install, expected["localIPs"] if knows_addresses else None).outcomes
        check(flow, found)
        if kernel is not None and (knows_addresses or not is_external_ip_of_the_node(flow)):
            tested = {hook.replace(" ", "/"): one["rulesEvaluated"] for hook, one in kernel["hooks"].items()}
            ways = [one.rules_tested for one in found if kernel["dnat"] in ("", None, one.to)]
            assert {place: count for place, count in tested.items() if count} in ways, flow["name"]


def is_external_ip_of_the_node(flow: dict[str, Any]) -> bool:
    """Whether a rule names an address that is the node's own, which cannot be known from the rules."""
    return bool(flow["destIP"] == "192.168.99.11" and flow["output"] == "REJECT")


def check(flow: dict[str, Any], found: Any) -> None:
    output, name = flow["output"], flow["name"]
    if isinstance(output, list):
        assert [one.to for one in found] == output, name
        assert {(one.verdict, one.is_masqueraded) for one in found} == {("ACCEPT", flow["masq"])}, name
        assert sum(one.probability for one in found) == pytest.approx(1)
        assert [one.probability for one in found] == pytest.approx([1 / len(output)] * len(output), abs=1e-9)
    elif output:
        assert {one.verdict for one in found} == {output}, name
    else:
        assert [(one.to, one.verdict) for one in found] == [(f"{flow['destIP']}:{flow['destPort']}", "ACCEPT")], name
