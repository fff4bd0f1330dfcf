"""Measures of a simulation, over the time in which it was in full swing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from kubesim.stats.observations import Observations
from kubesim.stats.warmup import Truncation, mser_5

if TYPE_CHECKING:
    import numpy.typing as npt

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p999": 99.9}

NO_LATENCY = dict.fromkeys(("mean", *PERCENTILES), float("nan"))
"""What there is to say of latencies where there are none, or where they have no mean."""


@dataclass(frozen=True, slots=True)
class Window:
    """The time that is measured.

    Parameters
    ----------
    begin_ns, end_ns
        From the first instant behind the warm-up to the last completion.
    skipped
        Completions that are left out as warm-up.
    is_settled
        Whether the warm-up is over then, as far as somebody has looked.
    """

    begin_ns: int
    end_ns: int
    skipped: int = 0
    is_settled: bool = True

    @property
    def length_ns(self) -> int:
        """How long it is; at least 1 ns, so that one may divide by it."""
        return max(1, self.end_ns - self.begin_ns)


def left_out(transactions: int, warmup: float) -> int:
    """How many completions are left out as warm-up, of so many transactions that are asked for."""
    return int(transactions * warmup)


def measurement_window(
    start_ns: npt.NDArray[np.int64],
    end_ns: npt.NDArray[np.int64],
    warmup: float | Literal["mser-5"],
    transactions: int | None = None,
) -> Window:
    """The window that leaves the first transactions out.

    It begins with a completion and ends with one, so that completions over length is the rate, without the bias of a
    network that is full at the beginning and empty at the end.

    Parameters
    ----------
    start_ns, end_ns : array of int64, shape (t,)
        Of each transaction that was started; −1 as the end of one that was not completed.
    warmup
        As many completions are left out, the earliest first, as are this share of all transactions that are asked
        for, or none where fewer are completed; or ``mser-5``, to leave out as many as
        :func:`kubesim.stats.warmup.mser_5` finds in the latencies, in the order of the completions.
    transactions
        How many are asked for; by default, as many as were started.

    Returns
    -------
    Window
        From the last completion that is left out, or from the first start if none is, to the last completion; (0, 0)
        if nothing was completed.
    """
    complete = np.flatnonzero(end_ns >= 0)
    if not len(complete):
        return Window(0, 0)
    order = complete[np.argsort(end_ns[complete], kind="stable")]
    ends = end_ns[order]
    if warmup == "mser-5":
        found = mser_5(ends - start_ns[order])
    else:
        wanted = left_out(len(end_ns) if transactions is None else transactions, warmup)
        found = Truncation(wanted if wanted <= len(ends) else 0, is_settled=True)
    skipped = found.observations
    begin = int(ends[skipped - 1]) if skipped else int(start_ns.min())
    return Window(begin, int(ends[-1]), skipped, found.is_settled)


def latency_summary(latency_ns: npt.NDArray[np.int64] | Observations) -> dict[str, float]:
    """Mean and percentiles of latencies, in nanoseconds.

    A percentile is the smallest latency that so many percent do not exceed (the inverse of the distribution function),
    so it is one that was seen. The mean is exact, since whole numbers are added.

    Parameters
    ----------
    latency_ns : array of int64, shape (t,), or Observations
        Latencies; NaN comes out if there is none.
    """
    seen = latency_ns if isinstance(latency_ns, Observations) else Observations(latency_ns)
    if not len(seen):
        return dict(NO_LATENCY)
    ranks = np.array([rank_of(percent, len(seen)) for percent in PERCENTILES.values()])
    found = seen.at_ranks(ranks).astype(float).tolist()
    return {"mean": seen.mean(), **dict(zip(PERCENTILES, found, strict=True))}


def rank_of(percent: float, count: int) -> int:
    """The rank, from 1, of a percentile of so many observations: exact, to a thousandth of a percent.

    >>> rank_of(99.9, 1000)
    999
    """
    return max(1, -(-round(percent * 1000) * count // 100_000))
