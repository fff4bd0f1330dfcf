"""Expressions and statements of nftables as a walk meets them, each within a rule (net/netfilter/nft_*.c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from kubesim.kernel.netfilter.matches import EXTENSION
from kubesim.kernel.netfilter.nft_fields import Field, Value, is_in, key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubesim.kernel.netfilter.nft_sets import NftSet
    from kubesim.kernel.netfilter.rule import Probe
    from kubesim.kernel.netfilter.traversal import State, Traversal

SET_LOOKUP = "nft_set_lookup"
"""The operation of looking a packet up in a set or map."""


@dataclass(slots=True)
class Compare:
    """``FIELD . FIELD VALUE . VALUE``; of several ``wanted``, one has to hold (``ct state new,established``)."""

    operation: ClassVar[str] = ""
    fields: tuple[Field, ...]
    wanted: tuple[tuple[Value, ...], ...]
    is_inverted: bool = False

    def probability(self, probe: Probe, state: State) -> float:
        """Compare."""
        key = key_of(self.fields, probe, state)
        if key is None:
            return 0.0
        kinds = [field.kind for field in self.fields]
        found = any(all(map(is_in, key, kinds, values)) for values in self.wanted)
        return float(found is not self.is_inverted)


@dataclass(slots=True)
class CompareNumber:
    """``FIELD < NUMBER`` and its like, and ``mark and MASK == NUMBER``."""

    operation: ClassVar[str] = ""
    field: Field
    change: MarkChange
    holds: Callable[[int, int], bool]
    number: int

    def probability(self, probe: Probe, state: State) -> float:
        """Compare."""
        value = self.field.get(probe, state)
        return float(isinstance(value, int) and self.holds(self.change.of(value), self.number))


@dataclass(slots=True)
class CompareFlags:
    """``FIELD & (FLAG | FLAG) == FLAG``: of some flags just these are set."""

    operation: ClassVar[str] = ""
    field: Field
    mask: frozenset[str]
    wanted: frozenset[str]
    is_inverted: bool = False

    def probability(self, probe: Probe, state: State) -> float:
        """Compare."""
        value = self.field.get(probe, state)
        if not isinstance(value, str):
            return 0.0
        return float((self.mask.intersection(value.split(",")) == self.wanted) is not self.is_inverted)


@dataclass(slots=True)
class InNftSet:
    """``FIELD . FIELD @SET``, or ``{ … }`` in place of a set with a name."""

    operation: ClassVar[str] = SET_LOOKUP
    fields: tuple[Field, ...]
    members: NftSet
    is_inverted: bool = False

    def probability(self, probe: Probe, state: State) -> float:
        """Look the packet up."""
        key = key_of(self.fields, probe, state)
        if key is None:
            return 0.0
        return float(self.members.contains(key, probe.namespace) is not self.is_inverted)


@dataclass(slots=True)
class Likely:
    """``numgen random mod N < M`` and its like: holds for so many of all packets."""

    operation: ClassVar[str] = ""
    chance: float

    def probability(self, _probe: Probe, _state: State) -> float:
        """Say how likely it holds."""
        return self.chance


@dataclass(slots=True)
class UpdateSet:
    """``update @SET { ip saddr }``: note the packet's source in a set with a timeout."""

    operation: ClassVar[str] = SET_LOOKUP
    name: str

    def probability(self, _probe: Probe, state: State) -> float:
        """Note the source."""
        state.noted_in = (*state.noted_in, self.name)
        return 1.0


@dataclass(slots=True)
class MarkChange:
    """What becomes of a mark: bits of ``kept`` stay, then those of ``flipped`` are turned round."""

    operation: ClassVar[str] = ""
    kept: int = 0xFFFFFFFF
    flipped: int = 0

    def of(self, mark: int) -> int:
        """The mark as it is then."""
        return (mark & self.kept) ^ self.flipped

    def then(self, operator: str, number: int) -> MarkChange:
        """What this is, followed by ``and``, ``or`` or ``xor`` with a number."""
        if operator in ("and", "&"):
            return MarkChange(self.kept & number, self.flipped & number)
        if operator in ("or", "|"):
            return MarkChange(self.kept & ~number, self.flipped | number)
        return MarkChange(self.kept, self.flipped ^ number)

    def probability(self, _probe: Probe, state: State) -> float:
        """``meta mark set …``: change the mark and go on."""
        state.mark = self.of(state.mark)
        return 1.0


@dataclass(slots=True)
class Untrack:
    """``notrack``: connection tracking passes the packet over."""

    operation: ClassVar[str] = ""

    def probability(self, probe: Probe, _state: State) -> float:
        """Mark the packet and go on."""
        probe.packet.is_untracked = True
        return 1.0


@dataclass(slots=True)
class Unmodelled:
    """An expression or statement that is not modelled, kept as it was written.

    ``holds`` is whether packets pass it: they do pass statements and limits, which a quiet cluster keeps within.
    """

    operation: ClassVar[str] = EXTENSION
    name: str
    text: str
    holds: bool = False

    def probability(self, _probe: Probe, _state: State) -> float:
        """Pass or do not match."""
        return float(self.holds)


@dataclass(slots=True)
class VerdictMap:
    """``FIELD . FIELD vmap @MAP``: a verdict by what the packet is, or on to the next rule."""

    fields: tuple[Field, ...]
    map: NftSet

    def act(self, state: State, probe: Probe, traversal: Traversal) -> bool:
        """Pay for the lookup and do as the map says."""
        state.count(SET_LOOKUP)
        key = key_of(self.fields, probe, state)
        verdict = None if key is None else self.map.verdict(key)
        return False if verdict is None else verdict.act(state, probe, traversal)


def kinds_of(fields: Sequence[Field]) -> tuple[str, ...]:
    """What values of these fields are."""
    return tuple(field.kind for field in fields)
