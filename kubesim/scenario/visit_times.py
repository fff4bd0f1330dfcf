"""How long visits take: the same always, or drawn by the message's number."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kubesim.scenario.service_times import INTERVALS, LANES, Lanes, lognormal, table_ns, whole_ns
from kubesim.scenario.visits import Role
from kubesim.streams import numbered

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from kubesim.scenario.flow_classes import FlowClasses
    from kubesim.scenario.rows import Key, Rows
    from kubesim.scenario.service_times import Normals
    from kubesim.scenario.visits import Visit
    from kubesim.streams import Streams
    from kubesim.workload import Messages, Sequences

    _Bools = npt.NDArray[np.bool_]
    _Floats = npt.NDArray[np.float64]

_TABLED = 16
"""Up to so many rows of times are tabled: more do not stay in a processor's cache."""


_ROLES = (
    *(Role.SEND, Role.SOFTIRQ, Role.RECEIVE, Role.STEERED),
    *(Role.DAEMON, Role.WORKER, Role.PEER, Role.NIC),
    *(Role.WIRE, Role.PORT),
)
"""In the order in which they share random bits: four at a time, of which most ways need the first ones only."""


class _Purpose(NamedTuple):
    """What random numbers are drawn for: a stream, and which of the numbers that are drawn together there."""

    stream: str
    lane: int

    @classmethod
    def of(cls, role: Role, occurrence: int) -> _Purpose:
        """Those of a visit: the first one to such a station, or the second."""
        word, lane = divmod(_ROLES.index(role), LANES)
        return cls(f"service times {occurrence}.{word}", lane)


@dataclass(frozen=True, eq=False)
class _Draws:
    """Visits whose times are random, in one column, shape (t,) each.

    Parameters
    ----------
    purpose, column
        What numbers are drawn for, and where they are used.
    is_drawn
        Whether the row's time is random.
    log_mean, log_deviation
        Of the logarithm of its time.
    table
        The row's time by the interval that the number is in, shape (t · INTERVALS,), where it is worth it.
    """

    purpose: _Purpose
    column: int
    is_drawn: _Bools
    log_mean: _Floats
    log_deviation: _Floats
    table: npt.NDArray[np.int64] | npt.NDArray[np.uint32] | None = None

    def tabled(self, steady_ns: npt.NDArray[np.int64]) -> _Draws:
        """The same with a table of the whole column; rows that are not drawn always take so long, shape (t,)."""
        times_ns = table_ns(self.log_mean, self.log_deviation)
        times_ns[~self.is_drawn] = steady_ns[~self.is_drawn, None]
        table = times_ns.ravel()
        if int(table.max(initial=0)) > np.iinfo(np.uint32).max:
            return replace(self, table=table)
        return replace(self, table=table.astype(np.uint32))  # half as much to hold in a processor's cache

    def draw(
        self,
        service_ns: npt.NDArray[np.int64],
        row: npt.NDArray[np.int64],
        begin: npt.NDArray[np.int64],
        normals: Normals,
    ) -> None:
        """Put in times, shape (m,), of messages of which each has one of the rows, whose tables begin there."""
        if self.table is not None:
            service_ns[:] = self.table.take(begin + normals.interval)
            here, values = normals.outer, normals.outer_values
        else:
            here, values = np.arange(len(row)), normals.values()
        of = row.take(here)
        if not self.is_drawn.all():
            some = np.flatnonzero(self.is_drawn.take(of))
            here, values, of = here.take(some), values.take(some), of.take(some)
        values = values * self.log_deviation.take(of)
        values += self.log_mean.take(of)
        service_ns[here] = whole_ns(np.exp(values, out=values))


class Times(NamedTuple):
    """What is told of visits' times before anything is drawn, shape (t, width) each.

    ``steady_ns`` is the time of visits that always take the same, 0 behind the last one; the others are in ``draws``,
    sorted by what their random numbers are drawn for.
    """

    mean_ns: _Floats
    steady_ns: npt.NDArray[np.int64]
    draws: list[_Draws]

    def tabled(self) -> Times:
        """The same with tables of what is drawn, if there are few rows: for many messages that is faster."""
        if len(self.steady_ns) > _TABLED:
            return self
        # A table fills its column, in which nothing else may be drawn.
        met = Counter(one.column for one in self.draws)
        draws = [one.tabled(self.steady_ns[:, one.column]) if met[one.column] == 1 else one for one in self.draws]
        return self._replace(draws=draws)


class VisitTimes:
    """Tells the times of messages' visits.

    A visit's random numbers are its role's: of alternatives that bring packets to receivers by ways of different
    lengths, each receiver is as quick or slow as in the others.

    Parameters
    ----------
    messages, classes
        What is sent, and which way.
    ways
        The visits of each route and kind.
    width
        The most visits that there are.
    streams
        Random numbers.
    """

    def __init__(
        self,
        messages: Messages | Sequences,
        classes: FlowClasses,
        ways: Mapping[Key, tuple[Visit, ...]],
        width: int,
        streams: Streams,
    ) -> None:
        self._classes = classes
        self._ways = ways
        self._width = width
        self._opens = np.array([kind.opens_here for kind in messages.kinds])
        self._work_ns = np.array([kind.work_ns for kind in messages.kinds], np.float64)
        self._openings_ns = np.array([(one.mean_ns, one.deviation_ns) for one in classes.openings])
        self._streams = streams
        self._keys: dict[str, np.uint64] = {}

    def of(self, rows: Rows) -> tuple[Times, npt.NDArray[np.int64]]:
        """The times that there are among messages, and which of them each message has, shape (m,)."""
        sorts, row = self._classes.sorts(rows.flow, rows.kind, self._opens)
        return self._times(*sorts.T), row

    def drawn_ns(
        self, times: Times, row: npt.NDArray[np.int64], number: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64]:
        """Service times of messages by their numbers, shape (m, width), of which each has one of the rows."""
        service_ns = times.steady_ns.take(row, axis=0)  # whole rows are taken at the speed of memory, not so columns
        begin = row * INTERVALS
        for stream, together in groupby(times.draws, key=lambda one: one.purpose.stream):
            if stream not in self._keys:
                self._keys[stream] = self._streams.key(stream)
            lanes = Lanes(numbered(self._keys[stream], number))
            for lane, draws in groupby(together, key=lambda one: one.purpose.lane):
                normals = lanes.numbers(lane)
                for one in draws:
                    one.draw(service_ns[:, one.column], row, begin, normals)
        return service_ns

    def _times(
        self, route: npt.NDArray[np.int64], kind: npt.NDArray[np.int64], opening: npt.NDArray[np.int64]
    ) -> Times:
        """Those of these sorts of messages, shape (t,) each, of which those of one route and kind are together."""
        shape = (len(kind), self._width)
        mean_ns, deviation_ns, is_made = np.zeros(shape), np.zeros(shape), np.zeros(shape, np.bool_)
        drawn: defaultdict[tuple[_Purpose, int], list[slice]] = defaultdict(list)
        starts = np.flatnonzero(np.diff(route, prepend=-1) | np.diff(kind, prepend=-1))
        for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(kind)], strict=True):
            met: Counter[Role] = Counter()
            for column, visit in enumerate(self._ways.get((int(route[start]), int(kind[start])), ())):
                here = slice(start, end), column
                met[visit.role] += 1
                mean_ns[here], deviation_ns[here], is_made[here] = visit.mean_ns, visit.deviation_ns, True
                drawn[_Purpose.of(visit.role, met[visit.role]), column].append(here[0])
        if self._width:
            # What is not the route's: the opening of a connection, and what applications compute.
            opens = np.flatnonzero(self._opens[kind])
            mean_ns[opens, 0] += self._openings_ns[opening[opens], 0]
            deviation_ns[opens, 0] += self._openings_ns[opening[opens], 1]
            mean_ns[:, 0] += self._work_ns[kind]
        log_mean, log_deviation = lognormal(mean_ns, deviation_ns)
        draws = []
        for (purpose, column), rows in sorted(drawn.items(), key=lambda item: item[0]):
            is_drawn = np.zeros(len(kind), np.bool_)
            for some in rows:
                is_drawn[some] = log_deviation[some, column] > 0
            if is_drawn.any():
                arrays = (is_drawn, log_mean[:, column].copy(), log_deviation[:, column].copy())
                draws.append(_Draws(purpose, column, *arrays))
        return Times(mean_ns, np.where(is_made, whole_ns(mean_ns), 0), draws)
