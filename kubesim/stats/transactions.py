"""Transactions as they end: when the measured time begins, how long they took, and how many were lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kubesim.stats.measures import Window, left_out
from kubesim.stats.observations import Observations

if TYPE_CHECKING:
    import numpy.typing as npt

_NEVER = -1
_UNKNOWN = np.iinfo(np.int64).max


class TransactionTally:
    """Takes transactions in blocks, each later than the ones before, and keeps those that are under way.

    Parameters
    ----------
    asked
        How many transactions there are to be.
    warmup
        As :func:`kubesim.stats.measures.measurement_window` has it, but for ``mser-5``.
    window
        The time that is measured, where it is known.
    """

    def __init__(self, asked: int, warmup: float, window: Window | None = None) -> None:
        none = np.empty(0, np.int64)
        self._open, self._open_since_ns = none, none
        self._skipped = left_out(asked, warmup) if window is None else 0
        self._completed = 0
        self._given = window
        self._first_start_ns = _UNKNOWN
        self._begin_ns: int | None = None if window is None else window.begin_ns
        self.last_ns = _NEVER
        """The last completion."""
        self.latency_ns = Observations()
        """Of transactions that were completed behind the warm-up."""
        self.started = 0
        self._lost, self._lost_at_all = 0, 0

    @property
    def begin_ns(self) -> int | None:
        """What is earlier does not count: the end of the warm-up, before that the first start; None if unknown."""
        if self._begin_ns is not None:
            return self._begin_ns
        return None if self._first_start_ns == _UNKNOWN else self._first_start_ns

    @property
    def window(self) -> Window:
        """The time that is measured, when all is over."""
        if self._given is not None:
            return self._given
        if self.last_ns == _NEVER:
            return Window(0, 0)
        begin_ns = self.begin_ns
        assert begin_ns is not None  # noqa: S101 - something was completed, so it was started
        return Window(begin_ns, self.last_ns, 0 if self._begin_ns is None else self._skipped)

    @property
    def lost(self) -> int:
        """Transactions that began behind the warm-up and were not completed; where none was, those behind time 0."""
        return self._lost_at_all if self.last_ns == _NEVER else self._lost

    def see_start(self, start_ns: npt.NDArray[np.int64]) -> None:
        """Note that transactions have begun, shape (b,), which come later."""
        self._first_start_ns = min(self._first_start_ns, int(start_ns.min(initial=_UNKNOWN)))

    def add(
        self,
        begun: npt.NDArray[np.int64],
        start_ns: npt.NDArray[np.int64],
        ended: npt.NDArray[np.int64],
        end_ns: npt.NDArray[np.int64],
    ) -> bool:
        """Take a block.

        Parameters
        ----------
        begun, start_ns : array of int64, shape (b,)
            Numbers of transactions, rising, whose first message has been sent, and when.
        ended, end_ns : array of int64, shape (e,)
            Numbers of those whose last message has arrived, or never will (−1).

        Returns
        -------
        bool
            Whether the warm-up has ended in this block: then nothing that was added before counts.
        """
        self.started += len(begun)
        self.see_start(start_ns)
        numbers = np.concatenate([self._open, begun])
        since_ns = np.concatenate([self._open_since_ns, start_ns])
        order = np.argsort(numbers, kind="stable")
        numbers, since_ns = numbers[order], since_ns[order]
        place = np.searchsorted(numbers, ended)
        has_begun = place < len(numbers)
        has_begun[has_begun] = numbers[place[has_begun]] == ended[has_begun]
        place, end_ns = place[has_begun], end_ns[has_begun]
        is_open = np.ones(len(numbers), np.bool_)
        is_open[place] = False
        self._open, self._open_since_ns = numbers[is_open], since_ns[is_open]
        return self._count(since_ns[place], end_ns)

    def _count(self, start_ns: npt.NDArray[np.int64], end_ns: npt.NDArray[np.int64]) -> bool:
        """Count transactions that are over."""
        is_complete = end_ns != _NEVER
        ends = end_ns[is_complete]
        has_warmed_up = self._warm_up(ends)
        self._completed += len(ends)
        self.last_ns = max(self.last_ns, int(ends.max(initial=_NEVER)))
        begin_ns = self.begin_ns if self.begin_ns is not None else 0
        self.latency_ns.add((end_ns - start_ns)[is_complete & (end_ns > begin_ns)])
        self._lost += int(np.count_nonzero(start_ns[~is_complete] > begin_ns))
        self._lost_at_all += int(np.count_nonzero(start_ns[~is_complete] > 0))
        return has_warmed_up

    def _warm_up(self, ends: npt.NDArray[np.int64]) -> bool:
        """See whether the warm-up ends with one of these completions."""
        missing = self._skipped - self._completed
        # With the very last completion it does not: nothing would be left.
        if self._begin_ns is not None or not 0 < missing <= len(ends):
            return False
        self._begin_ns = int(np.partition(ends, missing - 1)[missing - 1])
        self.latency_ns, self._lost = Observations(), 0
        return True
