"""More replications until intervals are narrow enough."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.errors import InputError
from kubesim.experiment import load_experiment, sweep
from kubesim.experiment.precision import Precision, replications_wanted, widest
from kubesim.stats.intervals import Interval, mean_interval, percentile_interval
from kubesim.stats.latencies import latencies_of
from kubesim.stats.measures import latency_summary
from tests.experiment.small import SMALL, contents, experiment_file


@given(st.floats(0.001, 0.5), st.floats(1, 1e6), st.floats(0, 1e7), st.integers(2, 200), st.integers(3, 100))
def test_there_are_more_until_it_is_enough(
    within: float, estimate: float, half: float, count: int, at_most: int
) -> None:
    interval = Interval(estimate, estimate - half, estimate + half, count)
    wanted = replications_wanted(interval, Precision(within=within, replications_at_most=at_most))
    if interval.relative_half_width <= within or count >= at_most:
        assert wanted == count
    else:
        assert count < wanted <= max(at_most, 3 * count)
        assert wanted <= at_most


def test_the_worst_measure_counts_and_those_that_are_not_there_do_not() -> None:
    found = widest([{"a": 1.0, "b": 10.0, "c": math.nan}, {"a": 1.1, "b": 20.0, "c": 1.0}], ["a", "b", "c", "d"])
    assert found is not None
    assert found == ("b", mean_interval([10.0, 20.0]))
    assert widest([{"a": math.nan}], ["a"]) is None


def test_percentiles_are_as_precise_as_all_replications_together_make_them() -> None:
    random = np.random.default_rng(2)
    samples = [np.rint(random.exponential(1e6, 200)).astype(np.int64) for _ in range(5)]
    summaries = [{"latency_p90_ns": latency_summary(sample)["p90"]} for sample in samples]
    found = widest(summaries, ["latency_p90_ns"], [latencies_of(sample) for sample in samples])
    assert found == ("latency_p90_ns", percentile_interval(samples, 90))


def test_a_sweep_is_run_until_it_is_precise_and_says_where_it_is_not(tmp_path: Path) -> None:
    text = SMALL + "precision: {within: 4 %, of: [latency_p50_ns], replications_at_most: 6}\n"
    for workers in (1, 2):
        experiment, combinations = load_experiment(experiment_file(tmp_path, text))
        out = tmp_path / f"with-{workers}"
        outcome = sweep(experiment, combinations, out, workers)
        runs, estimates = (pd.read_parquet(out / f"{name}.parquet") for name in ("runs", "estimates"))
        counts = runs.groupby(["proxy", "cluster.services"], sort=False).size()
        assert 3 <= counts.min() <= counts.max() <= 6
        missed = 0
        for levels, group in runs.groupby(["proxy", "cluster.services"]):
            asked = estimates[(estimates[["proxy", "cluster.services"]] == list(levels)).all(axis=1)]
            (row,) = asked[asked["measure"] == "latency_p50_ns"].to_dict("records")
            width = (row["high"] - row["low"]) / 2 / row["estimate"]
            missed += width > 0.04
            assert width <= 0.04 or len(group) == 6, levels
        assert len(outcome.shortfalls) == missed
        assert outcome.shortfalls == tuple(json.loads((out / "manifest.json").read_text())["notices"])
    assert contents(tmp_path / "with-1") == contents(tmp_path / "with-2")


def test_what_cannot_be_precise_is_said(tmp_path: Path) -> None:
    text = SMALL.replace("cluster.services: [1, 20]", "cluster.services: [1]").replace("[iptables, ", "[")
    text += "precision: {within: 0.01 %, of: [latency_p50_ns], replications_at_most: 4}\n"
    experiment, combinations = load_experiment(experiment_file(tmp_path, text))
    outcome = sweep(experiment, combinations, tmp_path / "out", workers=1)
    (said,) = outcome.shortfalls
    assert "latency_p50_ns is known within" in said
    assert "after 4 replications, not within 0.01%" in said


def test_a_precision_of_what_is_not_measured(tmp_path: Path) -> None:
    text = SMALL + "precision: {within: 2 %, of: [latncy_p50_ns]}\n"
    with pytest.raises(
        InputError, match=r"precision\.of: 'latncy_p50_ns' is no measure: did you mean 'latency_p50_ns'"
    ):
        load_experiment(experiment_file(tmp_path, text))
    experiment, _ = load_experiment(experiment_file(tmp_path, SMALL + "precision: {within: 2 %, of: [p50]}\n"))
    assert experiment.precise_measures() == ["latency_p50_ns"]


@pytest.mark.parametrize("written", ["2", "0", "-1 %", "two %", "{within: 200 %}", "{replications_at_most: 5}", "true"])
def test_precisions_that_make_no_sense(written: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="precision"):
        load_experiment(experiment_file(tmp_path, SMALL + f"precision: {written}\n"))


def test_a_precision_is_written_as_people_do(tmp_path: Path) -> None:
    for written in ("2 %", "2%", "0.02", "{within: 2 %}"):
        experiment, _ = load_experiment(experiment_file(tmp_path, SMALL + f"precision: {written}\n"))
        assert experiment.precision == Precision(within=0.02)
        assert experiment.precise_measures() == ["latency_mean_ns"]
