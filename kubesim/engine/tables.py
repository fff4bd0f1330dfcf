"""Tables with a limited number of places, which connections take and give back while packets play."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

from kubesim.engine.integers import Int64Array, read_only, refuse
from kubesim.errors import PlanError

NO_ENTRY = -1
"""In ``entry``: the packet needs no entry of this kind at this visit."""

_LARGEST = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False, init=False)
class Tables:
    """What packets need entries in, at which visit, and how long they stay.

    A packet needs up to k entries at a visit, each in another table. One that joins a station at a visit with entries,
    and is not dropped there because the station is full, gets all of them or none. An entry that is in its table is to
    be had; another one is if its table has a place left. If all are to be had, those that are not in their tables are
    put in, and the time of each is set anew: it leaves the table ``keep_ns`` later, unless another packet needs it
    before. Entries whose time has come have left before any packet of that instant. Otherwise nothing is put in or
    set, and the first of the entries, in their order, that is not to be had refuses the packet: at this visit it is
    served for that one's ``refused_ns``, and then it is lost.

    Parameters
    ----------
    capacity : array of int64, shape (t,)
        Places of each table.
    held : array of int64, shape (t,)
        How many of them are taken all the time.
    table : array of int64, shape (e,)
        The table of each entry.
    entry : array of int64, shape (n, visits, k)
        The entries that each packet needs at each visit, in their order, −1 for none.
    keep_ns : array of int64, shape (n, k)
        How long its entries stay after it, at least 1; not read of entries that a packet needs nowhere.
    refused_ns : array of int64, shape (n, visits, k)
        How long it is served where it is refused, at least 1; not read where ``entry`` is −1.
    limit : array of int64, shape (n, k), optional
        With so many places of a table taken, this packet finds none that is left; by default, and at the most,
        ``capacity``.

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
    limit: Int64Array

    def __init__(
        self,
        capacity: npt.ArrayLike,
        held: npt.ArrayLike,
        table: npt.ArrayLike,
        entry: npt.ArrayLike,
        keep_ns: npt.ArrayLike,
        refused_ns: npt.ArrayLike,
        limit: npt.ArrayLike | None = None,
    ) -> None:
        for name, value, dimensions in (
            ("capacity", capacity, 1),
            ("held", held, 1),
            ("table", table, 1),
            ("entry", entry, 3),
            ("keep_ns", keep_ns, 2),
            ("refused_ns", refused_ns, 3),
            ("limit", np.full(np.shape(keep_ns), _LARGEST) if limit is None else limit, 2),
        ):
            object.__setattr__(self, name, read_only(f"tables.{name}", value, dimensions))
        if len(self.held) != len(self.capacity):
            raise PlanError(f"plan: tables.held has {len(self.held)} entries; it needs {len(self.capacity)}")
        refuse("tables.capacity", self.capacity < 0, "a table cannot have fewer than 0 places", "table")
        refuse("tables.held", self.held < 0, "fewer than 0 places cannot be taken", "table")
        refuse("tables.table", (self.table < 0) | (self.table >= len(self.capacity)), "there is no such table", "entry")

    @classmethod
    def without_entries(cls, packets: int, visits: int) -> Tables:
        """No tables, for a plan of so many packets and visits."""
        none = np.empty((packets, visits, 0), np.int64)
        return cls([], [], [], none, np.empty((packets, 0), np.int64), none)

    def of_packets(self, packet: Int64Array) -> Tables:
        """The same for some of the packets, in this order, shape (m,)."""
        entry, keep_ns, refused_ns = self.entry[packet], self.keep_ns[packet], self.refused_ns[packet]
        return Tables(self.capacity, self.held, self.table, entry, keep_ns, refused_ns, self.limit[packet])

    def longest_ns(self) -> float:
        """Give as long as all refusals and one stay may take."""
        is_needed = self.entry != NO_ENTRY
        longest_refusal_ns = float(self.refused_ns.max(initial=0, where=is_needed))
        return len(self.entry) * longest_refusal_ns + float(self.keep_ns.max(initial=0, where=is_needed.any(axis=1)))

    def check(self, station: Int64Array) -> None:
        """See that they fit the stations of a plan, shape (n, visits).

        Raises
        ------
        PlanError
            If they do not.
        """
        self._check_shapes(*station.shape)
        is_needed = self.entry != NO_ENTRY
        refuse("tables.entry", self.entry < NO_ENTRY, "there is no such entry", "packet")
        refuse("tables.entry", self.entry >= len(self.table), "there is no such entry", "packet")
        refuse("tables.entry", is_needed & (station < 0)[:, :, None], "there is no such visit", "packet")
        refuse("tables.entry", self._needs_two_of_a_table(), "it needs two entries of one table at a visit", "packet")
        too_short = is_needed.any(axis=1) & (self.keep_ns < 1)
        refuse("tables.keep_ns", too_short, "an entry stays at least 1 ns", "packet")
        refuse("tables.limit", self.limit < 0, "fewer than 0 places cannot be too many", "packet")
        too_short = is_needed & (self.refused_ns < 1)
        refuse("tables.refused_ns", too_short, "service lasts at least 1 ns", "packet")

    def _check_shapes(self, packets: int, visits: int) -> None:
        kinds = self.entry.shape[2]
        for name, shape in (
            ("entry", (packets, visits, kinds)),
            ("refused_ns", (packets, visits, kinds)),
            ("keep_ns", (packets, kinds)),
            ("limit", (packets, kinds)),
        ):
            if getattr(self, name).shape != shape:
                raise PlanError(f"plan: tables.{name} has shape {getattr(self, name).shape}; it needs {shape}")

    def _needs_two_of_a_table(self) -> npt.NDArray[np.bool_]:
        """Which packets, shape (n,), need several entries of one table at a visit."""
        if self.entry.shape[2] <= 1 or not len(self.table):
            return np.zeros(len(self.entry), np.bool_)
        none = -1 - np.arange(self.entry.shape[2])
        tables = np.sort(np.where(self.entry >= 0, self.table[self.entry], none), axis=2)
        return _any(tables[:, :, 1:] == tables[:, :, :-1])


def _any(wrong: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """In which rows, shape (n,), anything is, of shape (n, visits, k)."""
    return np.asarray(wrong.any(axis=(1, 2)), np.bool_)


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
        self._queued_ns: list[int] = [_LARGEST] * len(self._table)
        self._leaving: list[list[tuple[int, int]]] = [[] for _ in self._capacity]
        self.highest: list[int] = tables.held.tolist()

    def refuses(self, entries: list[int], limits: list[int], keep_ns: list[int], now: int) -> int:
        """Put in all of a packet's entries now, each to stay for so long, or none; which has no place, −1 if all do."""
        for place, entry in enumerate(entries):
            if entry < 0:
                continue
            table = self._table[entry]
            leaving = self._leaving[table]
            if leaving and leaving[0][0] <= now:
                self._let_leave(table, now)
            if self._leaves_ns[entry] < 0 and self._taken[table] >= min(self._capacity[table], limits[place]):
                return place
        for place, entry in enumerate(entries):
            if entry >= 0:
                self._keep(entry, now + keep_ns[place])
        return -1

    def _keep(self, entry: int, leaves_ns: int) -> None:
        """Put the entry in if it is not, and set its time."""
        if self._leaves_ns[entry] < 0:
            table = self._table[entry]
            self._taken[table] += 1
            self.highest[table] = max(self.highest[table], self._taken[table])
        self._leaves_ns[entry] = leaves_ns
        if leaves_ns < self._queued_ns[entry]:
            self._queue(entry)

    def _let_leave(self, table: int, now: int) -> None:
        leaving = self._leaving[table]
        while leaving and leaving[0][0] <= now:
            due_ns, entry = heappop(leaving)
            if due_ns != self._queued_ns[entry]:
                continue
            if self._leaves_ns[entry] > now:
                self._queue(entry)
                continue
            self._queued_ns[entry], self._leaves_ns[entry] = _LARGEST, -1
            self._taken[table] -= 1

    def _queue(self, entry: int) -> None:
        self._queued_ns[entry] = self._leaves_ns[entry]
        heappush(self._leaving[self._table[entry]], (self._leaves_ns[entry], entry))
