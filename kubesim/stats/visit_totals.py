"""How long stations served, and what came to them, within a time whose end is not known before all is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.stats.measures import Window


class Visits(NamedTuple):
    """Visits to stations, shape (v,) each; −1 for the start and the end of one that found no place.

    One whose arrival is −1 was not made. ``service_ns`` is what the packet asked for, whether it was let in or not.
    """

    station: npt.NDArray[np.int64]
    arrive_ns: npt.NDArray[np.int64]
    start_ns: npt.NDArray[np.int64]
    depart_ns: npt.NDArray[np.int64]
    service_ns: npt.NDArray[np.int64]

    def take(self, rows: npt.NDArray[np.int64]) -> Visits:
        """Some of them."""
        return Visits(*(column.take(rows) for column in self))

    def work_ns(self) -> npt.NDArray[np.int64]:
        """What each takes, or would have taken of a station without a place."""
        return np.where(self.start_ns >= 0, self.depart_ns - self.start_ns, self.service_ns)


class VisitTotals:
    """Adds visits up by station.

    Parameters
    ----------
    stations
        How many there are.
    """

    def __init__(self, stations: int) -> None:
        self._stations = stations
        self.restart()

    def restart(self) -> None:
        """Forget all visits."""
        none = np.empty(0, np.int64)
        self._late = Visits(none, none, none, none, none)
        self.busy_ns = np.zeros(self._stations, np.int64)
        self.joined_ns = np.zeros(self._stations, np.int64)

    def add(self, visits: Visits, begin_ns: int, known_ns: int) -> None:
        """Count more visits.

        Parameters
        ----------
        visits
            In any order.
        begin_ns
            What is before that does not count.
        known_ns
            The end is not before this time; what is after it waits until more is known.
        """
        starts, ends = visits.arrive_ns < begin_ns, visits.depart_ns >= known_ns
        special = np.flatnonzero(starts | ends | (visits.start_ns < 0))
        # All others are within the time, and the same sums are told of both.
        work_ns = visits.depart_ns - visits.start_ns
        work_ns[special] = 0
        within_ns = sums(visits.station + 1, work_ns, len(self.busy_ns) + 1)[1:]
        self.busy_ns += within_ns
        self.joined_ns += within_ns
        special = special[visits.arrive_ns[special] >= 0]
        columns = zip(self._late, visits.take(special), strict=True)
        self._late = Visits(*(np.concatenate(pair) for pair in columns))
        is_late = np.maximum(self._late.arrive_ns, self._late.depart_ns) >= known_ns
        self._count(self._late.take(np.flatnonzero(~is_late)), begin_ns, known_ns)
        self._late = self._late.take(np.flatnonzero(is_late))

    def finish(self, window: Window) -> None:
        """Count what waits, now that the end is known."""
        self._count(self._late, window.begin_ns, window.end_ns)
        self._late = self._late.take(np.empty(0, np.int64))

    def _count(self, visits: Visits, begin_ns: int, end_ns: int) -> None:
        """Add the parts of visits that are between two times; those joined at the end are not."""
        served = visits.depart_ns >= 0
        busy = np.clip(visits.depart_ns, begin_ns, end_ns) - np.clip(visits.start_ns, begin_ns, end_ns)
        self.busy_ns += sums(visits.station, np.where(served, busy, 0), len(self.busy_ns))
        joined = (visits.arrive_ns >= begin_ns) & (visits.arrive_ns < end_ns)
        self.joined_ns += sums(visits.station, np.where(joined, visits.work_ns(), 0), len(self.joined_ns))


def sums(place: npt.NDArray[np.int64], amount: npt.NDArray[np.int64], places: int) -> npt.NDArray[np.int64]:
    """Sums of whole numbers of at least 0 that go to the same place, shape (places,).

    Summed in halves, since a floating number holds 53 bits.
    """
    if not len(place):
        return np.zeros(places, np.int64)
    if int(amount.max()) * len(amount) < 1 << 53:
        return np.bincount(place, weights=amount, minlength=places).astype(np.int64)
    upper = np.bincount(place, weights=amount >> 31, minlength=places).astype(np.int64)
    lower = np.bincount(place, weights=amount & ((1 << 31) - 1), minlength=places).astype(np.int64)
    return (upper << 31) + lower
