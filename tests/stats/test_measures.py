"""Windows, percentiles and utilisation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.stats.measures import Window, latency_summary, measurement_window, rank_of


def test_a_window_begins_and_ends_with_a_completion() -> None:
    start, end = np.arange(10) * 10, np.arange(10) * 10 + 25
    window = measurement_window(start, end, 0.2)
    assert (window.begin_ns, window.end_ns) == (35, 115)
    completions = (end > window.begin_ns).sum()
    assert completions / window.length_ns == 1 / 10, "the rate is exact"


def test_without_warm_up_the_window_begins_with_the_first_start() -> None:
    assert measurement_window(np.array([5, 7]), np.array([9, -1]), 0.0) == Window(5, 9)


def test_nothing_completed() -> None:
    assert measurement_window(np.array([5, 7]), np.array([-1, -1]), 0.1) == Window(0, 0)
    assert measurement_window(np.array([], np.int64), np.array([], np.int64), 0.1) == Window(0, 0)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=200))
def test_percentiles_were_seen_and_are_ordered(latencies: list[int]) -> None:
    found = latency_summary(np.array(latencies))
    assert found["mean"] == pytest.approx(sum(latencies) / len(latencies))
    values = [found[name] for name in ("p50", "p90", "p99", "p999")]
    assert values == sorted(values)
    assert all(value in latencies for value in values)
    for name, percent in (("p50", 50.0), ("p99", 99.0)):
        at_most = sum(latency <= found[name] for latency in latencies)
        assert at_most * 100 >= percent * len(latencies)


def test_no_latencies_are_not_a_number() -> None:
    assert all(math.isnan(value) for value in latency_summary(np.array([], np.int64)).values())


def test_none_is_left_out_where_fewer_are_completed() -> None:
    start, end = np.arange(10), np.where(np.arange(10) < 2, np.arange(10) + 20, -1)
    assert measurement_window(start, end, 0.5) == Window(0, 21)
    assert measurement_window(start, end, 0.1) == Window(20, 21, skipped=1)
    assert measurement_window(start, end, 0.05, transactions=20) == Window(20, 21, skipped=1)


@pytest.mark.parametrize(("percent", "count", "rank"), [(50, 1, 1), (50, 4, 2), (99.9, 1000, 999), (99.9, 1001, 1000)])
def test_ranks_are_exact(percent: float, count: int, rank: int) -> None:
    assert rank_of(percent, count) == rank
