"""Rules: what a packet's IP header is compared with, the matches that look further, and what happens then."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from kubesim.kernel.netfilter.matches import Comment

if TYPE_CHECKING:
    from kubesim.kernel.address import Prefix
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.netfilter.targets import Target
    from kubesim.kernel.netfilter.traversal import State
    from kubesim.kernel.packet import Packet


@dataclass(slots=True)
class Probe:
    """A packet at a hook, as rules see it."""

    packet: Packet
    namespace: Namespace
    in_device: str | None
    out_device: str | None


@runtime_checkable
class Printable(Protocol):
    """A match or target of iptables, which iptables-save can print; those of nftables are not."""

    def save(self) -> str:
        """As iptables-save prints it."""


class Match(Protocol):
    """A match extension of iptables, or an expression of nftables."""

    operation: ClassVar[str]
    """The operation that running it costs; empty where it is part of the rule's own cost."""

    def probability(self, probe: Probe, state: State) -> float:
        """How likely it matches: 0 or 1, or between for a random match."""


@dataclass(slots=True, unsafe_hash=True)
class Header:
    """What is compared first, with the IP header and the devices; None matches everything.

    The ``not_`` fields turn a comparison round, as ``!`` does. A device name may end in ``+`` for any rest.
    """

    protocol: str | None = None
    source: Prefix | None = None
    destination: Prefix | None = None
    in_device: str | None = None
    out_device: str | None = None
    not_source: bool = False
    not_destination: bool = False
    not_in_device: bool = False
    not_out_device: bool = False
    not_protocol: bool = False
    is_fragment: bool | None = None

    def accepts(self, probe: Probe) -> bool:
        """Whether the packet's header is what this asks for (``ip_packet_match``)."""
        packet = probe.packet
        if self.destination is not None and (packet.destination in self.destination) is self.not_destination:
            return False
        if self.source is not None and (packet.source in self.source) is self.not_source:
            return False
        if self.protocol is not None and (packet.protocol == self.protocol) is self.not_protocol:
            return False
        if self.in_device is not None and _is_device(self.in_device, probe.in_device) is self.not_in_device:
            return False
        if self.out_device is not None and _is_device(self.out_device, probe.out_device) is self.not_out_device:
            return False
        return self.is_fragment is not True  # fragments are put together before any rule sees them (nf_defrag_ipv4)

    def save(self) -> str:
        """As iptables-save prints it, each part with a blank in front."""
        parts = (
            ("-s", self.source, self.not_source),
            ("-d", self.destination, self.not_destination),
            ("-i", self.in_device, self.not_in_device),
            ("-o", self.out_device, self.not_out_device),
            ("-p", self.protocol, self.not_protocol),
        )
        text = "".join(
            f" {'! ' if no else ''}{option} {_saved(value)}" for option, value, no in parts if value is not None
        )
        return text if self.is_fragment is None else f"{text} {'' if self.is_fragment else '! '}-f"


ANY = Header()
"""A header that every packet has."""


def _saved(value: Prefix | str) -> str:
    """A single address with its mask, as iptables-save prints it; other things as they are."""
    if isinstance(value, str) or "/" in value.text:
        return str(value)
    return f"{value.text}/{value.length}"


def _is_device(pattern: str, name: str | None) -> bool:
    if pattern.endswith("+"):
        return name is not None and name.startswith(pattern[:-1])
    return name == pattern


@dataclass(slots=True)
class Rule:
    """One rule of a chain.

    Parameters
    ----------
    target
        What happens when everything matches; None for a rule that only counts.
    header
        Compared first.
    matches
        Tested next, from left to right.
    note
        A comment that costs a packet nothing, as nftables has it; that of iptables is a match.
    """

    target: Target | None
    header: Header = field(default=ANY)
    matches: tuple[Match, ...] = ()
    note: str = ""

    @property
    def rule(self) -> Rule:
        """Itself: chains hold rules that are read and rules that are text still."""
        return self

    @property
    def destination(self) -> str | None:
        """The only address whose packets it can match, None if there is no such address."""
        prefix = self.header.destination
        return None if prefix is None or self.header.not_destination else prefix.host

    def save(self, chain: str) -> str:
        """The rule as iptables-save prints it."""
        parts: list[object] = [*self.matches, self.target]
        printed = "".join(f" {part.save()}" for part in parts if isinstance(part, Printable))
        return f"-A {chain}{self.header.save()}{printed}"

    @property
    def comment(self) -> str:
        """What the rule's author says about it, empty if nothing; of several, the last: Felix's first is a hash."""
        return next((match.text for match in reversed(self.matches) if isinstance(match, Comment)), self.note)
