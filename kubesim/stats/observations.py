"""Whole numbers that were observed, by value: as small as there are different ones, however many were observed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


class Observations:
    """How often each value was observed.

    Times of packets are whole nanoseconds, of which few differ: millions of latencies below a millisecond are at most a
    million values. All that is said of them is exact, and the same in whatever order they came.

    Parameters
    ----------
    values : array of int64, shape (n,), optional
        The first ones; in any order.
    """

    def __init__(self, values: npt.ArrayLike = ()) -> None:
        self._values = np.empty(0, np.int64)
        self._counts = np.empty(0, np.int64)
        self._added: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
        self._waiting = 0
        self.add(np.asarray(values, np.int64))

    def __len__(self) -> int:
        return int(self.counts.sum())

    def add(self, values: npt.NDArray[np.int64]) -> None:
        """Observe more, shape (n,)."""
        if not len(values):
            return
        distinct, counts = np.unique(values, return_counts=True)
        self._added.append((distinct, counts))
        self._waiting += len(distinct)
        if self._waiting > 2 * len(self._values):  # so that values are moved a few times each, not each time
            self._merge()

    @property
    def values(self) -> npt.NDArray[np.int64]:
        """Different values, rising, shape (v,)."""
        self._merge()
        return self._values

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """How often each of them was observed, shape (v,)."""
        self._merge()
        return self._counts

    def mean(self) -> float:
        """The mean, of whole sums; NaN of nothing."""
        if not len(self):
            return float("nan")
        # Sums of 64 bits are enough for 292 years of latencies.
        return int((self.values * self.counts).sum()) / len(self)

    def at_ranks(self, ranks: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The observations at these ranks, of which 1 is the lowest, shape as given."""
        return self.values[np.searchsorted(np.cumsum(self.counts), ranks)]

    def _merge(self) -> None:
        if not self._added:
            return
        values = np.concatenate([self._values, *(one for one, _ in self._added)])
        counts = np.concatenate([self._counts, *(one for _, one in self._added)])
        self._values, place = np.unique(values, return_inverse=True)
        self._counts = np.zeros(len(self._values), np.int64)
        np.add.at(self._counts, place, counts)
        self._added, self._waiting = [], 0
