"""Intervals across replications, held against SciPy's and against cases that can be worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kubesim.stats.intervals import (
    difference_interval,
    independent_ratio_interval,
    mean_interval,
    percentile_interval,
    ratio_interval,
    slope_interval,
)

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 3))
SAMPLES = st.lists(NUMBERS, min_size=2, max_size=30)


@given(SAMPLES)
def test_the_interval_of_a_mean_is_students(values: list[float]) -> None:
    interval = mean_interval(values)
    low, high = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values) or 1e-300)
    assert interval.replications == len(values)
    assert math.isclose(interval.low, low, rel_tol=1e-9, abs_tol=1e-6)
    assert math.isclose(interval.high, high, rel_tol=1e-9, abs_tol=1e-6)


@given(SAMPLES, NUMBERS)
def test_what_is_common_to_both_sides_drops_out(values: list[float], shift: float) -> None:
    interval = difference_interval(np.array(values) + shift, values)
    assert math.isclose(interval.estimate, shift, abs_tol=1e-6)
    assert interval.half_width < 1e-6


@given(st.lists(st.floats(1, 1e6), min_size=2, max_size=20), st.floats(0.01, 100))
def test_a_constant_ratio_has_no_width(values: list[float], ratio: float) -> None:
    interval = ratio_interval(np.array(values) * ratio, values)
    assert math.isclose(interval.estimate, ratio, rel_tol=1e-9)
    assert interval.relative_half_width < 1e-6


@given(st.lists(NUMBERS, min_size=2, max_size=10, unique=True), st.floats(-100, 100), SAMPLES)
def test_the_slope_of_lines_is_theirs(x: list[float], slope: float, offsets: list[float]) -> None:
    values = slope * np.array(x)[None, :] + np.array(offsets)[:, None]
    interval = slope_interval(x, values)
    tolerance = 1e-6 * (1 + np.abs(values).max()) / np.ptp(x)
    assert math.isclose(interval.estimate, slope, abs_tol=tolerance)


@pytest.mark.parametrize("values", [[], [5.0], [1.0, math.nan], [math.inf, 1.0]])
def test_too_little_to_tell(values: list[float]) -> None:
    interval = mean_interval(values)
    assert interval.low == -math.inf
    assert interval.high == math.inf


def test_a_ratio_to_nothing_is_unknown() -> None:
    interval = ratio_interval([1, 2], [0, 0])
    assert math.isnan(interval.estimate)
    assert interval.high == math.inf


@given(SAMPLES, st.floats(1e6, 1e9))
def test_over_something_that_does_not_vary_an_independent_ratio_is_a_mean(values: list[float], constant: float) -> None:
    interval, mean = independent_ratio_interval(values, [constant] * 2), mean_interval(values)
    for end in ("estimate", "low", "high"):
        assert math.isclose(getattr(interval, end) * constant, getattr(mean, end), rel_tol=1e-6, abs_tol=1e-3)


def test_independent_ratios_are_covered_as_often_as_said() -> None:
    random = np.random.default_rng(5)
    above, below = random.normal(30, 3, (2000, 6)), random.normal(20, 1, (2000, 4))
    intervals = [independent_ratio_interval(*pair) for pair in zip(above, below, strict=True)]
    covered = np.mean([one.low <= 1.5 <= one.high for one in intervals])
    assert 0.93 <= covered <= 0.97  # four standard errors of 95 % in 2000 trials


@pytest.mark.parametrize(
    ("first", "second"), [([1.0], [1.0, 2.0]), ([], []), ([1.0, 2.0], [0.0, 0.0]), ([math.nan] * 2, [1.0] * 2)]
)
def test_independent_ratios_of_too_little(first: list[float], second: list[float]) -> None:
    interval = independent_ratio_interval(first, second)
    assert (interval.low, interval.high) == (-math.inf, math.inf)


@given(st.lists(st.lists(NUMBERS, min_size=1, max_size=40), min_size=2, max_size=8), st.sampled_from([1, 25, 50, 99]))
def test_a_percentile_was_seen_and_is_within_its_interval(samples: list[list[float]], percent: float) -> None:
    interval = percentile_interval([np.array(sample) for sample in samples], percent)
    pooled = [value for sample in samples for value in sample]
    assert interval.estimate in pooled
    assert interval.low <= interval.estimate <= interval.high
    assert sum(value <= interval.estimate for value in pooled) * 100 >= percent * len(pooled)
    assert {interval.low, interval.high} <= {*pooled, -math.inf, math.inf}


@given(st.lists(NUMBERS, min_size=10, max_size=200), st.integers(2, 8))
def test_replications_that_agree_leave_no_doubt(values: list[float], replications: int) -> None:
    interval = percentile_interval([np.array(values)] * replications, 50)
    ordered = sorted(values)
    place = math.ceil(len(values) / 2) - 1
    assert interval.estimate == ordered[place]
    assert ordered[max(0, place - 1)] <= interval.low
    assert interval.high <= ordered[min(len(values) - 1, place + 1)]


@pytest.mark.parametrize("samples", [[], [[]], [[1.0, 2.0]], [[1.0], [math.nan]], [[1.0, 2.0], [3.0, 4.0]]])
def test_too_little_to_tell_a_percentile(samples: list[list[float]]) -> None:
    interval = percentile_interval([np.array(sample) for sample in samples], 99)
    assert interval.high == math.inf
    assert interval.replications == len(samples)
