"""Random times: whole nanoseconds, distributed as their logarithms are, of random bits that belong to a message."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kubesim.streams import hashed

if TYPE_CHECKING:
    import numpy.typing as npt

LANES = 4
"""So many random numbers come from 64 bits."""

_LANE_BITS = 64 // LANES
_INTERVAL_BITS = 14
INTERVALS = 1 << _INTERVAL_BITS
_OUTER = 16
"""So many at either end are not tabled."""


@cache
def _quantiles() -> npt.NDArray[np.float64]:
    """The normal distribution's quantiles in the middle of so many intervals that are equally probable."""
    return _inverse((np.arange(INTERVALS) + 0.5) / INTERVALS)


def _inverse(probability: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The inverse of the normal distribution function."""
    from scipy.special import ndtri  # noqa: PLC0415 - SciPy takes a third of a second to import, and help needs none

    return np.asarray(ndtri(probability), np.float64)


class Normals(NamedTuple):
    """Standard normal numbers by the inverse of the distribution function, whose values are tabled.

    All numbers of an interval are taken for the one in its middle. That is at most 0.00013 away from them within one
    standard deviation, and 0.01 within three. Beyond 3.1 of them, in the outer intervals, it is the function itself,
    so that no tail is cut off. Means of times whose deviation is up to twice their mean are right to 1e-5.

    Parameters
    ----------
    interval : array of int64, shape (m,)
        Which of the intervals, all equally probable, each number is in.
    outer : array of int64, shape (o,)
        Which of the numbers are in the outer ones.
    outer_values : array of float, shape (o,)
        These.
    """

    interval: npt.NDArray[np.int64]
    outer: npt.NDArray[np.int64]
    outer_values: npt.NDArray[np.float64]

    def values(self) -> npt.NDArray[np.float64]:
        """The numbers, shape (m,)."""
        values = _quantiles().take(self.interval)
        values[self.outer] = self.outer_values
        return values


class Lanes:
    """Normal numbers by 64 random bits each, :data:`LANES` of them, which have nothing to do with each other.

    Parameters
    ----------
    bits : array of uint64, shape (m,)
        One for each message.
    """

    def __init__(self, bits: npt.NDArray[np.uint64]) -> None:
        self._intervals = bits.astype("<u8", copy=False).view("<u2") >> np.uint16(_LANE_BITS - _INTERVAL_BITS)
        # Unsigned, the first intervals come to numbers above all others.
        outer = np.flatnonzero(self._intervals - np.uint16(_OUTER) >= INTERVALS - 2 * _OUTER)
        self._outer, self._outer_lane = np.divmod(outer, LANES)
        # Where they are in their intervals takes bits of its own, 53 of them: from 0.5 on, so that it is never 0 or 1.
        more_bits = hashed(bits.take(self._outer) + self._outer_lane.astype(np.uint64))
        within = ((more_bits >> np.uint64(11)) + 0.5) * 2.0**-53
        self._outer_values = _inverse((self._intervals.take(outer) + within) / INTERVALS)

    def numbers(self, lane: int) -> Normals:
        """Those of a lane, shape (m,)."""
        here = self._outer_lane == lane
        return Normals(self._intervals[lane::LANES].astype(np.int64), self._outer[here], self._outer_values[here])


def table_ns(log_mean: npt.NDArray[np.float64], log_deviation: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Times of each interval, shape (t, INTERVALS), of times with these logarithms."""
    log_ns = _quantiles() * log_deviation[:, None]
    log_ns += log_mean[:, None]
    return whole_ns(np.exp(log_ns, out=log_ns))


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
