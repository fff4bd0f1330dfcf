"""How far service times are from their means: numbers that belong to a message and a purpose, wherever one begins."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.streams import Streams

_INTERVAL_BITS = 14
_INTERVALS = 1 << _INTERVAL_BITS
_BITS = 32
_OUTER = 16 << (_BITS - _INTERVAL_BITS)
"""So many numbers at either end are not tabled."""


Runs = list[tuple[int, int]]
"""Numbers of messages that follow one another: the first one, and how many."""


def runs_of(number: npt.NDArray[np.int64]) -> Runs:
    """Take apart numbers of messages, shape (m,), which rise."""
    if not len(number):
        return []
    if number[-1] - number[0] + 1 == len(number):
        return [(int(number[0]), len(number))]
    begins = np.concatenate([[0], np.flatnonzero(number[1:] != number[:-1] + 1) + 1])
    return list(zip(number[begins].tolist(), np.diff(begins, append=len(number)).tolist(), strict=True))


@cache
def _quantiles() -> npt.NDArray[np.float64]:
    """The normal distribution's quantiles in the middle of so many intervals that are equally probable."""
    from scipy.special import ndtri  # noqa: PLC0415 - takes a while to import

    return np.asarray(ndtri((np.arange(_INTERVALS) + 0.5) / _INTERVALS), np.float64)


def normal(bits: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    """Standard normal numbers by the inverse of the distribution function, of 32 random bits each.

    Its values are tabled: all numbers of an interval are the one in its middle, of which they are 0.0001 at most where
    the distribution is dense, and 0.01 at three standard deviations. Beyond 3.1 of them, in the outer intervals, it is
    the function itself, so that no tail is cut off.
    """
    from scipy.special import ndtri  # noqa: PLC0415 - takes a while to import

    numbers = _quantiles().take((bits >> np.uint32(_BITS - _INTERVAL_BITS)).astype(np.intp))
    # Unsigned, what is below the inner intervals comes to numbers above them.
    outer = np.flatnonzero(bits - np.uint32(_OUTER) >= np.uint32(2**_BITS - 2 * _OUTER))
    if len(outer):
        numbers[outer] = ndtri((bits[outer] + 0.5) * 2.0**-_BITS)
    return numbers


class Normals:
    """Normal numbers, one for each message and purpose.

    A visit's numbers are its role's: of alternatives that bring packets to receivers by ways of different lengths, each
    receiver is as quick or slow as in the others. Each takes half a number of a generator that can be set to any place
    of its sequence, so that messages may be planned in any order.

    Parameters
    ----------
    streams
        Random numbers.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._generators: dict[str, np.random.PCG64] = {}
        self._places: dict[str, int] = {}

    def of(self, purpose: str, runs: Runs) -> npt.NDArray[np.float64]:
        """The numbers of a purpose for messages, shape (m,)."""
        drawn = [self._bits(purpose, first, count) for first, count in runs]
        if not drawn:
            return np.empty(0)
        return normal(drawn[0] if len(drawn) == 1 else np.concatenate(drawn))

    def _bits(self, purpose: str, first: int, count: int) -> npt.NDArray[np.uint32]:
        """So many of the purpose's halves from this one on."""
        place = first // 2
        words = (first + count + 1) // 2 - place
        self._go_to(purpose, place)
        self._places[purpose] += words
        halves = self._generators[purpose].random_raw(words).astype("<u8", copy=False).view("<u4")
        return np.asarray(halves[first % 2 : first % 2 + count], np.uint32)

    def _go_to(self, purpose: str, place: int) -> None:
        """Set the purpose's generator to a place."""
        if purpose not in self._generators:
            bits = self._streams.generator(purpose).bit_generator
            assert isinstance(bits, np.random.PCG64)  # noqa: S101 - what streams are made of
            self._generators[purpose], self._places[purpose] = bits, 0
        distance = place - self._places[purpose]
        if distance:
            self._generators[purpose].advance(distance % (1 << 128))  # its period, so that it goes back as well
            self._places[purpose] = place


def lognormal(
    mean_ns: npt.NDArray[np.float64], deviation_ns: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean and standard deviation of the logarithm of times with these means and deviations; 0 and 0 for no time."""
    takes_time = mean_ns > 0
    relative = np.divide(deviation_ns, mean_ns, out=np.zeros_like(mean_ns), where=takes_time)
    variance = np.log1p(relative**2)
    return np.log(mean_ns, out=np.zeros_like(mean_ns), where=takes_time) - variance / 2, np.sqrt(variance)


def whole_ns(time_ns: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Times in whole nanoseconds of at least 1."""
    rounded = np.rint(time_ns)
    return np.maximum(rounded, 1, out=rounded).astype(np.int64)
