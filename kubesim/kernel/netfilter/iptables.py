"""iptables: the tables raw, mangle, nat and filter, each with a chain per hook (net/ipv4/netfilter/ip_tables.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.conntrack import Conntrack
from kubesim.kernel.netfilter.execute import execute
from kubesim.kernel.netfilter.hooks import Hook, HookCall, Priority, Verdict
from kubesim.kernel.netfilter.matches import EXTENSION
from kubesim.kernel.netfilter.nat import Nat
from kubesim.kernel.netfilter.rule import Probe
from kubesim.kernel.netfilter.targets import Drop
from kubesim.kernel.netfilter.traversal import State, Traversal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Chance, Walk


class Backend(NamedTuple):
    """What a back end of iptables runs on, as operations.

    Parameters
    ----------
    table
        Entering a table at a hook.
    rule
        Testing one rule.
    match
        Running one match extension.
    """

    table: str
    rule: str
    match: str


LEGACY = Backend("iptables_table", "iptables_rule", EXTENSION)
NFT = Backend("nft_chain", "iptables_nft_rule", "iptables_nft_match")
"""``iptables-nft``: base chains and rules of nf_tables, and extensions through ``nft_compat``."""

HOOKS = {
    "raw": (Hook.PREROUTING, Hook.OUTPUT),
    "mangle": tuple(Hook),
    "nat": (Hook.PREROUTING, Hook.INPUT, Hook.OUTPUT, Hook.POSTROUTING),
    "filter": (Hook.INPUT, Hook.FORWARD, Hook.OUTPUT),
    "security": (Hook.INPUT, Hook.FORWARD, Hook.OUTPUT),
}
"""The hooks at which each table has a base chain."""

_PRIORITIES = {"raw": Priority.RAW, "mangle": Priority.MANGLE, "filter": Priority.FILTER, "security": Priority.SECURITY}


class Table:
    """One table of one namespace.

    Parameters
    ----------
    namespace
        Where it is.
    name
        ``raw``, ``mangle``, ``nat``, ``filter`` or ``security``.
    backend
        What it runs on, and so what it costs.
    """

    def __init__(self, namespace: Namespace, name: str, backend: Backend = LEGACY) -> None:
        self.name = name
        self.backend = backend
        self._chains = {str(hook): Chain(hook, policy="ACCEPT") for hook in HOOKS[name]}
        self._builders: list[Callable[[str], Chain | None]] = []
        namespace.tables[name] = self
        for hook in HOOKS[name]:
            if name == "nat":
                Nat.of(namespace).register(hook, 0, self)
            else:
                namespace.hooks.register(hook, _PRIORITIES[name], self)

    @classmethod
    def of(cls, namespace: Namespace, name: str) -> Table:
        """The namespace's table of this name, made when it is first asked for."""
        Conntrack.of(namespace)
        return namespace.tables.get(name) or cls(namespace, name)

    def chain(self, name: str) -> Chain:
        """A chain, by name; one that nobody has made yet is asked of those who build chains when first walked.

        Raises
        ------
        KeyError
            If there is no such chain.
        """
        found = self._chains.get(name)
        if found is None:
            for build in self._builders:
                found = build(name)
                if found is not None:
                    self._chains[name] = found
                    return found
            raise KeyError(f"table {self.name} has no chain {name}")
        return found

    def add_chain(self, chain: Chain) -> None:
        """Add a chain of one's own (``-N``), which may be shared with other namespaces."""
        self._chains[chain.name] = chain

    def replace_chains(self, chains: Iterable[Chain]) -> None:
        """Have these chains and no others, but for base chains that are not among them."""
        self._chains = {name: Chain(name, policy="ACCEPT") for name in self._chains if name in HOOKS[self.name]}
        self._chains |= {chain.name: chain for chain in chains}
        self._builders = []

    def add_builder(self, build: Callable[[str], Chain | None]) -> None:
        """Register a function that builds a chain by name, or gives None for a name it does not know."""
        self._builders.append(build)

    def outcomes(self, packet: Packet, call: HookCall, chance: Chance | None = None) -> list[State]:
        """Take a packet through this table at a hook, without doing anything to it.

        Returns
        -------
        list of State
            One final state for each way it can go, with its probability; exactly one if ``chance`` is given.
        """
        probe = Probe(packet, call.namespace, call.in_device, call.out_device)
        base = self.chain(call.hook)
        ended = Traversal(self.chain, chance).outcomes(base, probe)
        if base.policy == "DROP":
            for state in ended:
                if state.verdict is None:
                    state.rule, state.verdict = None, Drop()
        return ended

    def __call__(self, walk: Walk, packet: Packet, call: HookCall) -> Verdict:
        """Take a packet through this table's chain for the hook, and pay for it (``ipt_do_table``)."""
        place = f"{self.name}/{call.hook}"
        (state,) = self.outcomes(packet, call, walk.chance)
        walk.pay(self.backend.table, at=place)
        if state.tested:
            walk.pay(self.backend.rule, state.tested, at=place)
            walk.note_rules(place, state.tested)
        for operation, count in state.operations.items():
            walk.pay(self.backend.match if operation == EXTENSION else operation, count, at=place)
        return execute(walk, packet, call, state, place)
