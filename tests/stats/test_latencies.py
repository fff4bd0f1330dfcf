"""Pictures of latencies: exact where they can be, and never further off than they say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesim.errors import InputError
from kubesim.stats.intervals import percentile_interval
from kubesim.stats.latencies import DENSITY, MOST_EXACT, Latencies, _fixed_ranks, latencies_of
from kubesim.stats.latency_table import latency_table, read_latencies
from kubesim.stats.measures import PERCENTILES, latency_summary
from kubesim.tables import write_table

PERCENTS = sorted(PERCENTILES.values())


@st.composite
def many_latencies(draw: st.DrawFn) -> npt.NDArray[np.int64]:
    """More than are kept: smooth, of few values, or with gaps in which there is nothing."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, 4000))
    scale = draw(st.sampled_from([1.0, 30.0, 1e4, 1e9]))
    values = random.exponential(scale, count) + 1e10 * (random.random(count) < draw(st.floats(0, 1)))
    return np.rint(values).astype(np.int64)


def seen(latency_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """What a picture shows of latencies."""
    kept = latencies_of(latency_ns)
    assert kept is not None
    return kept.spread()


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=MOST_EXACT))
def test_few_latencies_are_kept_as_they_are(latencies: list[int]) -> None:
    assert seen(np.array(latencies)).tolist() == sorted(latencies)


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=MOST_EXACT // 2), st.integers(1, 5000))
def test_few_values_are_kept_as_they_are_however_many_latencies_there_are(values: list[int], count: int) -> None:
    latencies = np.resize(np.array(values), count)
    assert (seen(latencies) == np.sort(latencies)).all()


@given(many_latencies())
def test_ranks_are_off_by_less_than_a_share_of_those_above(latencies: npt.NDArray[np.int64]) -> None:
    ordered, found = np.sort(latencies), seen(latencies)
    assert len(found) == len(ordered)
    rank = np.arange(len(ordered))
    off = (len(ordered) - 1 - rank) // DENSITY
    assert (ordered[np.maximum(rank - off, 0)] <= found).all()
    assert (found <= ordered[np.minimum(rank + off, len(ordered) - 1)]).all()


@given(many_latencies())
def test_percentiles_of_one_run_are_those_of_its_summary(latencies: npt.NDArray[np.int64]) -> None:
    expected, found = latency_summary(latencies), latency_summary(seen(latencies))
    assert {name: found[name] for name in PERCENTILES} == {name: expected[name] for name in PERCENTILES}


@settings(max_examples=40)
@given(st.lists(many_latencies(), min_size=1, max_size=5), st.sampled_from(PERCENTS))
def test_percentiles_of_several_are_off_by_no_more_than_is_said(
    samples: list[npt.NDArray[np.int64]], percent: float
) -> None:
    pooled = np.sort(np.concatenate(samples))
    count = len(pooled)
    place = math.ceil(percent / 100 * count)
    off = math.ceil((count - place + 1) / DENSITY)
    found = percentile_interval([seen(sample) for sample in samples], percent).estimate
    assert pooled[max(0, place - 1 - off)] <= found <= pooled[min(count - 1, place - 1 + off)]


@settings(max_examples=20)
@given(st.lists(many_latencies(), min_size=2, max_size=5), st.randoms())
def test_no_order_matters(samples: list[npt.NDArray[np.int64]], random: Any) -> None:
    pictures = [latencies_of(sample) for sample in samples]
    assert pictures == [latencies_of(sample[::-1]) for sample in samples]
    shown = [seen(sample) for sample in samples]
    first = percentile_interval(shown, 99)
    random.shuffle(shown)
    again = percentile_interval(shown, 99)
    assert (again.estimate, again.low, again.high) == pytest.approx((first.estimate, first.low, first.high), rel=1e-12)


def test_where_a_distribution_is_smooth_intervals_are_as_of_all_latencies() -> None:
    random = np.random.default_rng(1)
    samples = [np.rint(random.lognormal(12, 1, 20_000)).astype(np.int64) for _ in range(10)]
    for percent in PERCENTS:
        whole = percentile_interval(samples, percent)
        found = percentile_interval([seen(sample) for sample in samples], percent)
        for end in ("estimate", "low", "high"):
            assert abs(getattr(found, end) - getattr(whole, end)) < 0.15 * whole.half_width, (percent, end)


def test_a_picture_is_small() -> None:
    for count in (MOST_EXACT + 1, 10**5, 3 * 10**6):
        ranks = _fixed_ranks(count)
        assert len(ranks) <= MOST_EXACT
        assert (ranks[0], ranks[-1]) == (1, count)


def test_of_no_latency_there_is_no_picture() -> None:
    assert latencies_of(np.array([], np.int64)) is None


@given(st.dictionaries(st.integers(0, 50), many_latencies(), max_size=4))
@settings(max_examples=10)
def test_a_table_holds_pictures_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, found: dict[int, npt.NDArray[np.int64]]
) -> None:
    directory = tmp_path_factory.mktemp("table")
    kept = {number: latencies_of(one) for number, one in found.items()}
    pictures = {number: one for number, one in kept.items() if one is not None}
    write_table(directory / "latencies", latency_table(pictures), {})
    assert read_latencies(directory) == pictures


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({3: Latencies((1, 3, 2), (5, 6, 7))}, "ranks and latencies of run 3 do not rise"),
        ({3: Latencies((1, 2), (7, 6))}, "ranks and latencies of run 3 do not rise"),
        ({3: Latencies((2, 3), (5, 6))}, "ranks and latencies of run 3 do not rise"),
    ],
)
def test_a_table_that_is_damaged(kept: dict[int, Latencies], message: str, tmp_path: Path) -> None:
    assert read_latencies(tmp_path) == {}
    write_table(tmp_path / "latencies", latency_table(kept), {})
    with pytest.raises(InputError, match=message):
        read_latencies(tmp_path)
    write_table(tmp_path / "latencies", latency_table(kept).astype({"rank": float}), {})
    with pytest.raises(InputError, match="its columns are not run, rank, latency_ns"):
        read_latencies(tmp_path)
    (tmp_path / "latencies.parquet").write_text("x")
    with pytest.raises(InputError, match=r"latencies\.parquet is damaged"):
        read_latencies(tmp_path)
