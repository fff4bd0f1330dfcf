"""Where the luck of connections leads: intervals of random numbers that were seen to come to the same."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Generic, TypeVar

_Way = TypeVar("_Way")


@dataclass(slots=True)
class Choices(Generic[_Way]):
    """What is known of where numbers from 0 to 1 lead; the intervals, which do not overlap, are kept in order."""

    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    ways: list[_Way] = field(default_factory=list)

    def find(self, number: float) -> int | None:
        """The position of the interval that a number is in, None if it is not known."""
        place = bisect_right(self.starts, number) - 1
        return None if place < 0 or number >= self.ends[place] else place

    def learn(self, interval: tuple[float, float], way: _Way) -> None:
        """Remember where numbers of an interval, from its start to below its end, lead."""
        place = bisect_right(self.starts, interval[0])
        self.starts.insert(place, interval[0])
        self.ends.insert(place, interval[1])
        self.ways.insert(place, way)
