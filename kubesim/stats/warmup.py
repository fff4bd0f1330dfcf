"""How much of the beginning of a run to leave out: MSER-5.

A simulation starts empty, which is no state that it would often be in. MSER (K. P. White, An effective truncation
heuristic for bias reduction in simulation output, Simulation 69 (1997) 323–334) leaves out so many observations that
the mean of the others is known best: the standard error of what is left, taken as if it were independent, is smallest.
To leave one out makes the sum of squares smaller if it was far off, and the divisor in any case. MSER-5 (K. P. White,
M. J. Cobb and S. C. Spratt, A comparison of five steady-state truncation heuristics for simulation, Proc. Winter
Simulation Conf. 2000, 755–760) does so with means of five.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

BATCH = 5
"""Observations whose mean is taken, as the name says."""

_LEAST_LEFT = 5
"""Batches that are always kept: of fewer, some are alike by chance, and seem to be known exactly (K. Hoad, S. Robinson
and R. Davies, Automating warm-up length estimation, J. Oper. Res. Soc. 61 (2010) 1389–1403)."""


class Truncation(NamedTuple):
    """Where the warm-up ends.

    Parameters
    ----------
    observations
        How many to leave out: a multiple of five, at most half of all.
    is_settled
        Whether the warm-up ends in the first half of the data; if not, there is too little of it to tell.
    """

    observations: int
    is_settled: bool


def mser_5(series: npt.ArrayLike) -> Truncation:
    """Find the end of the warm-up by MSER-5.

    With means ``z`` of five observations each, ``m`` of them, it is the number ``d`` of means to leave out that
    minimises ``sum((z[d:] - mean(z[d:]))**2) / (m - d)**2``; the least of several that do.

    Parameters
    ----------
    series : array of float, shape (n,)
        Observations in the order of their time; up to four at the end, which fill no batch, are not looked at.

    Returns
    -------
    Truncation
        The best within the first half, since what few means are left say little about themselves; it is said if one
        in the second half would be better still.
    """
    values = np.asarray(series, float)
    batches = values[: len(values) // BATCH * BATCH].reshape(-1, BATCH).mean(axis=1)
    if len(batches) < 2 * _LEAST_LEFT:
        return Truncation(0, is_settled=False)
    errors = _squared_errors(batches)
    half = len(batches) // 2
    best = int(np.argmin(errors[: half + 1]))
    return Truncation(best * BATCH, is_settled=bool(errors[best] <= errors[half + 1 :].min(initial=np.inf)))


def _squared_errors(batches: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """MSER's statistic for each number of means left out, as long as enough are kept.

    Sums are taken from the end, of differences from the last mean: a constant end has no error at all, not by rounding.
    """
    differences = (batches - batches[-1])[::-1]
    kept = np.arange(1, len(batches) + 1)
    squares = np.cumsum(differences**2) - np.cumsum(differences) ** 2 / kept
    return np.asarray((np.maximum(squares, 0) / kept.astype(float) ** 2)[::-1][: len(batches) - _LEAST_LEFT + 1])
