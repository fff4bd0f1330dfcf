"""Twins on this host's kernel: built as simulated, passed as walked, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubesim.errors import InputError
from kubesim.scenario import Scenario
from kubesim.twin.calibrate import calibrate
from kubesim.twin.cases import Case, Measured, Measurement
from kubesim.twin.datagrams import Datagrams
from kubesim.twin.designs import Extent, designed
from kubesim.twin.probe import Probe
from kubesim.twin.realise import Twin
from kubesim.twin.run import bring_up, compare, take_down
from kubesim.twin.transport import source_ports
from kubesim.twin.uml import run_in_user_mode
from kubesim.twin.wires import twin_deployment
from tests.netns import needs_kernel, require, run

pytestmark = needs_kernel

Counted = tuple[Counter[tuple[str, str]], Counter[str]]

KUBE_PROXY = "ip kube-proxy"
COUNTED = ("udp", "ipencap")  # what is sent, and what IPIP makes of it; bridges send IGMP, which is nobody's here
TABLES = ("nat", "filter", "mangle", "raw")  # of iptables; else it is a base chain of kube-proxy's own table
AT_HOOK = "-m comment --comment hook"
NFT_PROBE = "meta l4proto udp counter"

MODULES = (
    "veth", "bridge", "dummy", "nf_tables", "nft_compat", "ip_tables", "iptable_filter", "iptable_nat", "iptable_mangle", "nf_conntrack",
    "ip_vs", "ip_vs_rr", "ip_vs_lc", "ipip", "ip_set", "ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip",
    "ip_set_hash_ipportnet", "ip_set_bitmap_port", "xt_set", "xt_mark", "xt_nat", "xt_statistic", "xt_MASQUERADE", "xt_addrtype", "xt_comment",
    "xt_conntrack", "xt_physdev", "xt_tcpudp", "xt_multiport", "xt_CT", "ipt_REJECT", "ipt_rpfilter", "iptable_raw",
    "ip_set_hash_net", "vxlan",
)  # fmt: skip
"""Of the user-mode kernel."""

HOOKS = ("prerouting", "input", "forward", "output", "postrouting")


@pytest.fixture(autouse=True)
def _tools() -> None:
    require("ip", "sysctl", "iptables-legacy-restore", "iptables-nft-restore", "nft")


@pytest.fixture(autouse=True)
def _host(_tools: None) -> Iterator[None]:
    """What a twin must leave as it was: everything of this host's own."""
    before = host_state()
    yield
    assert host_state() == before


def host_state() -> dict[str, str]:
    """Namespaces of runs, devices, routes and rules of the host."""
    return {
        "namespaces": " ".join(name for name in run("ip", "netns", "list").split() if is_own(name)),
        "devices": run("ip", "-brief", "link"),
        "routes": run("ip", "route", "show", "table", "all"),
        "rules": "".join(rules_of(backend) for backend in ("legacy", "nft")),
        "nftables": run("nft", "list", "ruleset"),
        "forwarding": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
    }


def rules_of(backend: str) -> str:
    """The host's rules, without what counts and when."""
    lines = [line for line in run(f"iptables-{backend}-save").splitlines() if not line.startswith("#")]
    return re.sub(r"\[\d+:\d+\]", "", "\n".join(lines))


def is_own(namespace: str) -> bool:
    """Whether this process made it, or one that is gone; others may be testing too."""
    owner = namespace.removeprefix("kubesim-run-").partition("-")[0]
    return namespace.startswith("kubesim-run-") and (owner == str(os.getpid()) or not Path(f"/proc/{owner}").exists())


def scenario(
    cni: Any,
    proxy: Any,
    endpoints: int = 3,
    nodes: tuple[str, ...] = ("node-1", "node-2"),
    workload: str = "udp_rr",
    nodes_in_all: int = 2,
) -> Scenario:
    cluster = {"nodes": nodes_in_all, "services": 5, "endpoints": endpoints, "endpoint_nodes": list(nodes)}
    traffic = {"workload": workload, "clients_on": ["node-1"]}
    return Scenario.model_validate({"cluster": cluster, "cni": cni, "proxy": proxy, "traffic": traffic})


def counting_table() -> str:
    """A table that counts datagrams at every hook of bridges."""
    chains = "\n".join(
        f"chain at_{hook} {{ type filter hook {hook} priority -350; policy accept; meta l4proto udp counter; }}"
        for hook in HOOKS
    )
    return f"table bridge count {{\n{chains}\n}}\n"


def counting_rules() -> str:
    """Rules that count datagrams, and what tunnels make of them, at every hook of IP: ``mangle`` has a chain at each."""
    rules = (f"-I {hook.upper()} -p {one} {AT_HOOK}\n" for hook in HOOKS for one in COUNTED)
    return "".join(["*mangle\n", *rules, "COMMIT\n"])


def hooks_passed(namespace: str) -> Counter[tuple[str, str]]:
    """How many datagrams have passed each hook of a node."""
    found: Counter[tuple[str, str]] = Counter()
    inside = ("ip", "netns", "exec", namespace)
    for line in run(*inside, "iptables-legacy-save", "-c", "-t", "mangle").splitlines():
        rule = re.fullmatch(rf"\[(\d+):\d+\] -A (\w+) -p (?:{'|'.join(COUNTED)}) {AT_HOOK}", line)
        if rule:
            found[("ip", rule[2].lower())] += int(rule[1])
    if has_bridge(namespace):
        hook = ""
        for line in run(*inside, "nft", "list", "table", "bridge", "count").splitlines():
            words = line.split()
            if words[:1] == ["chain"]:
                hook = words[1].removeprefix("at_")
            if "packets" in words:
                found[("bridge", hook)] += int(words[words.index("packets") + 1])
    return +found


def rules_tested(namespace: str) -> Counter[str]:
    """How many rules datagrams were held against, by table."""
    inside = ("ip", "netns", "exec", namespace)
    found: Counter[str] = Counter()
    for backend in ("legacy", "nft"):
        table = ""
        for line in run(*inside, f"iptables-{backend}-save", "-c").splitlines():
            if line.startswith("*"):
                table = line[1:]
            if line.startswith("[") and line.endswith(tuple(f" -p {one}" for one in COUNTED)):
                found[table] += int(line[1:].partition(":")[0])
    if has_nftables(namespace):
        for packets in re.findall(
            f"{NFT_PROBE} packets (\\d+)", run(*inside, "nft", "list", "table", *KUBE_PROXY.split())
        ):
            found[KUBE_PROXY.split()[1]] += int(packets)
    return +found


def has_nftables(namespace: str) -> bool:
    """Whether kube-proxy's own table is there."""
    return KUBE_PROXY in run("ip", "netns", "exec", namespace, "nft", "list", "tables")


def has_bridge(namespace: str) -> bool:
    """Whether there is a bridge, whose hooks packets can pass."""
    return bool(run("ip", "netns", "exec", namespace, "ip", "-brief", "link", "show", "type", "bridge").strip())


def counted(nodes: dict[str, str]) -> dict[str, Counted]:
    """All of that, by node, once what is on its way has arrived."""
    time.sleep(0.1)
    return {name: (hooks_passed(namespace), rules_tested(namespace)) for name, namespace in nodes.items()}


@pytest.mark.parametrize("where", ["node-1", "node-2"])
@pytest.mark.parametrize("proxy", ["iptables", {"name": "iptables", "backend": "nft"}, "nftables"])
@pytest.mark.parametrize("cni", ["calico-bgp", "calico-vxlan", "flannel-host-gw", "flannel-vxlan"])
def test_hooks_and_rules_are_those_of_the_walk(cni: str, proxy: Any, where: str) -> None:
    hold_against_the_kernel(cni, proxy, where)


@pytest.mark.parametrize(
    ("cni", "proxy", "where"),
    [("calico-bgp", "ipvs", "node-1"), ("calico-bgp", "ipvs", "node-2"), ("calico-ipip", "iptables", "node-2")],
)
def test_those_that_only_a_user_mode_kernel_has_are_too(cni: str, proxy: str, where: str) -> None:
    require("linux.uml", "ipvsadm", "ipset")
    program = ["-m", "tests.twin.held_against_the_kernel", "walk", cni, proxy, where]
    held = run_in_user_mode(program, modules=MODULES, memory_mib=1024, limit_s=300)
    assert not held["differs"], held["differs"]


def test_designs_of_ipvs_can_be_measured_where_it_is() -> None:
    require("linux.uml", "ipvsadm", "ipset")
    program = ["-m", "tests.twin.held_against_the_kernel", "designs"]
    held = run_in_user_mode(program, modules=MODULES, memory_mib=1024, limit_s=240)
    assert not held["differs"], held["differs"]
    assert set(held["found"]["ipvs_schedule"]) == {1, 8}, "one by round robin, all by least connection"
    assert held["found"]["ipvs_service_lookup"]


def test_chains_sets_and_the_same_pod_are_measured() -> None:
    cases = {case.name: case for case in designed(Extent.QUICK)}
    wanted = [cases[f"calico-bgp, {name}"] for name in ("300 rules with a match", "50 rules with a set", "same pod")]
    found: dict[str, dict[str, int]] = {}
    for one in Measurement(wanted).run(4):
        found[one.way.setting] = {hop.operation: hop.items for hop in one.hops}
    assert found["calico-bgp, 300 rules with a match"]["iptables_match"] == 300
    assert found["calico-bgp, 50 rules with a set"]["ipset_lookup"] == 50
    assert "loopback_transmit" in found["calico-bgp, same pod"]
    assert "veth_transmit" not in found["calico-bgp, same pod"]


def hold_against_the_kernel(cni: str, proxy: Any, where: str) -> None:
    """Send a packet to the third of five Services, new and established, by the walk and in a twin: both say the same."""
    chosen = scenario(cni, proxy, 1, (where,))
    expected = {one.way.is_new: one for one in Measurement([Case("", chosen, ("middle",))]).run(4)}
    deployment = twin_deployment(chosen)
    _, service, port = list(deployment.cluster.service_ports())[2]
    client = deployment.cluster.pod("client-1")
    server = deployment.cluster.pod("svc-3-0")
    twin = Twin(deployment, [client, server], f"kubesim-test-{os.getpid()}")
    with contextlib.ExitStack() as stack:
        stack.callback(twin.down)
        twin.up()
        nodes = {one.name: twin.name(deployment.host(one.name).root) for one in deployment.cluster.nodes}
        for namespace in nodes.values():
            count_in(namespace)
        listeners = stack.enter_context(
            contextlib.closing(Datagrams([twin.name(deployment.namespace(server))], 8080, source_ports()))
        )
        called = (str(service.cluster_ip), port.port)
        for is_new in (True, False):
            sender = twin.name(deployment.namespace(client))
            probe = Probe(sender, listeners, client.address, called, payload_bytes=64, is_new=is_new)
            with contextlib.closing(probe):
                probe.warm_up()
                listeners.announce(client.address)
                before = counted(nodes)
                probe.sample(1)
                check(expected[is_new], before, counted(nodes))


def count_in(namespace: str) -> None:
    """Have a node count datagrams at hooks and rules."""
    inside = ("ip", "netns", "exec", namespace)
    for backend in ("legacy", "nft"):
        rules = run(*inside, f"iptables-{backend}-save")
        if "-A " in rules:
            run(*inside, f"iptables-{backend}-restore", text=with_probes(rules))
    if has_nftables(namespace):
        table = run(*inside, "nft", "list", "table", *KUBE_PROXY.split())
        run(*inside, "nft", "-f", "-", text=f"delete table {KUBE_PROXY}\n{with_nft_probes(table)}")
    run(*inside, "iptables-legacy-restore", "--noflush", text=counting_rules())
    if has_bridge(namespace):
        run(*inside, "nft", "-f", "-", text=counting_table())


def with_probes(save: str) -> str:
    """Put rules that only count in front of every rule, one for each protocol: together they say how often it is tested."""
    lines: list[str] = []
    for line in save.splitlines():
        if line.startswith("-A "):
            lines += [f"-A {line.split()[1]} -p {one}" for one in COUNTED]
        lines.append(line)
    return "\n".join([*lines, ""])


def with_nft_probes(table: str) -> str:
    """Put a rule that only counts in front of every rule of a table, as ``nft list table`` prints it."""
    lines: list[str] = []
    is_in_chain = False
    for line in table.splitlines():
        words = line.split()
        is_rule = is_in_chain and words != ["}"] and words[0] not in ("type", "comment")
        is_in_chain = words[:1] == ["chain"] or (is_in_chain and words != ["}"])
        lines += [NFT_PROBE, line] if is_rule else [line]
    return "\n".join([*lines, ""])


def check(expected: Measured, before: dict[str, Counted], after: dict[str, Counted]) -> None:
    """Hold what the kernel counted against the walk."""
    for name, (hooks, rules) in after.items():
        passed = [one for one in expected.path.hooks if one.host == name]
        visits = Counter((one.family.replace("inet", "ip"), one.hook.removeprefix("br_")) for one in passed)
        assert hooks - before[name][0] == visits, f"{name}, {expected.way.name}"
        tested: Counter[str] = Counter()
        for (where, place), count in expected.path.rules_tested.items():
            if where == name:
                table = place.partition("/")[0]
                tested[table if table in TABLES else KUBE_PROXY.split()[1]] += count
        assert rules - before[name][1] == +tested, f"{name}, {expected.way.name}"


@pytest.mark.parametrize("proxy", ["iptables", {"name": "iptables", "backend": "nft"}, "nftables", "none"])
@pytest.mark.parametrize("cni", ["calico-bgp", "flannel-host-gw", "flannel-vxlan"])
def test_every_way_is_measured_and_predicted(cni: str, proxy: Any) -> None:
    found = compare(scenario(cni, proxy), ["first", "last"], [64, 1372])
    assert {(one.way.service, one.way.payload_bytes, one.way.is_new) for one in found} == {
        (service, size, is_new) for service in ("svc-1", "svc-5") for size in (64, 1372) for is_new in (True, False)
    }
    assert all(0 < one.timing.best_ns <= one.timing.median_ns for one in found)
    assert all(abs(one.error_ratio) < 5 for one in found)


def test_many_nodes_are_joined_by_a_switch() -> None:
    chosen = scenario("flannel-vxlan", "iptables", 3, ("node-2", "node-3", "node-4"), nodes_in_all=4)
    found = compare(chosen, ["first"], [64])
    assert {one.server for one in found if one.way.is_new} == {f"default/svc-1-{number}" for number in range(3)}
    joined = compare(scenario("flannel-vxlan", "iptables", 3, ("node-2",)), ["first"], [64])
    for is_new in (False, True):
        switched, wired = (
            min(one.predicted_ns for one in ways if one.way.is_new is is_new) for ways in (found, joined)
        )
        assert switched > wired


def test_a_kernel_without_ipvs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubesim.twin.realise.has_ipvs", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: name)
    with pytest.raises(InputError, match=r"^this kernel has no IPVS \(module ip_vs\): .*--kernel uml$"):
        compare(scenario("calico-bgp", "ipvs"), ["first"], [64])


@pytest.mark.parametrize("workload", ["tcp_rr", "udp_rr"])
def test_segments_and_datagrams_arrive(workload: str) -> None:
    found = compare(scenario("flannel-vxlan", "iptables", workload=workload), ["first", "last"], [64, 1372])
    assert len({(one.way.service, one.way.payload_bytes, one.way.is_new) for one in found}) == 8
    assert all(one.timing.samples >= 20 for one in found)


@pytest.mark.parametrize(
    ("cni", "what"),
    [
        ("antrea-geneve", "no internalport device, such as antrea-gw0"),
        ("weave", "no datapath, which vethwe-datapath hands its packets to"),
        ({"name": "weave", "mode": "sleeve"}, "no packetrelay, which vethwe-pcap hands its packets to"),
    ],
)
def test_what_only_user_space_can_do_is_refused(cni: Any, what: str) -> None:
    with pytest.raises(InputError, match=f"^a twin has {what}$"):
        compare(scenario(cni, "none"), ["first"], [64])


def test_a_client_that_serves_itself_is_refused() -> None:
    with pytest.raises(InputError, match=r"^svc-1-0 serves svc-1 itself: the twin needs another client$"):
        compare(scenario("calico-bgp", "iptables"), ["first"], [64], "svc-1-0")


def test_programs_are_not_made_real() -> None:
    with pytest.raises(InputError, match=r"^cni: a twin has no eBPF programs, so that cilium cannot be made real$"):
        bring_up(scenario("cilium", "cilium-ebpf"))


def test_a_twin_stays_until_it_is_taken_down() -> None:
    names = bring_up(scenario("flannel-vxlan", "iptables"))
    try:
        assert {"node-1", "node-2", "default/client-1"} <= set(names)
        inside = run("ip", "netns", "exec", names["node-1"], "iptables-legacy-save")
        assert "KUBE-SVC-" in inside
        assert run("ip", "netns", "exec", names["node-1"], "ip", "-brief", "link").count("veth") == 1
        again = bring_up(scenario("calico-bgp", "none"))
        assert set(names.values()) == set(again.values()), "the one before is replaced"
    finally:
        removed = take_down()
    assert set(removed) == set(names.values())
    assert take_down() == []


def test_what_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None if name == "nft" else f"/usr/sbin/{name}")
    with pytest.raises(InputError, match=r"^not installed: nft: install "):
        compare(scenario("calico-bgp", "nftables"), ["first"], [64])


@pytest.mark.slow
def test_this_machine_is_measured() -> None:
    found = calibrate(extent=Extent.QUICK)
    assert len(found.held_out) > 20
    assert found.share_within(0.5, found.held_out) > 0.8, "the target is 10 %, but a busy machine must not fail a build"


@pytest.mark.slow
def test_killed_runs_leave_nothing_once_another_has_run(tmp_path: Path) -> None:
    file = tmp_path / "scenario.yaml"
    file.write_text(
        "cluster: {nodes: 2, services: 20, endpoints: 2}\ncni: flannel-vxlan\nproxy: iptables\n"
        "traffic: {workload: udp_rr, clients_on: [node-1]}\n"
    )
    command = [sys.executable, "-m", "kubesim", "twin", "run", str(file), "--json"]
    run(*command)
    settings = network_settings()
    moments = random.Random(20)
    killed = 0
    for _ in range(20):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(moments.uniform(0.5, 2.2))
        killed += process.poll() is None
        process.kill()
        process.wait()
    assert killed > 10
    run(*command)
    assert network_settings() == settings
    assert str(file) not in run("ps", "-eo", "args")


def network_settings() -> list[str]:
    """The host's sysctls that do not count anything."""
    return [line for line in run("sysctl", "-a", "--pattern", r"^net\.").splitlines() if "conntrack_count" not in line]
