"""nftables: tables of base chains at any priority, whose rules run expressions (net/netfilter/nf_tables_core.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from kubesim.kernel.netfilter.conntrack import Conntrack
from kubesim.kernel.netfilter.execute import execute
from kubesim.kernel.netfilter.hooks import Hook, HookCall, Verdict
from kubesim.kernel.netfilter.nat import Nat
from kubesim.kernel.netfilter.rule import Probe
from kubesim.kernel.netfilter.targets import Drop
from kubesim.kernel.netfilter.traversal import State, Traversal

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.netfilter.chain import Chain
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Chance, Walk

Family = Literal["ip", "ip6", "inet"]


class NftTable:
    """One table of one namespace, such as ``ip kube-proxy``.

    Parameters
    ----------
    namespace
        Where it is.
    name
        Its name.
    chain
        Finds a chain by name; chains are shared by all namespaces with the same rules.
    family
        Whose packets it sees.
    """

    def __init__(self, namespace: Namespace, name: str, chain: Callable[[str], Chain], family: Family = "ip") -> None:
        self.name = name
        self.family = family
        self.base_chains: dict[str, tuple[str, Hook, int]] = {}
        self._namespace = namespace
        self._chain = chain
        namespace.nft_tables.append(self)
        Conntrack.of(namespace)

    def add_base_chain(self, name: str, kind: str, hook: Hook, priority: int) -> None:
        """Hook a chain in: ``type KIND hook HOOK priority PRIORITY``; KIND is ``filter``, ``nat`` or ``route``."""

        def run(walk: Walk, packet: Packet, call: HookCall) -> Verdict:
            return self._run(name, walk, packet, call)

        self.base_chains[name] = (kind, hook, priority)
        if kind == "nat":
            Nat.of(self._namespace).register(hook, priority, run)
        else:
            self._namespace.hooks.register(hook, priority, run)

    def chain(self, name: str) -> Chain:
        """A chain, by name.

        Raises
        ------
        KeyError
            If there is no such chain.
        """
        return self._chain(name)

    def outcomes(self, name: str, packet: Packet, call: HookCall, chance: Chance | None = None) -> list[State]:
        """Take a packet through a base chain, without doing anything to it; see :meth:`Table.outcomes`."""
        probe = Probe(packet, call.namespace, call.in_device, call.out_device)
        base = self._chain(name)
        ended = Traversal(self._chain, chance).outcomes(base, probe)
        if base.policy == "DROP":
            for state in ended:
                if state.verdict is None:
                    state.rule, state.verdict = None, Drop()
        return ended

    def _run(self, name: str, walk: Walk, packet: Packet, call: HookCall) -> Verdict:
        if self.family != "inet" and (self.family == "ip6") is not (":" in packet.destination):
            return Verdict.ACCEPT
        place = f"{name}/{call.hook}"
        (state,) = self.outcomes(name, packet, call, walk.chance)
        walk.pay("nft_chain", at=place)
        if state.tested:
            walk.pay("nft_rule", state.tested, at=place)
            walk.note_rules(place, state.tested)
        for operation, count in state.operations.items():
            walk.pay(operation, count, at=place)
        return execute(walk, packet, call, state, place)
