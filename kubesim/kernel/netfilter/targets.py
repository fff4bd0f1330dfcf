"""What a rule does when it matches: go elsewhere, change the mark, or end the walk through the chains."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kubesim.kernel.netfilter.rule import Probe
    from kubesim.kernel.netfilter.traversal import State, Traversal


class Target(Protocol):
    """A target of iptables, or a statement of nftables."""

    def act(self, state: State, probe: Probe, traversal: Traversal) -> bool:
        """Change the state; whether the chains are done with the packet."""


class _Final:
    """Ends the walk through the chains; who walks them looks at what ended it."""

    __slots__ = ()

    def act(self, state: State, _probe: Probe, _traversal: Traversal) -> bool:
        """End the walk with this target as the verdict."""
        state.verdict = self
        return True


@dataclass(slots=True)
class Accept(_Final):
    """``-j ACCEPT``."""

    def save(self) -> str:
        """As iptables-save prints it."""
        return "-j ACCEPT"


@dataclass(slots=True)
class Drop(_Final):
    """``-j DROP``."""

    def save(self) -> str:
        """As iptables-save prints it."""
        return "-j DROP"


@dataclass(slots=True)
class Reject(_Final):
    """``-j REJECT``: drop, and tell the sender."""

    reject_with: str = "icmp-port-unreachable"

    def save(self) -> str:
        """As iptables-save prints it."""
        return f"-j REJECT --reject-with {self.reject_with}"


_RANGE = re.compile(r"[0-9A-Fa-f\]]-[\[0-9A-Fa-f:]")


def _is_range(text: str) -> bool:
    """Whether a destination as written is a range; options follow it behind a blank."""
    place = next((word for word in text.split() if word[0] != "-" and word != "to"), "")
    return _RANGE.search(place) is not None


@dataclass(slots=True)
class DestinationNat(_Final):
    """``-j DNAT --to-destination ADDRESS:PORT``; of a range of addresses or ports the first is taken.

    ``port`` is None where the packet keeps its own; ``text`` is the destination as written, with options.
    """

    address: str
    port: int | None
    text: str = ""

    @property
    def is_range(self) -> bool:
        """Whether it is one of several addresses or ports that are written."""
        return _is_range(self.text)

    def save(self) -> str:
        """As iptables-save prints it."""
        if self.text:
            return f"-j DNAT --to-destination {self.text}"
        address = f"[{self.address}]" if ":" in self.address and self.port is not None else self.address
        return f"-j DNAT --to-destination {address}" + ("" if self.port is None else f":{self.port}")


@dataclass(slots=True)
class Redirect(_Final):
    """``-j REDIRECT --to-ports PORT``: to this host itself; of a range of ports the first is taken."""

    port: int | None
    text: str = ""

    @property
    def is_range(self) -> bool:
        """Whether it is one of several ports that are written."""
        return _is_range(self.text)

    def save(self) -> str:
        """As iptables-save prints it."""
        return f"-j REDIRECT {self.text}".rstrip()


@dataclass(slots=True)
class SourceNat(_Final):
    """``-j SNAT --to-source ADDRESS``; of a range the first is taken."""

    address: str
    text: str = ""

    def save(self) -> str:
        """As iptables-save prints it."""
        return f"-j SNAT --to-source {self.text or self.address}"


@dataclass(slots=True)
class Masquerade(_Final):
    """``-j MASQUERADE``: the source becomes the address of the device the packet leaves through."""

    is_random: bool = False
    text: str = ""

    def save(self) -> str:
        """As iptables-save prints it."""
        return f"-j MASQUERADE {self.text}".rstrip() + (" --random-fully" if self.is_random else "")


@dataclass(slots=True)
class PassOn:
    """A target after which the next rule is tested: it logs, counts or changes what is of no matter here.

    ``is_known`` says whether that is so, or whether it is a target that is not modelled.
    """

    name: str
    text: str
    is_known: bool = True

    def act(self, _state: State, _probe: Probe, _traversal: Traversal) -> bool:
        """Go on."""
        return False

    def save(self) -> str:
        """As it was written."""
        return f"-j {self.name} {self.text}".rstrip()


@dataclass(slots=True)
class NoTrack:
    """``-j CT --notrack``, in the raw table: connection tracking passes the packet over."""

    text: str = "-j CT --notrack"

    def save(self) -> str:
        """As iptables-save prints it."""
        return self.text

    def act(self, _state: State, probe: Probe, _traversal: Traversal) -> bool:
        """Mark the packet and go on."""
        probe.packet.is_untracked = True
        return False


@dataclass(slots=True)
class Return:
    """``-j RETURN``: back to the chain that jumped here; in a base chain, its policy."""

    def act(self, state: State, _probe: Probe, _traversal: Traversal) -> bool:
        """Go back."""
        return state.leave_chain()

    def save(self) -> str:
        """As iptables-save prints it."""
        return "-j RETURN"


@dataclass(slots=True)
class Jump:
    """``-j CHAIN``."""

    chain: str

    def act(self, state: State, _probe: Probe, traversal: Traversal) -> bool:
        """Enter the chain, to come back when it ends."""
        state.enter(traversal.chain(self.chain))
        return False

    def save(self) -> str:
        """As iptables-save prints it."""
        return f"-j {self.chain}"


@dataclass(slots=True)
class Goto:
    """``-g CHAIN``, ``goto`` in nftables: as a jump, but what comes after it here is left out."""

    chain: str

    def act(self, state: State, _probe: Probe, traversal: Traversal) -> bool:
        """Enter the chain in place of this one."""
        state.replace_chain(traversal.chain(self.chain))
        return False

    def save(self) -> str:
        """As iptables-save prints it."""
        return f"-g {self.chain}"


@dataclass(slots=True)
class SetMark:
    """``-j MARK --set-xmark VALUE/MASK``: bits of the mask are cleared, then those of the value flipped."""

    value: int
    mask: int

    def act(self, state: State, _probe: Probe, _traversal: Traversal) -> bool:
        """Change the mark and go on."""
        state.mark = (state.mark & ~self.mask) ^ self.value
        return False

    def save(self) -> str:
        """As iptables-save prints it."""
        return f"-j MARK --set-xmark {self.value:#x}/{self.mask:#x}"


@dataclass(slots=True)
class Random:
    """nftables ``numgen random mod N vmap { 0 : …, 1 : … }``: each way with the same probability."""

    ways: tuple[Target, ...]

    def act(self, state: State, probe: Probe, traversal: Traversal) -> bool:
        """Pay for the lookup and take one way."""
        state.count("nft_set_lookup")
        return traversal.choose(self.ways, state, probe)
