"""MSER-5: against its formula written out, and against series whose warm-up is known."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kubesim.stats.measures import measurement_window
from kubesim.stats.warmup import Truncation, mser_5

SERIES = arrays.arrays(np.int64, st.integers(50, 200), elements=st.integers(0, 1000))


def by_definition(series: npt.NDArray[np.int64]) -> tuple[int, bool]:
    """Every number of batches left out, one after the other."""
    count = len(series) // 5
    means = [float(series[5 * one : 5 * one + 5].mean()) for one in range(count)]
    errors = [
        sum((value - np.mean(means[left_out:])) ** 2 for value in means[left_out:]) / (count - left_out) ** 2
        for left_out in range(count - 4)
    ]
    best = min(range(count // 2 + 1), key=errors.__getitem__)
    return best * 5, bool(errors[best] <= min(errors))


@given(SERIES)
def test_it_is_the_formula(series: npt.NDArray[np.int64]) -> None:
    series[-5:] = np.arange(5) * 97 + series[-5:]  # a constant end has errors of rounding in the plain formula
    found = mser_5(series)
    observations, is_settled = by_definition(series)
    if found.observations != observations:  # two that are alike but for rounding
        left = [series[one : len(series) // 5 * 5].reshape(-1, 5).mean(axis=1) for one in (found[0], observations)]
        assert np.isclose(*(part.var() / len(part) for part in left))
    else:
        assert found.is_settled == is_settled


@given(SERIES, st.integers(1, 1000), st.integers(-10_000, 10_000))
def test_units_do_not_matter(series: npt.NDArray[np.int64], scale: int, shift: int) -> None:
    assert mser_5(series * 2**20) == mser_5(series)
    steady = np.full(200, shift * scale)
    assert mser_5(steady) == Truncation(0, is_settled=True)


@given(st.integers(1, 19), st.integers(1, 10**9), st.integers(-(10**9), 10**9))
def test_a_step_is_found(batches: int, step: int, level: int) -> None:
    series = np.full(200, level)
    series[: 5 * batches] += step
    assert mser_5(series) == Truncation(5 * batches, is_settled=True)


def test_a_decaying_start_is_left_out_and_little_else() -> None:
    random = np.random.default_rng(1)
    series = 100 + 100 * np.exp(-np.arange(5000) / 200) + random.normal(0, 10, 5000)
    found = mser_5(series)
    assert found.is_settled
    assert 500 <= found.observations <= 1500, "e-folding 200, and 1 % of it is lost in the noise at 920"


@pytest.mark.parametrize("series", [np.arange(1000), np.repeat([5, 1], [600, 400]), np.arange(49)])
def test_a_warm_up_that_does_not_end_is_said(series: npt.NDArray[np.int64]) -> None:
    found = mser_5(series)
    assert not found.is_settled
    assert found.observations <= len(series) // 2


def test_the_window_begins_behind_it() -> None:
    start = np.append(np.arange(100) * 10, 5)
    end = np.append(np.arange(100) * 10 + np.repeat([9, 5], [20, 80]), -1)
    window = measurement_window(start, end, "mser-5")
    assert (window.begin_ns, window.end_ns, window.skipped, window.is_settled) == (199, 995, 20, True)


@given(arrays.arrays(np.int64, st.integers(1, 60), elements=st.integers(-1, 1000)))
def test_what_is_left_out_is_counted(end: npt.NDArray[np.int64]) -> None:
    """Completions at the window's first instant count as left out, whether or not the share says so."""
    window = measurement_window(np.zeros(len(end), np.int64), end, 0.3)
    asked, completed = int(0.3 * len(end)), int((end >= 0).sum())
    assert window.skipped == (asked if asked <= completed else 0), "a share of what is asked for, if there is so much"
    if window.skipped:
        assert (end[end >= 0] <= window.begin_ns).sum() >= window.skipped
