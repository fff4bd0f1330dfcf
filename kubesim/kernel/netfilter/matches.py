"""Match extensions of iptables (net/netfilter/xt_*.c), each with what iptables-save prints of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from kubesim.kernel.netfilter.recent import PLACES, RecentClients

if TYPE_CHECKING:
    from kubesim.kernel.netfilter.rule import Probe
    from kubesim.kernel.netfilter.traversal import State

EXTENSION = "iptables_match"
"""The operation that one run of an iptables match extension costs."""

_ALL_BITS = 0xFFFFFFFF
TCP_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG")
_STATES = ("INVALID", "NEW", "RELATED", "ESTABLISHED", "UNTRACKED", "SNAT", "DNAT")


def quoted(text: str) -> str:
    """A text as iptables-save prints it: in quotes unless it is one plain word."""
    if text and all(letter.isalnum() or letter in "_-" for letter in text):
        return text
    return in_quotes(text)


def in_quotes(text: str) -> str:
    """A text in quotes, with what would end them escaped."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("'", "\\'")
    return f'"{escaped}"'


def masked(value: int, mask: int) -> str:
    """A mark and its mask; the mask is left out where it is all bits."""
    return f"{value:#x}" if mask == _ALL_BITS else f"{value:#x}/{mask:#x}"


def _not(is_inverted: bool) -> str:
    return "! " if is_inverted else ""


@dataclass(slots=True)
class Comment:
    """``-m comment --comment TEXT``: always matches, and still costs a call."""

    operation: ClassVar[str] = EXTENSION
    text: str

    def probability(self, _probe: Probe, _state: State) -> float:
        """Match."""
        return 1.0

    def save(self) -> str:
        """As iptables-save prints it; kube-proxy's comments with other signs than letters are quoted."""
        return f"-m comment --comment {quoted(self.text)}"


class PortRange(NamedTuple):
    """Ports from one to another, or with ``is_inverted`` all others."""

    first: int
    last: int
    is_inverted: bool = False

    def accepts(self, port: int) -> bool:
        """Whether a port is meant."""
        return (self.first <= port <= self.last) is not self.is_inverted

    def save(self, option: str) -> str:
        """As iptables-save prints it, with its option."""
        text = f"{self.first}" if self.first == self.last else f"{self.first}:{self.last}"
        return f" {_not(self.is_inverted)}{option} {text}"


class TcpFlags(NamedTuple):
    """``--tcp-flags MASK SET``: of the flags in ``mask`` just those in ``wanted`` are set; or with ``!`` not so."""

    mask: frozenset[str]
    wanted: frozenset[str]
    is_inverted: bool = False

    def accepts(self, flag: str) -> bool:
        """Whether a packet with this one flag is meant."""
        return ((self.mask & {flag}) == self.wanted) is not self.is_inverted

    def save(self) -> str:
        """As iptables-save prints it."""
        mask, wanted = (
            ",".join(one for one in TCP_FLAGS if one in some) or "NONE" for some in (self.mask, self.wanted)
        )
        return f" {_not(self.is_inverted)}--tcp-flags {mask} {wanted}"


@dataclass(slots=True)
class Transport:
    """``-m tcp``, ``-m udp`` or ``-m sctp``, with the ports and flags it compares; without any, the protocol only."""

    operation: ClassVar[str] = EXTENSION
    protocol: str
    source: PortRange | None = None
    destination: PortRange | None = None
    flags: TcpFlags | None = None

    @classmethod
    def to(cls, protocol: str, port: int) -> Transport:
        """The match for one destination port."""
        return cls(protocol, destination=PortRange(port, port))

    def probability(self, probe: Probe, _state: State) -> float:
        """Compare the transport header."""
        packet = probe.packet
        return float(
            packet.protocol == self.protocol
            and (self.source is None or self.source.accepts(packet.source_port))
            and (self.destination is None or self.destination.accepts(packet.destination_port))
            and (self.flags is None or self.flags.accepts("SYN" if packet.is_opening else "ACK"))
        )

    def save(self) -> str:
        """As iptables-save prints it."""
        text = f"-m {self.protocol}"
        if self.source is not None:
            text += self.source.save("--sport")
        if self.destination is not None:
            text += self.destination.save("--dport")
        return text if self.flags is None else text + self.flags.save()


@dataclass(slots=True)
class MultiPort:
    """``-m multiport --dports 80,443,8000:8100`` and its like."""

    operation: ClassVar[str] = EXTENSION
    option: str
    ranges: tuple[PortRange, ...]
    is_inverted: bool = False

    def probability(self, probe: Probe, _state: State) -> float:
        """Compare source, destination, or both ports."""
        packet = probe.packet
        seen = {"--sports": [packet.source_port], "--dports": [packet.destination_port]}.get(
            self.option, [packet.source_port, packet.destination_port]
        )
        found = any(ports.accepts(port) for ports in self.ranges for port in seen)
        return float(found is not self.is_inverted)

    def save(self) -> str:
        """As iptables-save prints it."""
        ports = ",".join(f"{one.first}" if one.first == one.last else f"{one.first}:{one.last}" for one in self.ranges)
        return f"-m multiport {_not(self.is_inverted)}{self.option} {ports}"


@dataclass(slots=True)
class AddressType:
    """``-m addrtype --dst-type LOCAL`` and its like; of the types only ``LOCAL`` is told from the others.

    ``limit`` is ``in`` or ``out`` where only addresses of the device the packet comes by, or leaves by, are local.
    """

    operation: ClassVar[str] = EXTENSION
    is_source: bool = False
    is_inverted: bool = False
    types: str = "LOCAL"
    limit: str = ""

    def probability(self, probe: Probe, _state: State) -> float:
        """Ask the routing table whether the address is this namespace's own."""
        packet = probe.packet
        address = packet.source if self.is_source else packet.destination
        if self.limit:
            device = probe.in_device if self.limit == "in" else probe.out_device
            is_local = probe.namespace.is_local_to(device, address)
        else:
            is_local = probe.namespace.is_local(address)
        found = ("LOCAL" if is_local else "UNICAST") in self.types.split(",")
        return float(found is not self.is_inverted)

    def save(self) -> str:
        """As iptables-save prints it."""
        text = f"-m addrtype {_not(self.is_inverted)}--{'src' if self.is_source else 'dst'}-type {self.types}"
        return f"{text} --limit-iface-{self.limit}" if self.limit else text


@dataclass(slots=True)
class ReversePath:
    """``-m rpfilter``: whether the route back to the source leads out by the device the packet came by.

    ``options`` are those without a meaning here, such as ``--validmark``: no rule routes by mark.
    """

    operation: ClassVar[str] = "route_lookup"
    options: tuple[str, ...] = ()
    is_inverted: bool = False

    def probability(self, probe: Probe, _state: State) -> float:
        """Look the source up (``rpfilter_lookup_reverse``)."""
        route = probe.namespace.routes.lookup(probe.packet.source)
        is_back = route is not None and route.device is not None and route.device.name == probe.in_device
        return float(is_back is not self.is_inverted)

    def save(self) -> str:
        """As iptables-save prints it."""
        return " ".join(["-m rpfilter", *self.options, *(["--invert"] if self.is_inverted else [])])


@dataclass(slots=True)
class ConnectionState:
    """``-m conntrack --ctstate STATES``; DNAT and SNAT are states too."""

    operation: ClassVar[str] = EXTENSION
    states: frozenset[str]
    is_inverted: bool = False
    module: str = "conntrack"

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

    def save(self) -> str:
        """As iptables-save prints it."""
        states = ",".join(state for state in _STATES if state in self.states)
        option = "--ctstate" if self.module == "conntrack" else "--state"
        return f"-m {self.module} {_not(self.is_inverted)}{option} {states}"


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

    def save(self) -> str:
        """As iptables-save prints it."""
        return f"-m mark {_not(self.is_inverted)}--mark {masked(self.value, self.mask)}"


@dataclass(slots=True)
class Statistic:
    """``-m statistic --mode random --probability P``; the kernel keeps P in 31 bits (xt_statistic.c)."""

    operation: ClassVar[str] = EXTENSION
    threshold: int
    is_inverted: bool = False

    @classmethod
    def of(cls, probability: float, *, is_inverted: bool = False) -> Statistic:
        """Round a probability as iptables does."""
        return cls(round(probability * 2**31), is_inverted)

    @property
    def chance(self) -> float:
        """How likely a random 31-bit number lies below the threshold."""
        return self.threshold / 2**31

    def probability(self, _probe: Probe, _state: State) -> float:
        """Say how likely it matches."""
        return 1 - self.chance if self.is_inverted else self.chance

    def save(self) -> str:
        """As iptables-save prints it."""
        return f"-m statistic --mode random {_not(self.is_inverted)}--probability {self.chance:.11f}"


@dataclass(slots=True)
class EveryNth:
    """``-m statistic --mode nth --every N --packet P``: on average one of N."""

    operation: ClassVar[str] = EXTENSION
    every: int
    packet: int = 0
    is_inverted: bool = False

    def probability(self, _probe: Probe, _state: State) -> float:
        """Match one of so many."""
        return 1 - 1 / self.every if self.is_inverted else 1 / self.every

    def save(self) -> str:
        """As iptables-save prints it."""
        start = f" --packet {self.packet}" if self.packet else ""
        return f"-m statistic --mode nth {_not(self.is_inverted)}--every {self.every}{start}"


@dataclass(slots=True)
class RecentlySeen:
    """``-m recent --name NAME --rcheck``: whether the source was noted in a list before; ``--set`` notes it."""

    operation: ClassVar[str] = EXTENSION
    name: str
    is_set: bool = False
    seconds: int = 0
    has_reap: bool = False
    action: str = "--rcheck"
    is_inverted: bool = False
    mask: str = "255.255.255.255"

    def probability(self, probe: Probe, state: State) -> float:
        """Look the source up, or note it."""
        clients = probe.namespace.recent_clients.setdefault(self.name, RecentClients(PLACES))
        if self.is_set:
            state.noted_in = (*state.noted_in, self.name)
            return 1.0
        return float((probe.packet.source in clients) is not self.is_inverted)

    def save(self) -> str:
        """As iptables-save prints it."""
        action = "--set" if self.is_set else self.action
        limits = (f" --seconds {self.seconds}" if self.seconds else "") + (" --reap" if self.has_reap else "")
        return f"-m recent {_not(self.is_inverted)}{action}{limits} --name {self.name} --mask {self.mask} --rsource"


@dataclass(slots=True)
class InSet:
    """``-m set --match-set NAME dst,dst``."""

    operation: ClassVar[str] = "ipset_lookup"
    name: str
    directions: tuple[str, ...]
    is_inverted: bool = False

    def probability(self, probe: Probe, _state: State) -> float:
        """Look the packet up in the set; one that is not there has no members."""
        ipset = probe.namespace.ipsets.get(self.name)
        found = ipset is not None and ipset.contains(probe.packet, self.directions)
        return float(found is not self.is_inverted)

    def save(self) -> str:
        """As iptables-save prints it."""
        return f"-m set {_not(self.is_inverted)}--match-set {self.name} {','.join(self.directions)}"


@dataclass(slots=True)
class PhysicalDevice:
    """``-m physdev --physdev-is-in`` and its like: through which port of a bridge a packet came, where it did."""

    operation: ClassVar[str] = EXTENSION
    option: str
    is_inverted: bool = False

    def probability(self, probe: Probe, _state: State) -> float:
        """Say whether the packet is being switched; it came in by a bridge if its device is one."""
        device = probe.namespace.devices.get(probe.in_device or "")
        found = self.option == "--physdev-is-in" and getattr(device, "ports", None) is not None
        return float(found is not self.is_inverted)

    def save(self) -> str:
        """As iptables-save prints it."""
        return f"-m physdev {_not(self.is_inverted)}{self.option}"


@dataclass(slots=True)
class Always:
    """A match that holds for the packets of a quiet cluster, such as ``-m limit``: within the limit."""

    operation: ClassVar[str] = EXTENSION
    name: str
    text: str

    def probability(self, _probe: Probe, _state: State) -> float:
        """Match."""
        return 1.0

    def save(self) -> str:
        """As it was written."""
        return self.text


@dataclass(slots=True)
class UnknownMatch:
    """A match that is not modelled: it costs a call, and matches nothing."""

    operation: ClassVar[str] = EXTENSION
    name: str
    text: str

    def probability(self, _probe: Probe, _state: State) -> float:
        """Do not match."""
        return 0.0

    def save(self) -> str:
        """As it was written."""
        return self.text
