"""Tables with a limited number of places, which connections take and give back while packets play."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

from kubesim.engine.integers import Int64Array, read_only, refuse
from kubesim.errors import PlanError

NO_ENTRY = -1
"""In ``entry``: the packet needs none at this visit."""

_NOT_QUEUED = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False, init=False)
class Tables:
    """What packets need an entry in, at which visit, and how long it stays.

    A packet that joins a station at a visit with an entry, and is not dropped there because the station is full, needs
    that entry. If it is in its table, it stays; if not, it is put in if there is a place. Either way its time is then
    set anew: it leaves the table ``keep_ns`` later, unless another packet needs it before. Entries whose time has come
    have left before any packet of that instant. A packet for whose entry there is no place is refused: at this visit
    it is served for ``refused_ns``, and then it is lost.

    Parameters
    ----------
    capacity : array of int64, shape (t,)
        Places of each table.
    held : array of int64, shape (t,)
        How many of them are taken all the time.
    table : array of int64, shape (e,)
        The table of each entry.
    entry : array of int64, shape (n, visits)
        The entry that each packet needs at each visit, −1 for none.
    keep_ns : array of int64, shape (n,)
        How long its entries stay after it, at least 1; not read of a packet without any.
    refused_ns : array of int64, shape (n, visits)
        How long it is served where it is refused, at least 1; not read where ``entry`` is −1.

    Raises
    ------
    PlanError
        If a shape, a number or a reference breaks the contract; the message names the first offender.
    """

    capacity: Int64Array
    held: Int64Array
    table: Int64Array
    entry: Int64Array
    keep_ns: Int64Array
    refused_ns: Int64Array

    def __init__(
        self,
        capacity: npt.ArrayLike,
        held: npt.ArrayLike,
        table: npt.ArrayLike,
        entry: npt.ArrayLike,
        keep_ns: npt.ArrayLike,
        refused_ns: npt.ArrayLike,
    ) -> None:
        for name, value, dimensions in (
            ("capacity", capacity, 1),
            ("held", held, 1),
            ("table", table, 1),
            ("entry", entry, 2),
            ("keep_ns", keep_ns, 1),
            ("refused_ns", refused_ns, 2),
        ):
            object.__setattr__(self, name, read_only(f"tables.{name}", value, dimensions))
        if len(self.held) != len(self.capacity):
            raise PlanError(f"plan: tables.held has {len(self.held)} entries; it needs {len(self.capacity)}")
        refuse("tables.capacity", self.capacity < 0, "a table cannot have fewer than 0 places", "table")
        refuse("tables.held", self.held < 0, "fewer than 0 places cannot be taken", "table")
        refuse("tables.table", (self.table < 0) | (self.table >= len(self.capacity)), "there is no such table", "entry")

    def of_packets(self, packet: Int64Array) -> Tables:
        """The same for some of the packets, in this order, shape (m,)."""
        return Tables(
            self.capacity, self.held, self.table, self.entry[packet], self.keep_ns[packet], self.refused_ns[packet]
        )

    def check(self, station: Int64Array) -> None:
        """See that they fit the stations of a plan, shape (n, visits).

        Raises
        ------
        PlanError
            If they do not.
        """
        for name, shape in (("entry", station.shape), ("refused_ns", station.shape), ("keep_ns", station.shape[:1])):
            if getattr(self, name).shape != shape:
                raise PlanError(f"plan: tables.{name} has shape {getattr(self, name).shape}; it needs {shape}")
        is_needed = self.entry != NO_ENTRY
        unknown = np.any((self.entry < NO_ENTRY) | (self.entry >= len(self.table)), axis=1)
        refuse("tables.entry", unknown, "there is no such entry", "packet")
        refuse("tables.entry", np.any(is_needed & (station < 0), axis=1), "there is no such visit", "packet")
        refuse(
            "tables.keep_ns", np.any(is_needed, axis=1) & (self.keep_ns < 1), "an entry stays at least 1 ns", "packet"
        )
        too_short = np.any(is_needed & (self.refused_ns < 1), axis=1)
        refuse("tables.refused_ns", too_short, "service lasts at least 1 ns", "packet")


class Occupancy:
    """Which entries are in their tables, as packets come along in the order of time.

    Entries that have to leave wait in a heap for each table until somebody looks; one whose time was set later in the
    meantime is put back.

    Parameters
    ----------
    tables
        The tables.
    """

    def __init__(self, tables: Tables) -> None:
        self._table: list[int] = tables.table.tolist()
        self._capacity: list[int] = tables.capacity.tolist()
        self._taken: list[int] = tables.held.tolist()
        self._leaves_ns = [-1] * len(self._table)
        self._queued_ns: list[int] = [_NOT_QUEUED] * len(self._table)
        self._leaving: list[list[tuple[int, int]]] = [[] for _ in self._capacity]
        self.highest: list[int] = tables.held.tolist()

    def admits(self, entry: int, now: int, keep_ns: int) -> bool:
        """Whether the entry is in its table, or is put in now; it then stays for so long."""
        table = self._table[entry]
        self._let_leave(table, now)
        if self._leaves_ns[entry] < 0:
            if self._taken[table] >= self._capacity[table]:
                return False
            self._taken[table] += 1
            self.highest[table] = max(self.highest[table], self._taken[table])
        self._leaves_ns[entry] = leaves_ns = now + keep_ns
        if leaves_ns < self._queued_ns[entry]:
            self._queue(entry)
        return True

    def _let_leave(self, table: int, now: int) -> None:
        leaving = self._leaving[table]
        while leaving and leaving[0][0] <= now:
            due_ns, entry = heappop(leaving)
            if due_ns != self._queued_ns[entry]:
                continue
            if self._leaves_ns[entry] > now:
                self._queue(entry)
                continue
            self._queued_ns[entry], self._leaves_ns[entry] = _NOT_QUEUED, -1
            self._taken[table] -= 1

    def _queue(self, entry: int) -> None:
        self._queued_ns[entry] = self._leaves_ns[entry]
        heappush(self._leaving[self._table[entry]], (self._leaves_ns[entry], entry))
