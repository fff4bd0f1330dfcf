"""A picture of a run's latencies that is small enough to keep with every run of a sweep.

Percentiles of several replications together need what each of them saw (see
:func:`kubesim.stats.intervals.percentile_interval`), and a sweep has no room for all of it. Kept are order statistics.
Where few of them tell all, because latencies are few or take few values, the picture is exact. Else they are kept at
fixed ranks, the denser the nearer to the highest; what lies between two neighbours is taken to be spread evenly.

The error is one of ranks: the latency at rank r of n is known to lie between those at ranks r − d and r + d, where d is
at most (n − r) / 40, and it is exact at the percentiles of a summary. So the median is at worst the percentile 48.75 or
51.25, and the 99th one 98.975 or 99.025, which takes a distribution that jumps there; where it is smooth, spreading
evenly is far closer. Pictures are never merged but spread out, put together and sorted, so no order matters.

A t-digest depends on the order in which observations come and has no bound for its error; an HDR histogram bounds the
error of values, but puts bounds of its buckets in the place of latencies that were seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kubesim.stats.measures import PERCENTILES, rank_of
from kubesim.stats.observations import Observations

if TYPE_CHECKING:
    import numpy.typing as npt

DENSITY = 40
"""The reciprocal of how far apart ranks are that are kept, as a share of how many are above them."""

MOST_EXACT = 500
"""Of how many order statistics a picture that is exact may be."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """Order statistics of latencies.

    Parameters
    ----------
    ranks
        Rising, from 1, the lowest, to as many as there are latencies.
    values_ns
        The latency at each of these ranks.
    """

    ranks: tuple[int, ...]
    values_ns: tuple[int, ...]

    def spread(self) -> npt.NDArray[np.int64]:
        """All latencies as far as they are known, rising; shape (n,), as many as there were."""
        ranks = np.arange(1, self.ranks[-1] + 1)
        return np.rint(np.interp(ranks, self.ranks, self.values_ns)).astype(np.int64)


def latencies_of(latency_ns: npt.NDArray[np.int64] | Observations) -> Latencies | None:
    """The picture of latencies.

    Parameters
    ----------
    latency_ns : array of int64, shape (n,), or Observations
        In any order.

    Returns
    -------
    Latencies or None
        Of at most 500 order statistics, which is some 8 KB of JSON, for up to 3 million latencies, and 28 more each
        time that these double; None if there is no latency.
    """
    seen = latency_ns if isinstance(latency_ns, Observations) else Observations(latency_ns)
    if not len(seen):
        return None
    # Of the same value, the first and the last tell all.
    last = np.cumsum(seen.counts)
    ranks = np.unique(np.concatenate([last - seen.counts + 1, last]))
    if len(ranks) > MOST_EXACT:
        fixed = _fixed_ranks(len(seen))
        ranks = _telling(fixed, seen.at_ranks(fixed))
    return Latencies(tuple(ranks.tolist()), tuple(seen.at_ranks(ranks).tolist()))


def _telling(ranks: npt.NDArray[np.int64], values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Ranks without those between two of the same value, which go without saying."""
    is_as_before = np.append(False, values[1:] == values[:-1])
    is_as_after = np.append(values[:-1] == values[1:], False)
    return np.asarray(ranks[~(is_as_before & is_as_after)], np.int64)


def _fixed_ranks(count: int) -> npt.NDArray[np.int64]:
    """Which ranks of so many are kept: few at the lower end, all at the upper one, and those of percentiles."""
    found = {1, *(rank_of(percent, count) for percent in PERCENTILES.values())}
    above = 0
    while above < count:
        found.add(count - above)
        above += 1 + above // DENSITY
    return np.array(sorted(found))
