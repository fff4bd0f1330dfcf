"""Playing a plan part by part: what has ended goes, what has not stays, and the next part comes to it.

The loop is that of the compiled engine. A plan's packets come in parts, in any order, as long as each comes before the
packet that releases it is released itself, and before the time at which it is released if none does: the loop stops
there (packets are *held*). Between two stops the rows of packets that have ended are taken out of all arrays, those of
new ones put in, by their numbers, and what refers to rows follows them. Ties are told by numbers as ever, so that the
times are those of the whole plan, to the last nanosecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kubesim.engine import compiled_engine as loop
from kubesim.engine.integers import Int64Array, too_late
from kubesim.engine.plan import NEVER
from kubesim.engine.trace import joined_and_started
from kubesim.errors import PlanError

if TYPE_CHECKING:
    import numpy.typing as npt


_NO_ENTRIES = np.empty((1, 1, 0), np.int64)
"""Of tables, by packet and visit: the loop looks at them only if there are any."""

_Rows = Int64Array | slice
"""Which rows of arrays: those of a range are looked at where they are, others are copied."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some packets of a plan, in the order of their numbers; ``m`` of them. Arrays are as in :class:`Plan`.

    Parameters
    ----------
    number : array of int64, shape (m,)
        The packet's number in the whole plan, rising.
    release_ns, after, think_ns, timeout_ns : array of int64, shape (m,)
        ``after`` holds numbers of the whole plan, of packets of this part or of earlier ones.
    station, service_ns : array of int64, shape (m, visits)
        Every part has the same number of visits.
    """

    number: Int64Array
    release_ns: Int64Array
    station: Int64Array
    service_ns: Int64Array
    after: Int64Array
    think_ns: Int64Array
    timeout_ns: Int64Array

    def __len__(self) -> int:
        return len(self.number)

    def rows(self, rows: _Rows) -> Part:
        """Some of them."""
        return Part(*(_some(column, rows) for column in self._columns()))

    def merged(self, other: Part, order: Int64Array | None) -> Part:
        """Put others behind these, and all into this order."""
        return Part(*(_put(*pair, order) for pair in zip(self._columns(), other._columns(), strict=True)))

    def lasting_ns(self) -> float:
        """As long as everything in it may take, one after the other."""
        own_ns = float(np.where(self.station >= 0, self.service_ns, 0).sum(dtype=np.float64))
        return own_ns + float(np.maximum(self.think_ns, self.timeout_ns).sum(dtype=np.float64))

    def _columns(self) -> tuple[Int64Array, ...]:
        return (
            self.number,
            self.release_ns,
            self.station,
            self.service_ns,
            self.after,
            self.think_ns,
            self.timeout_ns,
        )


@dataclass(frozen=True, eq=False)
class PlayedPart:
    """Packets whose way has ended, in the order of their numbers; ``m`` of them.

    Parameters
    ----------
    part
        What was planned.
    arrive_ns, start_ns, depart_ns : array of int64, shape (m, visits)
        As in :class:`kubesim.engine.Trace`.
    """

    part: Part
    arrive_ns: Int64Array
    start_ns: Int64Array
    depart_ns: Int64Array

    def is_delivered(self) -> npt.NDArray[np.bool_]:
        """Whether the packet finished its last visit, shape (m,)."""
        # Column by column: NumPy is slow along short rows.
        visits = self.part.station.T >= 0
        is_delivered = visits[0].copy() if len(visits) else np.zeros(len(self.part), np.bool_)
        for is_made, depart_ns in zip(visits, self.depart_ns.T, strict=True):
            is_delivered &= is_made == (depart_ns >= 0)
        return is_delivered

    def last_ns(self) -> Int64Array:
        """Each packet's last departure, −1 for none, shape (m,)."""
        last_ns = np.full(len(self.part), -1)
        for depart_ns in self.depart_ns.T:
            np.maximum(last_ns, depart_ns, out=last_ns)
        return last_ns


class Waiting(NamedTuple):
    """Packets that have not come to their first station, as a part has them; shape (w,) each."""

    number: Int64Array
    after: Int64Array
    timeout_ns: Int64Array


class PlanStream:
    """Plays parts of a plan that has no tables.

    Parameters
    ----------
    servers, capacity, wake_ns : array of int64, shape (s,)
        Stations, as in :class:`Plan`.
    visits
        The most that a packet makes.
    """

    def __init__(self, servers: Int64Array, capacity: Int64Array, wake_ns: Int64Array, visits: int) -> None:
        self._stations = loop.stations_of(servers, capacity, wake_ns)
        self._longest_wake_ns = int(wake_ns.max(initial=0))
        none, no_visits = np.empty(0, np.int64), np.empty((0, visits), np.int64)
        self._part = Part(none, none, no_visits, no_visits, none, none, none)
        self._packets = np.empty((0, 7), np.int64)
        self._depart_ns = no_visits
        self._events = np.zeros((1, 2), np.int64)
        self._latest_ns = 0.0

    @property
    def waiting(self) -> Waiting:
        """The packets that are here and have not come to their first station yet."""
        rows, part = np.flatnonzero(self._packets[:, loop.VISIT] < 0), self._part
        return Waiting(part.number[rows], part.after[rows], part.timeout_ns[rows])

    def under_way(self) -> tuple[Int64Array, Int64Array]:
        """Numbers of the packets that are at a station, and when they were released."""
        rows = self._packets[:, loop.VISIT] >= 0
        return self._part.number[rows], self._packets[rows, loop.RELEASED_NS]

    def next_numbers(self) -> Int64Array:
        """Numbers of the packets one of which has the next event: the loop has stopped at it, if it is held."""
        part, packets = self._part, self._packets
        is_planned = (packets[:, loop.RELEASED_NS] < 0) & (part.after == NEVER)
        planned = np.flatnonzero(is_planned)
        first = planned[np.argmin(part.release_ns[planned])][None] if len(planned) else planned
        pending = self._events[1 : min(int(self._events[0, 0]), 1) + 1, loop.PACKET]
        return np.asarray(part.number[np.concatenate([first, pending])], np.int64)

    def feed(self, part: Part) -> None:
        """Take more packets.

        Raises
        ------
        PlanError
            If times may become too large for 64 bits.
        """
        self._latest_ns = max(self._latest_ns, float(part.release_ns.max(initial=0)))
        visits = float(np.count_nonzero(part.station >= 0))
        self._latest_ns += part.lasting_ns() + visits * self._longest_wake_ns
        why_not = too_late(self._latest_ns)
        if why_not is not None:
            raise PlanError(f"plan: {why_not}")
        mine, theirs = self._part.number, part.number
        order = None
        if len(mine) and len(theirs) and mine[-1] > theirs[0]:
            order = np.argsort(np.concatenate([mine, theirs]), kind="stable")
        packets = np.full((len(part), 7), -1)
        packets[:, loop.REFUSED_NS] = 0
        self._part = self._part.merged(part, order)
        self._packets = _put(self._packets, packets, order)
        self._depart_ns = _put(self._depart_ns, np.full_like(part.station, -1), order)
        self._move(np.arange(len(mine)) if order is None else np.searchsorted(self._part.number, mine))

    def play(self, is_held: npt.NDArray[np.bool_], until_ns: int) -> PlayedPart:
        """Go on until a packet that is held would be released, or this time has come; then give what has ended.

        Parameters
        ----------
        is_held : array of bool, shape (w,)
            Of each packet that is :attr:`waiting`, as :func:`held` finds it.
        until_ns
            When the first packet comes that is not here yet and is released by none; the largest int64 for never.
        """
        part, packets = self._part, self._packets
        packets[:, loop.HELD] = 0
        packets[packets[:, loop.VISIT] < 0, loop.HELD] = is_held
        is_due = packets[:, loop.RELEASED_NS] < 0  # the others that wait are in the heap already
        waits_for_another = is_due & (part.after != NEVER)
        after = np.where(waits_for_another, _rows_with(part.number, part.after), NEVER)
        planned = np.flatnonzero(is_due & (part.after == NEVER))
        planned = planned[np.argsort(part.release_ns[planned], kind="stable")]
        loop.play(
            planned=planned,
            release_ns=part.release_ns,
            station_of=part.station,
            service_ns=part.service_ns,
            entry_of=_NO_ENTRIES,
            keep_ns=_NO_ENTRIES[0],
            refused_ns=_NO_ENTRIES,
            limit=_NO_ENTRIES[0],
            depart_ns=self._depart_ns,
            packets=packets,
            loops=loop.loops_of(part.release_ns, after, part.think_ns, part.timeout_ns),
            stations=self._stations,
            events=self._events,
            entries=np.empty((0, 4), np.int64),
            leaving=np.zeros(1, np.int64),
            tables=np.empty((0, 3), np.int64),
            until_ns=until_ns,
        )
        return self._taken_out()

    def _taken_out(self) -> PlayedPart:
        """Take out the packets whose way has ended."""
        stays = self._packets[:, loop.VISIT] != loop.ENDED
        gone, here = _rows_of(~stays), _rows_of(stays)
        part, depart_ns = self._part.rows(gone), _some(self._depart_ns, gone)
        released_ns = _some(self._packets, gone)[:, loop.RELEASED_NS]
        arrive_ns, start_ns = joined_and_started(part.station, part.service_ns, released_ns, depart_ns)
        self._part, self._depart_ns = self._part.rows(here), _some(self._depart_ns, here)
        self._packets = _some(self._packets, here)
        self._move(np.where(stays, np.cumsum(stays) - 1, -1))
        return PlayedPart(part, arrive_ns, start_ns, depart_ns)

    def _move(self, place: Int64Array) -> None:
        """Let what refers to rows follow them to their new places, and have room for all their events."""
        pending = int(self._events[0, 0])
        events = np.zeros((len(self._part) + 1, 2), np.int64)
        events[: pending + 1] = self._events[: pending + 1]
        events[1 : pending + 1, loop.PACKET] = place[events[1 : pending + 1, loop.PACKET]]
        self._events = events
        for rows, column in ((self._stations, loop.FIRST), (self._stations, loop.LAST), (self._packets, loop.BEHIND)):
            named = rows[:, column] >= 0  # some have been served by now, and are nowhere: nobody looks at those
            rows[named, column] = place[rows[named, column]]


def held(waiting: Waiting, after: Int64Array) -> npt.NDArray[np.bool_]:
    """Which packets must not be released before others have come: their end, or their loss, may release those.

    Parameters
    ----------
    waiting
        Who may be released.
    after : array of int64, shape (u,)
        The packets after which those come that are not here yet, by number, as far as these are here; −1 for none.

    Returns
    -------
    array of bool, shape (w,)
    """
    is_held = np.zeros(len(waiting.number), np.bool_)
    while True:
        row = np.minimum(np.searchsorted(waiting.number, after), len(is_held) - 1)
        row = row[(waiting.number[row] == after) & ~is_held[row]] if len(is_held) else row[:0]
        if not len(row):
            return is_held
        is_held[row] = True
        # The loss of a packet goes through those behind it that have no time-out, without their being released.
        after = waiting.after[row[waiting.timeout_ns[row] == NEVER]]


def _rows_of(chosen: npt.NDArray[np.bool_]) -> _Rows:
    """Rows that are chosen."""
    rows = np.flatnonzero(chosen)
    if len(rows) and rows[-1] - rows[0] + 1 != len(rows):
        return rows
    return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 0)


def _some(array: Int64Array, rows: _Rows) -> Int64Array:
    """Some rows of an array."""
    return array[rows] if isinstance(rows, slice) else array.take(rows, axis=0)  # much faster than by an index


def _put(array: Int64Array, other: Int64Array, order: Int64Array | None) -> Int64Array:
    """One array behind another, in this order if there is one."""
    both = np.concatenate([array, other])
    return both if order is None else both.take(order, axis=0)


def _rows_with(numbers: Int64Array, wanted: Int64Array) -> Int64Array:
    """The row of each wanted number among others, which rise, shape of both (m,); any number if it is not there.

    Most packets are released by the one before them, which needs no search.
    """
    row = np.maximum(np.arange(-1, len(numbers) - 1), 0)
    other = np.flatnonzero(numbers[row] != wanted)
    row[other] = np.searchsorted(numbers, wanted[other])
    return row
