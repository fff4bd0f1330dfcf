"""One place decides what the interval of a measure over replications is."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from kubesim.stats.intervals import mean_interval, percentile_interval
from kubesim.stats.latencies import Latencies, latencies_of
from kubesim.stats.measures import latency_summary
from kubesim.stats.replications import interval_of_rows, replications_interval

SAMPLES = [np.rint(np.random.default_rng(seed).exponential(1e6, 300)).astype(np.int64) for seed in range(6)]
P99 = [latency_summary(sample)["p99"] for sample in SAMPLES]


def pictures() -> list[Latencies]:
    """Of all samples."""
    found = [latencies_of(sample) for sample in SAMPLES]
    return [one for one in found if one is not None]


def test_percentiles_are_of_all_replications_and_other_measures_are_means() -> None:
    of_all = percentile_interval(SAMPLES, 99)
    assert replications_interval("latency_p99_ns", P99, pictures()) == of_all
    assert of_all != mean_interval(P99)
    for measure in ("latency_mean_ns", "first_packet_p99_ns", "throughput_per_s"):
        assert replications_interval(measure, P99, pictures()) == mean_interval(P99)


def test_without_all_latencies_it_is_students() -> None:
    for latencies in ([], [*pictures()[1:], None], pictures()[1:]):
        assert replications_interval("latency_p99_ns", P99, latencies) == mean_interval(P99)


def test_a_replication_without_a_number_makes_the_whole_unknown() -> None:
    found = replications_interval("latency_p99_ns", [*P99[1:], math.nan], [*pictures()[1:], None])
    assert math.isnan(found.estimate)
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_one_replication_has_its_own_percentile_and_no_interval() -> None:
    found = replications_interval("latency_p99_ns", P99[:1], pictures()[:1])
    assert (found.estimate, found.low, found.high) == (P99[0], -math.inf, math.inf)


def test_rows_of_several_combinations_are_averaged_within_replications() -> None:
    latencies = dict(enumerate(pictures()))
    rows = pd.DataFrame(
        {"run": range(6), "proxy": ["a"] * 3 + ["b"] * 3, "replication": [0, 1, 2] * 2, "latency_p99_ns": P99}
    )
    means = np.array(P99).reshape(2, 3).mean(axis=0)
    assert interval_of_rows("latency_p99_ns", rows, latencies) == mean_interval(means)
    assert interval_of_rows("latency_p99_ns", rows[:3], latencies) == percentile_interval(SAMPLES[:3], 99)
    assert interval_of_rows("latency_p99_ns", rows[:3], {}) == mean_interval(P99[:3])
    apart = rows.iloc[[0, 4]]  # of a sweep that was stopped: one replication each, but of two combinations
    assert interval_of_rows("latency_p99_ns", apart, latencies) == mean_interval([P99[0], P99[4]])
