"""Rules in the real kernel: it prints what we print, sends packets where we do, and tests as many rules."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from kubesim.cluster import read_cluster
from kubesim.kernel.netfilter.hooks import Hook
from kubesim.kernel.netfilter.ruleset import RuleSet
from kubesim.kernel.rule_trace import Flow, trace_rules
from kubesim.proxy.iptables import Plugin, Settings
from tests.netns import Arrived, KernelNode, kernel_node, needs_kernel, require

pytestmark = needs_kernel

NODE = "192.168.0.2"
LOCAL = [NODE, "192.168.99.11"]
MANIFEST = Path(__file__).parent / "every-feature.yaml"
POD, OTHER_POD, OUTSIDE = "10.244.1.5", "10.244.2.7", "203.0.113.9"

FLOWS = [
    (POD, "172.30.0.41", "tcp", 80),
    ("10.244.1.10", "172.30.0.41", "tcp", 80),
    (OUTSIDE, "172.30.0.41", "tcp", 80),
    (POD, "172.30.0.41", "udp", 80),
    (POD, "172.30.0.42", "udp", 53),
    (POD, "172.30.0.43", "tcp", 80),
    (POD, "172.30.0.44", "tcp", 80),
    (POD, "172.30.0.45", "tcp", 80),
    (POD, "172.30.0.46", "tcp", 80),
    (OUTSIDE, NODE, "tcp", 30041),
    (POD, NODE, "tcp", 30041),
    (OUTSIDE, NODE, "tcp", 30044),
    (OUTSIDE, NODE, "tcp", 30045),
    (OUTSIDE, "192.168.99.11", "tcp", 80),
    (OUTSIDE, "1.2.3.4", "tcp", 80),
    ("198.51.100.7", "1.2.3.4", "tcp", 80),
    (POD, "1.2.3.5", "tcp", 80),
    (OUTSIDE, "1.2.3.5", "tcp", 80),
    (POD, OTHER_POD, "tcp", 8080),
    (OUTSIDE, OTHER_POD, "udp", 9),
    (NODE, "172.30.0.41", "tcp", 80),
    (NODE, NODE, "tcp", 30041),
    (NODE, OTHER_POD, "tcp", 8080),
    (NODE, "1.2.3.5", "tcp", 80),
]


def rules_text(form: str) -> str:
    cluster = read_cluster([MANIFEST], "node-a")
    proxy = Plugin(cluster, Settings(cluster_cidr=["10.244.0.0/16"]))
    return proxy.text(cluster.node("node-a"), form, "ipv4")


def load(node: KernelNode, save: str, backend: str) -> None:
    """Load a save text: the base chains' jumps are in it."""
    node.do(f"iptables-{backend}-restore", text=save)


def plain(save: str) -> str:
    """A save text without comments and counters, tables in our order."""
    lines = [line for line in save.splitlines() if not line.startswith("#")]
    text = re.sub(r"\[\d+:\d+\]", "[0:0]", "\n".join([*lines, ""]))
    tables = dict(re.findall(r"^\*(\w+)\n(.*?)^COMMIT\n", text, re.MULTILINE | re.DOTALL))
    return "".join(f"*{name}\n{tables[name]}COMMIT\n" for name in ("nat", "filter"))


def with_probes(save: str, tool: str) -> str:
    """Put a rule that only counts in front of every rule: its counter says how often the rule behind it is tested.

    Refusals and neighbour discovery, which are packets too, are not counted.
    """
    probe = "! -p ipv6-icmp" if tool == "ip6tables" else "! -p icmp"
    lines: list[str] = []
    for line in save.splitlines():
        if line.startswith("-A "):
            lines.append(f"-A {line.split()[1]} {probe}")
        lines.append(line)
    return "\n".join([*lines, ""])


def times_tested(node: KernelNode, tool: str) -> Counter[str]:
    """How often rules have been tested since the start, by table."""
    found: Counter[str] = Counter()
    table = ""
    for line in node.do(f"{tool}-legacy-save", "-c").splitlines():
        if line.startswith("*"):
            table = line[1:]
        probe = re.fullmatch(r"\[(\d+):\d+\] -A \S+ ! -p \S+", line)
        if probe:
            found[table] += int(probe[1])
    return found


@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_the_kernel_takes_the_rules_and_prints_them_as_we_do(backend: str) -> None:
    require(f"iptables-{backend}-restore")
    with kernel_node(LOCAL) as node:
        node.do(f"iptables-{backend}-restore", "--test", "--noflush", text=rules_text("restore"))
        load(node, rules_text("save"), backend)
        assert plain(node.do(f"iptables-{backend}-save")) == rules_text("save")


NODE6, POD6, OUTSIDE6 = "2001:db8::2", "fd00:1::5", "2001:db8:9::9"
DUAL = """
apiVersion: v1
kind: Service
metadata: {name: dual, namespace: ns}
spec:
  type: NodePort
  clusterIP: fd00:10::8
  ipFamilies: [IPv6]
  clusterIPs: [fd00:10::8]
  externalIPs: ["2001:db8:8::8"]
  externalTrafficPolicy: Local
  ports: [{port: 80, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dual-6, namespace: ns, labels: {kubernetes.io/service-name: dual}}
addressType: IPv6
ports: [{port: 8080, name: ""}]
endpoints: [{addresses: ["fd00:1::7"], nodeName: node-a}, {addresses: ["fd00:2::7"], nodeName: node-b}]
---
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: ns}
spec: {clusterIP: "fd00:10::9", ports: [{port: 80}]}
---
apiVersion: v1
kind: Node
metadata: {name: node-a}
spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24, "fd00:1::/64"]}
status: {addresses: [{type: InternalIP, address: "2001:db8::2"}]}
"""
FLOWS6 = [
    (POD6, "fd00:10::8", "tcp", 80),
    (OUTSIDE6, "fd00:10::8", "tcp", 80),
    (OUTSIDE6, NODE6, "tcp", 30080),
    (POD6, "2001:db8:8::8", "tcp", 80),
    (OUTSIDE6, "2001:db8:8::8", "tcp", 80),
    (POD6, "fd00:2::7", "udp", 53),
    (NODE6, "fd00:10::8", "tcp", 80),
    ("fd00:1::7", "fd00:10::8", "tcp", 80),
]


def test_ipv6_rules_fare_alike(tmp_path: Path) -> None:
    require("ip6tables-legacy-restore")
    file = tmp_path / "dual.yaml"
    file.write_text(DUAL)
    cluster = read_cluster([file], "node-a")
    proxy = Plugin(cluster, Settings(cluster_cidr=["fd00::/12"]))
    save = proxy.text(cluster.node("node-a"), "save", "ipv6")
    with kernel_node([NODE6]) as node:
        node.do("ip6tables-legacy-restore", text=save)
        assert plain(node.do("ip6tables-legacy-save")) == save
        check_flows(node, save, FLOWS6, (NODE6,), "ip6tables")


def test_packets_go_where_the_walk_says_and_are_held_against_as_many_rules() -> None:
    require("iptables-legacy-restore")
    with kernel_node(LOCAL) as node:
        check_flows(node, rules_text("save"), FLOWS, LOCAL, "iptables")


def place_of(arrived: Arrived) -> str:
    """Where a packet went, as the walk writes it."""
    address = f"[{arrived.destination}]" if ":" in arrived.destination else arrived.destination
    return f"{address}:{arrived.port}"


def check_flows(
    node: KernelNode, save: str, flows: list[tuple[str, str, str, int]], local: Sequence[str], tool: str
) -> None:
    """Send a packet for each flow through the kernel and through the walk."""
    rules = RuleSet.read(save, "save", is_ipv6=tool == "ip6tables")
    node.do(f"{tool}-legacy-restore", text=with_probes(save, tool))
    for source, destination, protocol, port in flows:
        is_own = source in local
        hook, device = (
            (Hook.OUTPUT, None) if is_own else (Hook.PREROUTING, "pod0" if source[:3] in ("10.", "fd0") else "eth0")
        )
        flow = Flow(source, destination, protocol, port, hook, device or "eth0")
        expected = trace_rules(flow, rules.install, local).outcomes
        before = times_tested(node, tool)
        arrived = node.send(source, destination, protocol, port, device)
        counted = times_tested(node, tool) - before
        where = f"{source} > {destination}:{port}/{protocol}"
        if arrived is None:
            ways = [
                one for one in expected if one.verdict != "ACCEPT" or one.to.rpartition(":")[0].strip("[]") in local
            ]
        else:
            ways = [one for one in expected if one.to == place_of(arrived)]
        assert ways, f"{where}: {arrived}, but the walk says {expected}"
        (way,) = ways
        if arrived is not None:
            assert (arrived.source != source) == (way.is_masqueraded and not is_own), where
        sums: Counter[str] = Counter()
        for place, count in way.rules_tested.items():
            sums[place.partition("/")[0]] += count
        assert counted == sums, where
