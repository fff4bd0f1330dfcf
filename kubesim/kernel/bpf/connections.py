"""Connection tracking in an LRU hash map that programs keep, with one entry for each direction a program sees."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from kubesim.kernel.bpf.program import LOOKUP, UPDATE

if TYPE_CHECKING:
    from kubesim.kernel.packet import FlowTuple
    from kubesim.kernel.walk import Walk

_MAP = "connections"


class Place(NamedTuple):
    """An address and a port."""

    address: str
    port: int


class Direction(StrEnum):
    """Which way a connection was going where a program saw its first packet."""

    OUT = "out"
    """From an endpoint of this host, or through its card to another host."""
    IN = "in"
    """To an endpoint of this host."""
    SERVICE = "service"
    """To a virtual address; the entry says who serves it."""

    @property
    def opposite(self) -> Direction:
        """Where the reply's program finds the entry of the request's."""
        return Direction.IN if self is Direction.OUT else Direction.OUT


@dataclass(slots=True, eq=False)
class Tracked:
    """An entry.

    Parameters
    ----------
    called
        The place that the client called, which replies are to come from; None where nothing was translated.
    server
        Who serves it, for an entry of a virtual address.
    is_from_card
        Whether the address was translated where the packet came in by the card.
    """

    called: Place | None = None
    server: Place | None = None
    is_from_card: bool = False


class ConnectionMap:
    """The map of one host."""

    def __init__(self) -> None:
        self._entries: dict[tuple[FlowTuple, Direction], Tracked] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, walk: Walk, flow: FlowTuple, direction: Direction) -> tuple[Tracked | None, bool]:
        """The entry of a flow, and whether the flow is the reply: that is looked for first."""
        replied = self.find_reply(walk, flow, direction)
        if replied is not None:
            return replied, True
        return self.find_exactly(walk, flow, direction), False

    def find_reply(self, walk: Walk, flow: FlowTuple, direction: Direction) -> Tracked | None:
        """The entry of the flow that this one answers."""
        return self.find_exactly(walk, flow.reversed(), direction.opposite)

    def find_exactly(self, walk: Walk, flow: FlowTuple, direction: Direction) -> Tracked | None:
        """The entry of this flow in this direction."""
        walk.pay(LOOKUP, at=_MAP)
        return self._entries.get((flow, direction))

    def add(self, walk: Walk, flow: FlowTuple, direction: Direction, entry: Tracked) -> None:
        """Add an entry; it takes the place of the least recently used one where the map is full."""
        walk.pay(UPDATE, at=_MAP)
        self._entries[flow, direction] = entry

    def flush(self) -> None:
        """Forget all."""
        self._entries.clear()
