"""Random times: distributed as they should be, tails included."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.special import ndtr, ndtri

from kubesim.scenario.service_times import INTERVALS, LANES, Lanes, lognormal, table_ns, whole_ns
from kubesim.streams import numbered

COUNT = 1_000_000
BITS = numbered(np.uint64(20_261_127), np.arange(COUNT))


@pytest.mark.parametrize("lane", range(LANES))
def test_numbers_are_normal(lane: int) -> None:
    values = Lanes(BITS).numbers(lane).values()
    assert abs(values.mean()) < 5 / np.sqrt(COUNT)
    assert abs(values.var() - 1) < 5 * np.sqrt(2 / COUNT)
    assert stats.kstest(values, "norm").pvalue > 1e-4
    expected = 2 * COUNT * stats.norm.sf(4)
    assert abs(np.count_nonzero(np.abs(values) > 4) - expected) < 5 * np.sqrt(expected), "no tail is cut off"
    outer = values[np.abs(values) > 3.2]
    assert len(np.unique(outer)) == len(outer), "where they are few, they are not rounded"


def test_lanes_have_nothing_to_do_with_each_other() -> None:
    lanes = np.array([Lanes(BITS).numbers(lane).values() for lane in range(LANES)])
    apart = np.corrcoef(lanes) - np.eye(LANES)
    assert np.abs(apart).max() < 5 / np.sqrt(COUNT)
    follows = [np.corrcoef(one[:-1], one[1:])[0, 1] for one in lanes]
    assert np.abs(follows).max() < 5 / np.sqrt(COUNT)


def test_tails_of_lanes_do_not_share_their_bits() -> None:
    """Where all lanes of a message are in the same outer interval, they are at different places in it."""
    bits = (np.arange(1, 101, dtype=np.uint64) << np.uint64(2)) % np.uint64(16 << 2)
    same = sum(bits << np.uint64(16 * lane) for lane in range(LANES))
    lanes = Lanes(np.asarray(same, np.uint64))
    values = np.array([lanes.numbers(lane).values() for lane in range(LANES)])
    assert all(len(set(column)) == LANES for column in values.T.tolist())


def test_the_middle_of_an_interval_stands_for_it() -> None:
    """As near as the docstring says."""
    edges = ndtri(np.arange(INTERVALS + 1) / INTERVALS)
    middles = ndtri((np.arange(INTERVALS) + 0.5) / INTERVALS)
    off = np.maximum(edges[1:] - middles, middles - edges[:-1])
    assert off[np.abs(middles) < 1].max() <= 0.00013
    assert off[np.abs(middles) < 3].max() <= 0.01
    bits = np.arange(INTERVALS, dtype=np.uint64) << np.uint64(2)
    inner = np.abs(middles) < 3.1
    np.testing.assert_array_equal(Lanes(bits).numbers(0).values()[inner], middles[inner])


def test_times_have_the_mean_and_the_deviation_that_are_asked_for() -> None:
    mean_ns, deviation_ns = np.array([1000.0, 500.0, 20.0, 0.0]), np.array([300.0, 1000.0, 0.0, 0.0])
    log_mean, log_deviation = lognormal(mean_ns, deviation_ns)
    values = Lanes(BITS).numbers(0).values()
    for row in range(2):
        times = np.exp(values * log_deviation[row] + log_mean[row])
        assert times.mean() == pytest.approx(mean_ns[row], rel=0.01)
        assert times.std() == pytest.approx(deviation_ns[row], rel=0.05)
    assert log_deviation[2:].tolist() == [0, 0]
    assert np.exp(log_mean[2]) == pytest.approx(20)


@pytest.mark.parametrize("relative", [0.1, 0.3, 1.0, 2.0])
def test_intervals_keep_the_mean(relative: float) -> None:
    """With what the outer intervals come to by the function itself, from the partial mean of the distribution."""
    (log_mean,), (deviation,) = lognormal(np.array([1.0]), np.array([relative]))
    edges = ndtri(np.arange(INTERVALS + 1) / INTERVALS)
    exact = np.diff(ndtr(edges - deviation))
    middles = np.exp(ndtri((np.arange(INTERVALS) + 0.5) / INTERVALS) * deviation + log_mean) / INTERVALS
    is_outer = np.abs(np.arange(INTERVALS) - (INTERVALS - 1) / 2) > INTERVALS / 2 - 16
    assert np.where(is_outer, exact, middles).sum() == pytest.approx(1, abs=1e-5)


def test_a_table_holds_the_times_of_the_middles() -> None:
    log_mean, log_deviation = lognormal(np.array([1000.0, 3.0]), np.array([300.0, 5.0]))
    middles = ndtri((np.arange(INTERVALS) + 0.5) / INTERVALS)
    for row, times in enumerate(table_ns(log_mean, log_deviation)):
        np.testing.assert_array_equal(times, whole_ns(np.exp(middles * log_deviation[row] + log_mean[row])))
        assert times.min() >= 1
