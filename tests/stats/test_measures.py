"""Windows, percentiles and utilisation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.stats.measures import Window, busy_ns, latency_summary, measurement_window


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


def test_busy_time_is_cut_at_the_window() -> None:
    station = np.array([[0, 1], [0, -1], [1, -1]])
    start = np.array([[0, 10], [10, -1], [-1, -1]])
    depart = np.array([[10, 30], [25, -1], [-1, -1]])
    assert busy_ns(station, start, depart, 3, Window(5, 20)).tolist() == [15, 10, 0]
