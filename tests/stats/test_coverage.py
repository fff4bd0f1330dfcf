"""How often intervals hold the truth, which theory knows: in 93 to 97 of 100 repetitions, where 95 is promised."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import brentq

from kubesim.stats import theory
from kubesim.stats.intervals import Interval, mean_interval, percentile_interval
from kubesim.stats.measures import latency_summary
from tests.stats.queues import SCALE, closed_loops, mm1, sojourns

REPETITIONS = 1000
REPLICATIONS = 10

Samples = Sequence[npt.NDArray[np.float64]]
"""What was seen in each of the replications of one repetition."""


def coverage(repetitions: Sequence[Samples], interval: Callable[[Samples], Interval], truth: float) -> float:
    """The share of repetitions whose interval holds the truth."""
    found = [interval(samples) for samples in repetitions]
    return float(np.mean([one.low <= truth <= one.high for one in found]))


def of_means(samples: Samples) -> Interval:
    """Student's interval."""
    return mean_interval([sample.mean() for sample in samples])


def of_summaries(name: str) -> Callable[[Samples], Interval]:
    """Student's interval of a percentile as each replication's summary has it."""
    return lambda samples: mean_interval(
        [latency_summary(np.rint(sample * SCALE).astype(np.int64))[name] / SCALE for sample in samples]
    )


def of_all(percent: float) -> Callable[[Samples], Interval]:
    """That of all replications together."""
    return lambda samples: percentile_interval(samples, percent)


def coverages(repetitions: Sequence[Samples], mean: float, percentile: Callable[[float], float]) -> dict[str, float]:
    """How often each kind of interval holds the truth."""
    return {
        "mean": coverage(repetitions, of_means, mean),
        "p50": coverage(repetitions, of_summaries("p50"), percentile(50)),
        "p50 of all": coverage(repetitions, of_all(50), percentile(50)),
        "p99 of all": coverage(repetitions, of_all(99), percentile(99)),
    }


@pytest.mark.slow
def test_mm1() -> None:
    load, packets, warmup = 0.3, 400, 20
    stations = REPETITIONS * REPLICATIONS
    _, trace = mm1(load, stations, warmup + packets, seed=11)
    seen = sojourns(trace, stations)[:, warmup:].reshape(REPETITIONS, REPLICATIONS, packets)
    found = coverages(list(seen), 1 / (1 - load), lambda percent: theory.mm1_sojourn_percentile(load, 1.0, percent))
    assert all(0.93 <= share <= 0.97 for share in found.values()), found
    student = coverage(list(seen), of_summaries("p99"), theory.mm1_sojourn_percentile(load, 1.0, 99))
    assert student < 0.93, "this is why percentiles near the end are taken from all replications together"


@pytest.mark.slow
def test_a_closed_loop() -> None:
    """Three clients, from the 20th unit of time on, until before the first of them has done all its rounds."""
    clients, rounds, think = 3, 70, 2.0
    systems = REPETITIONS * REPLICATIONS
    _, trace = closed_loops(systems, clients, rounds, think, seed=12)
    arrive = trace.arrive_ns[:, 0].reshape(systems, -1) / SCALE
    sojourn = sojourns(trace, systems)
    assert arrive.reshape(-1, rounds)[:, -1].min() > 140
    is_seen = (arrive > 20) & (arrive < 140)
    seen = [row[chosen] for row, chosen in zip(sojourn, is_seen, strict=True)]
    repetitions = [seen[first : first + REPLICATIONS] for first in range(0, systems, REPLICATIONS)]

    def percentile(percent: float) -> float:
        left = 1 - percent / 100
        return float(brentq(lambda time: theory.closed_sojourn_survival(clients, 1 / think, 1.0, time) - left, 0, 99))

    found = coverages(repetitions, theory.closed_sojourn_mean(clients, 1 / think, 1.0), percentile)
    assert all(0.93 <= share <= 0.97 for share in found.values()), found
