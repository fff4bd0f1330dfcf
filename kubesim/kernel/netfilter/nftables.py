"""nftables: tables of base chains at any priority, and expressions that iptables does not have (nf_tables_core.c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.conntrack import Conntrack
from kubesim.kernel.netfilter.execute import execute
from kubesim.kernel.netfilter.hooks import Hook, HookCall, Verdict
from kubesim.kernel.netfilter.nat import Nat
from kubesim.kernel.netfilter.rule import Probe
from kubesim.kernel.netfilter.traversal import State, Traversal

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Chance, Walk

SET_LOOKUP = "nft_set_lookup"


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
    """

    def __init__(self, namespace: Namespace, name: str, chain: Callable[[str], Chain]) -> None:
        self.name = name
        self._namespace = namespace
        self._chain = chain
        namespace.nft_tables.append(self)
        Conntrack.of(namespace)

    def add_base_chain(self, name: str, kind: str, hook: Hook, priority: int) -> None:
        """Hook a chain in: ``type KIND hook HOOK priority PRIORITY``, with KIND ``filter`` or ``nat``."""

        def run(walk: Walk, packet: Packet, call: HookCall) -> Verdict:
            return self._run(name, walk, packet, call)

        if kind == "nat":
            Nat.of(self._namespace).register(hook, priority, run)
        else:
            self._namespace.hooks.register(hook, priority, run)

    def outcomes(self, name: str, packet: Packet, call: HookCall, chance: Chance | None = None) -> list[State]:
        """Take a packet through a base chain, without doing anything to it; see :meth:`Table.outcomes`."""
        probe = Probe(packet, call.namespace, call.in_device, call.out_device)
        return Traversal(self._chain, chance).outcomes(self._chain(name), probe)

    def _run(self, name: str, walk: Walk, packet: Packet, call: HookCall) -> Verdict:
        place = f"{name}/{call.hook}"
        (state,) = self.outcomes(name, packet, call, walk.chance)
        walk.pay("nft_chain", at=place)
        if state.tested:
            walk.pay("nft_rule", state.tested, at=place)
            walk.note_rules(place, state.tested)
        for operation, count in state.operations.items():
            walk.pay(operation, count, at=place)
        return execute(walk, packet, call, state, place)


@dataclass(frozen=True, slots=True)
class DestinationIn:
    """``ip daddr @SET``."""

    operation: ClassVar[str] = SET_LOOKUP
    addresses: AbstractSet[str]

    def probability(self, probe: Probe, _state: State) -> float:
        """Look the destination up."""
        return float(probe.packet.destination in self.addresses)


@dataclass(frozen=True, slots=True)
class StateIs:
    """``ct state STATE``."""

    operation: ClassVar[str] = ""
    state: str

    def probability(self, probe: Probe, _state: State) -> float:
        """Compare the conntrack state."""
        return float(probe.packet.state == self.state)


@dataclass(frozen=True, slots=True)
class MarkIsClear:
    """``mark and MASK == 0``."""

    operation: ClassVar[str] = ""
    mask: int

    def probability(self, _probe: Probe, state: State) -> float:
        """Look at the mark."""
        return float(state.mark & self.mask == 0)


@dataclass(frozen=True, slots=True)
class IsService:
    """``ip daddr ADDRESS PROTOCOL dport PORT``."""

    operation: ClassVar[str] = ""
    address: str
    protocol: str
    port: int

    def probability(self, probe: Probe, _state: State) -> float:
        """Compare destination, protocol and port."""
        packet = probe.packet
        return float(
            (packet.destination, packet.protocol, packet.destination_port) == (self.address, self.protocol, self.port)
        )


def service_key(packet: Packet) -> tuple[str, str, int]:
    """``ip daddr . meta l4proto . th dport``."""
    return packet.destination, packet.protocol, packet.destination_port


@dataclass(frozen=True, slots=True)
class RecentSource:
    """``ip saddr @SET`` for a set of sources with a timeout, or ``update @SET { ip saddr }``, which notes it there."""

    operation: ClassVar[str] = SET_LOOKUP
    name: str
    is_update: bool = False

    def probability(self, probe: Probe, state: State) -> float:
        """Look the source up, or note it."""
        if self.is_update:
            state.noted_in = (*state.noted_in, self.name)
            return 1.0
        return float(probe.packet.source in probe.namespace.recent_clients.get(self.name, ()))
