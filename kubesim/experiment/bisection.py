"""Bisection for the border between levels where an expectation holds and where it fails."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubesim.errors import InputError
from kubesim.experiment.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

_FARTHEST = 1 << 10
"""How far from where a search begins it looks for a border, as a factor."""

_WIDE = 4
"""Ends that are farther apart than this factor are halved on a logarithmic scale."""


@dataclass(frozen=True)
class Range:
    """Where to search.

    Parameters
    ----------
    begin
        Where to begin if an end is missing.
    low, high
        The ends; found by doubling and halving if not given.
    is_whole
        Whether levels are whole numbers.
    within
        How far apart the sides of the border may be in the end, as a share of it; of whole numbers at least 1.
    """

    begin: float
    low: float | None = None
    high: float | None = None
    is_whole: bool = True
    within: float = 0.01


class Border:
    """Narrows the border between two verdicts down.

    Parameters
    ----------
    verdict
        Whether an expectation holds at a level; asked once for each.
    where
        The range.
    """

    def __init__(self, verdict: Callable[[float], Verdict], where: Range) -> None:
        self._ask = verdict
        self._where = where
        self.known: dict[float, Verdict] = {}

    def find(self) -> tuple[float | None, float | None]:
        """The last level that holds and the first that fails, which may be the lower one; None where there is none."""
        self._try_ends()
        holding, failing = self._sides()
        if holding is None or failing is None:
            self._close_in_from_one_side()
            return self._sides()
        undecided = self._halve(holding, failing)
        if undecided is not None:
            self._close_in(holding, undecided, Verdict.HOLDS)
            self._close_in(failing, undecided, Verdict.FAILS)
        return self._sides()

    def _verdict(self, level: float) -> Verdict:
        if level not in self.known:
            self.known[level] = self._ask(level)
        return self.known[level]

    def _levels(self, verdict: Verdict) -> list[float]:
        return [level for level, found in self.known.items() if found is verdict]

    def _close_in_from_one_side(self) -> None:
        """Find how far the verdict goes that there is, if the data cannot tell elsewhere."""
        unsure = self._levels(Verdict.CANNOT_TELL)
        for verdict in (Verdict.HOLDS, Verdict.FAILS):
            sure = self._levels(verdict)
            if sure and unsure:
                pairs = ((one, other) for one in sure for other in unsure)
                self._close_in(*min(pairs, key=lambda pair: abs(pair[0] - pair[1])), verdict)

    def _try_ends(self) -> None:
        """Try the ends of the range; where one is not given, go on until there is another verdict."""
        where = self._where
        begin = where.low if where.low is not None else where.high if where.high is not None else where.begin
        first = self._verdict(self._level(begin))
        if where.low is not None and where.high is not None:
            self._verdict(self._level(where.high))
            return
        if where.high is None and not self._grow(begin, first, factor=2) and where.low is None:
            self._grow(begin, first, factor=0.5)
        if where.high is not None:
            self._grow(begin, first, factor=0.5)

    def _grow(self, level: float, first: Verdict, factor: float) -> bool:
        """Double or halve a level until the verdict is another one; whether it became so."""
        begin = level
        while True:
            following = self._level(level * factor)
            if following == level or not 1 / _FARTHEST <= following / begin <= _FARTHEST:
                return False
            level = following
            try:
                verdict = self._verdict(level)
            except InputError:  # the scenario cannot be so large, or so small
                return False
            if verdict not in (first, Verdict.CANNOT_TELL):
                return True

    def _halve(self, holding: float, failing: float) -> float | None:
        """Bring both sides together; a level at which the data cannot tell, if one is met."""
        while (middle := self._between(holding, failing)) is not None:
            verdict = self._verdict(middle)
            if verdict is Verdict.CANNOT_TELL:
                return middle
            holding, failing = (middle, failing) if verdict is Verdict.HOLDS else (holding, middle)
        return None

    def _close_in(self, sure: float, undecided: float, verdict: Verdict) -> None:
        """Find the last level of a verdict on the way to where the data cannot tell."""
        sure = self._nearest(sure, undecided, verdict)
        while (middle := self._between(sure, undecided)) is not None:
            if self._verdict(middle) is verdict:
                sure = middle
            else:
                undecided = middle

    def _nearest(self, sure: float, undecided: float, verdict: Verdict) -> float:
        """The level nearest to where the data cannot tell that was tried with a verdict."""
        low, high = min(sure, undecided), max(sure, undecided)
        known = [level for level in self._levels(verdict) if low <= level <= high]
        return min(known, key=lambda level: abs(level - undecided), default=sure)

    def _sides(self) -> tuple[float | None, float | None]:
        """The two levels of different verdicts that are nearest to each other."""
        holds, fails = self._levels(Verdict.HOLDS), self._levels(Verdict.FAILS)
        if not holds or not fails:
            return (max(holds) if holds else None), (min(fails) if fails else None)
        return min(((hold, fail) for hold in holds for fail in fails), key=lambda pair: abs(pair[0] - pair[1]))

    def _between(self, one: float, other: float) -> float | None:
        """The level in the middle, None if the two are close enough."""
        low, high = min(one, other), max(one, other)
        if high - low <= self._where.within * high:
            return None
        is_wide = low > 0 and high / low > _WIDE
        middle = self._level(math.sqrt(low * high) if is_wide else (low + high) / 2)
        return middle if low < middle < high else None

    def _level(self, level: float) -> float:
        return round(level) if self._where.is_whole else float(f"{level:.6g}")
