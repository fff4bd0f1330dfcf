"""Packets through a host's tables of nftables, with the rules that were tested, chain by chain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from kubesim.kernel.dummy import Dummy
from kubesim.kernel.namespace import Host, Namespace
from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.hooks import Hook
from kubesim.kernel.netfilter.nftables import NftTable
from kubesim.kernel.netfilter.rule import Probe
from kubesim.kernel.netfilter.traversal import State
from kubesim.kernel.packet import Packet
from kubesim.kernel.walk import Chance, Walk

Counts = dict[str, list[int]]


@dataclass
class Counter:
    """Stands in front of a rule and counts how often it is tested, as a counter does in the kernel."""

    operation: ClassVar[str] = ""
    counts: list[int]
    position: int

    def probability(self, _probe: Probe, _state: State) -> float:
        self.counts[self.position] += 1
        return 1.0


def count_rules(table: NftTable) -> Counts:
    """Have a table count from now on; chains that are shared stay as they are."""
    find, counts = table._chain, Counts()

    def counted(name: str) -> Chain:
        chain = find(name)
        own = counts.setdefault(name, [0] * len(chain))
        rules = [replace(rule, matches=(Counter(own, n), *rule.matches)) for n, rule in enumerate(chain.rules)]
        return Chain(name, rules, chain.policy)

    table._chain = counted
    return counts


@dataclass(frozen=True)
class Fate:
    """What became of a packet."""

    verdict: str
    destination: str
    is_masqueraded: bool
    rules_tested: int
    counts: Counts = field(default_factory=dict)


def host(local: list[str]) -> Namespace:
    """A host with these addresses, a device to pods, and one to the outside."""
    root = Host("test-hostname").root
    root.is_forwarding = True
    devices = {"pods": Dummy(root, "pods", 1500), "eth0": Dummy(root, "eth0", 1500)}
    for address in local:
        root.add_address(root.loopback if address in ("127.0.0.1", "::1") else devices["eth0"], address)
    return root


def send(root: Namespace, flow: dict[str, Any], luck: float) -> Fate:
    """Send the first packet of a connection past the hooks that Linux would call."""
    packet = Packet(flow["sourceIP"], flow["destIP"], flow["protocol"], 20_000, flow["destPort"], 0, is_opening=True)
    (table,) = root.nft_tables
    counts = count_rules(table)
    walk = Walk(Chance(luck))
    run = root.hooks.run
    source = "pods" if flow["injectedIn"] == "pod side" else "eth0"
    passed = True
    if flow["injectedIn"] == "node":
        passed = run(walk, packet, Hook.OUTPUT, root, out_device="eth0")
        is_local = root.is_local(packet.destination)
        out = "lo" if is_local else "eth0"
        passed = passed and run(walk, packet, Hook.POSTROUTING, root, out_device=out)
        passed = passed and (not is_local or _receive(run, walk, packet, root, "lo"))
    else:
        passed = _receive(run, walk, packet, root, source)
    connection = packet.connection
    assert connection is not None
    verdict = "accepted" if passed else "REJECT" if "rejected" in str(walk._reason) else "DROP"
    translated = connection.has_destination_nat and passed
    return Fate(
        verdict,
        f"{connection.reply.source}:{connection.reply.source_port}" if translated else "",
        connection.has_source_nat,
        sum(walk._rules_tested.values()),
        {name: found for name, found in counts.items() if any(found)},
    )


def _receive(run: Callable[..., bool], walk: Walk, packet: Packet, root: Namespace, device: str) -> bool:
    if not run(walk, packet, Hook.PREROUTING, root, in_device=device):
        return False
    if root.is_local(packet.destination):
        return run(walk, packet, Hook.INPUT, root, in_device=device)
    out = "eth0" if device == "pods" else "pods"
    return run(walk, packet, Hook.FORWARD, root, in_device=device, out_device=out) and run(
        walk, packet, Hook.POSTROUTING, root, in_device=device, out_device=out
    )


def all_fates(install: Callable[[Namespace], object], local: list[str], flow: dict[str, Any], ways: int) -> list[Fate]:
    """Send the packet again and again, each time with other luck and to a host that has seen none."""
    found = []
    for way in range(ways):
        root = host(local)
        install(root)
        found.append(send(root, flow, (way + 0.5) / ways))
    return found
