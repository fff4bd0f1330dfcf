"""Bisection for the border between levels where an expectation holds and where it fails."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubesim.errors import InputError
from kubesim.experiment.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DOUBLINGS = 10
"""How far from where a search begins it looks for a border."""

_WIDE = 4
"""Sides that are farther apart than this factor are halved on a logarithmic scale."""

_SHARE_OF_STRETCH = 0.25
"""How far off the ends of a stretch in which the data cannot tell may be, as a share of it.

Its levels are dear, since each takes all replications that there may be, and its ends depend on how many these are.
"""


@dataclass(frozen=True)
class Span:
    """Where to search.

    Parameters
    ----------
    begin
        Where to begin if both ends are missing.
    low, high
        The ends; found by halving and doubling if not given.
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

    def __init__(self, verdict: Callable[[float], Verdict], where: Span) -> None:
        self._ask = verdict
        self._where = where
        self.known: dict[float, Verdict] = {}
        self.refused: dict[float, str] = {}
        """Levels beyond a missing end that make no sense, and why."""

    def find(self) -> tuple[float | None, float | None]:
        """The last level that holds and the first that fails, which may be the lower one; None where there is none.

        Raises
        ------
        InputError
            If an end of the range, or where the search begins, makes no sense.
        """
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

    def _sides(self) -> tuple[float | None, float | None]:
        """The two tried levels of different verdicts that are nearest to each other.

        If there is one verdict only, the level next to where the data cannot tell, or else the highest.
        """
        holds, fails = self._levels(Verdict.HOLDS), self._levels(Verdict.FAILS)
        if holds and fails:
            return _nearest(holds, fails)
        sure, unsure = holds or fails, self._levels(Verdict.CANNOT_TELL)
        if not sure:
            return None, None
        last = _nearest(sure, unsure)[0] if unsure else max(sure)
        return (last, None) if holds else (None, last)

    def _verdict(self, level: float) -> Verdict:
        if level not in self.known:
            self.known[level] = self._ask(level)
        return self.known[level]

    def _levels(self, verdict: Verdict) -> list[float]:
        return [level for level, found in self.known.items() if found is verdict]

    def _try_ends(self) -> None:
        """Try the ends of the range; where one is missing, go on until there are both verdicts.

        If both are missing it goes up and down in turn: nobody knows on which side the border is.
        """
        where = self._where
        given = [end for end in (where.low, where.high) if end is not None] or [where.begin]
        for level in given:
            self._verdict(level)
        ways = [self._outwards(given[-1], factor=2)] if where.high is None else []
        ways += [self._outwards(given[0], factor=0.5)] if where.low is None else []
        while ways and not (self._levels(Verdict.HOLDS) and self._levels(Verdict.FAILS)):
            way = ways.pop(0)
            if next(way, None) is not None:
                ways.append(way)

    def _outwards(self, level: float, factor: float) -> Iterator[Verdict]:
        """Verdicts at levels that are doubled or halved, as far as there are such levels."""
        for _ in range(_DOUBLINGS):
            following = self._rounded(level * factor)
            if self._where.is_whole and level == 0:
                following = 1 if factor > 1 else 0
            if following == level:
                return
            try:
                yield self._verdict(following)
            except InputError as error:
                self.refused[following] = str(error)
                return
            level = following

    def _halve(self, holding: float, failing: float) -> float | None:
        """Bring both sides together; a level at which the data cannot tell, if one is met."""
        while (middle := self._between(holding, failing)) is not None:
            verdict = self._verdict(middle)
            if verdict is Verdict.CANNOT_TELL:
                return middle
            holding, failing = (middle, failing) if verdict is Verdict.HOLDS else (holding, middle)
        return None

    def _close_in_from_one_side(self) -> None:
        """Find how far the verdict goes that there is, if the data cannot tell elsewhere."""
        unsure = self._levels(Verdict.CANNOT_TELL)
        for verdict in (Verdict.HOLDS, Verdict.FAILS):
            sure = self._levels(verdict)
            if sure and unsure:
                self._close_in(*_nearest(sure, unsure), verdict)

    def _close_in(self, sure: float, undecided: float, verdict: Verdict) -> None:
        """Find the last level of a verdict on the way to where the data cannot tell."""
        low, high = min(sure, undecided), max(sure, undecided)
        known = [level for level in self._levels(verdict) if low <= level <= high]
        sure = min(known, key=lambda level: abs(level - undecided))
        while (middle := self._between(sure, undecided)) is not None:
            unsure = self._levels(Verdict.CANNOT_TELL)
            if abs(sure - undecided) <= _SHARE_OF_STRETCH * (max(unsure) - min(unsure)):
                return
            if self._verdict(middle) is verdict:
                sure = middle
            else:
                undecided = middle

    def _between(self, one: float, other: float) -> float | None:
        """The level in the middle, None if the two are close enough."""
        low, high = min(one, other), max(one, other)
        if high - low <= self._where.within * high:
            return None
        is_wide = low > 0 and high / low > _WIDE
        middle = self._rounded(math.sqrt(low * high) if is_wide else (low + high) / 2)
        return middle if low < middle < high else None

    def _rounded(self, level: float) -> float:
        return round(level) if self._where.is_whole else float(f"{level:.6g}")


def _nearest(some: list[float], others: list[float]) -> tuple[float, float]:
    """One of each that are nearest to each other."""
    return min(((one, other) for one in some for other in others), key=lambda pair: abs(pair[0] - pair[1]))
