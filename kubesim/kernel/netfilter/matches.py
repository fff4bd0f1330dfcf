"""Match extensions of iptables that kube-proxy and flannel use (net/netfilter/xt_*.c), and nftables expressions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from kubesim.kernel.address import Prefix
    from kubesim.kernel.netfilter.rule import Probe
    from kubesim.kernel.netfilter.traversal import State

EXTENSION = "iptables_match"
"""The operation that one run of an iptables match extension costs."""


@dataclass(slots=True)
class Comment:
    """``-m comment --comment TEXT``: always matches, and still costs a call."""

    operation: ClassVar[str] = EXTENSION
    text: str

    def probability(self, _probe: Probe, _state: State) -> float:
        """Match."""
        return 1.0


@dataclass(slots=True)
class DestinationPort:
    """``-m tcp --dport PORT`` and its like."""

    operation: ClassVar[str] = EXTENSION
    protocol: str
    port: int

    def probability(self, probe: Probe, _state: State) -> float:
        """Compare the transport header."""
        packet = probe.packet
        return float(packet.protocol == self.protocol and packet.destination_port == self.port)


@dataclass(slots=True)
class TransportProtocol:
    """``-m tcp`` without anything to compare but the protocol."""

    operation: ClassVar[str] = EXTENSION
    protocol: str

    def probability(self, probe: Probe, _state: State) -> float:
        """Compare the protocol."""
        return float(probe.packet.protocol == self.protocol)


@dataclass(slots=True)
class AddressType:
    """``-m addrtype --dst-type LOCAL`` or ``--src-type LOCAL``."""

    operation: ClassVar[str] = EXTENSION
    is_source: bool = False
    is_inverted: bool = False

    def probability(self, probe: Probe, _state: State) -> float:
        """Ask the routing table whether the address is this namespace's own."""
        packet = probe.packet
        is_local = probe.namespace.is_local(packet.source if self.is_source else packet.destination)
        return float(is_local is not self.is_inverted)


@dataclass(slots=True)
class ConnectionState:
    """``-m conntrack --ctstate STATES``; DNAT and SNAT are states too."""

    operation: ClassVar[str] = EXTENSION
    states: frozenset[str]
    is_inverted: bool = False

    def probability(self, probe: Probe, _state: State) -> float:
        """Compare the packet's conntrack state."""
        packet = probe.packet
        connection = packet.connection
        found = packet.state in self.states
        if connection is not None:
            found = (
                found
                or ("DNAT" in self.states and connection.has_destination_nat)
                or ("SNAT" in self.states and connection.has_source_nat)
            )
        return float(found is not self.is_inverted)


@dataclass(slots=True)
class Mark:
    """``-m mark --mark VALUE/MASK``."""

    operation: ClassVar[str] = EXTENSION
    value: int
    mask: int
    is_inverted: bool = False

    def probability(self, _probe: Probe, state: State) -> float:
        """Compare the mark as the rules before left it."""
        return float((state.mark & self.mask == self.value) is not self.is_inverted)


@dataclass(slots=True)
class Statistic:
    """``-m statistic --mode random --probability P``; the kernel keeps P in 31 bits (xt_statistic.c)."""

    operation: ClassVar[str] = EXTENSION
    threshold: int

    @classmethod
    def of(cls, probability: float) -> Statistic:
        """Round a probability as iptables does."""
        return cls(round(probability * 2**31))

    def probability(self, _probe: Probe, _state: State) -> float:
        """How likely a random 31-bit number lies below the threshold."""
        return self.threshold / 2**31


@dataclass(slots=True)
class RecentlySeen:
    """``-m recent --name NAME --rcheck``: whether the source was noted in a list before; ``--set`` notes it."""

    operation: ClassVar[str] = EXTENSION
    name: str
    is_set: bool = False

    def probability(self, probe: Probe, state: State) -> float:
        """Look the source up, or note it."""
        clients = probe.namespace.recent_clients.setdefault(self.name, set())
        if self.is_set:
            state.noted_in = (*state.noted_in, self.name)
            return 1.0
        return float(probe.packet.source in clients)


@dataclass(slots=True)
class InSet:
    """``-m set --match-set NAME dst,dst``."""

    operation: ClassVar[str] = "ipset_lookup"
    name: str
    directions: tuple[str, ...]

    def probability(self, probe: Probe, _state: State) -> float:
        """Look the packet up in the set."""
        return float(probe.namespace.ipsets[self.name].contains(probe.packet, self.directions))


@dataclass(slots=True)
class Address:
    """nftables ``ip saddr PREFIX`` or ``ip daddr PREFIX``."""

    operation: ClassVar[str] = ""
    prefix: Prefix
    is_source: bool = True
    is_inverted: bool = False

    def probability(self, probe: Probe, _state: State) -> float:
        """Compare an address."""
        packet = probe.packet
        found = (packet.source if self.is_source else packet.destination) in self.prefix
        return float(found is not self.is_inverted)
