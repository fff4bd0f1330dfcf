"""A sweep held against an earlier one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from kubesim.errors import InputError
from kubesim.experiment import Verdict, check
from tests.experiment.frames import table_of_runs

if TYPE_CHECKING:
    from pathlib import Path

    from kubesim.experiment.verdicts import Outcome

FACTORS: dict[str, list[Any]] = {"proxy": ["iptables", "nftables"], "cluster.services": [10, 1000]}


def noisy(proxy: str, services: int, replication: int) -> float:
    """A measure that replications scatter by a third."""
    return float(1000 + services + 400 * replication + (proxy == "iptables"))


def held(new: pd.DataFrame, old: pd.DataFrame, tmp_path: Path, written: str = "within 5 %") -> Outcome:
    """What becomes of a regression check."""
    old.to_parquet(tmp_path / "old.parquet")
    report = check(new, expect=[f"regression: old.parquet {written} of p50"], relative_to=tmp_path)
    return report.outcomes[0]


def test_the_same_again_has_no_regression(tmp_path: Path) -> None:
    frame = table_of_runs(FACTORS, noisy)
    found = held(frame, frame, tmp_path, "within 0 %")
    assert found.verdict is Verdict.HOLDS
    assert found.combinations == 4
    assert "paired by replication" in found.message
    assert found.estimate_text == "+0.00%"


@pytest.mark.parametrize(("factor", "word"), [(1.1, "worse"), (0.9, "better")])
def test_better_and_worse_count_and_are_told_apart(factor: float, word: str, tmp_path: Path) -> None:
    old = table_of_runs(FACTORS, noisy)
    new = old.copy()
    new.loc[new["cluster.services"] == 1000, "latency_p50_ns"] *= factor
    found = held(new, old, tmp_path)
    assert found.verdict is Verdict.FAILS
    assert "2 of 4 combinations" in found.message
    assert f"({word})" in found.message
    assert "latency_p50_ns, proxy = iptables, cluster.services = 1000" in found.message
    assert found.worst is not None
    assert found.worst.interval.estimate == pytest.approx(factor)
    assert found.worst.interval.half_width < 1e-9, "pairing takes the noise out"
    up = new.rename(columns={"latency_p50_ns": "throughput_per_s"})
    old.rename(columns={"latency_p50_ns": "throughput_per_s"}).to_parquet(tmp_path / "up.parquet")
    report = check(up, expect=["regression: up.parquet within 5 % of throughput"], relative_to=tmp_path)
    assert f"({'better' if word == 'worse' else 'worse'})" in report.outcomes[0].message


def test_other_seeds_are_not_paired(tmp_path: Path) -> None:
    old = table_of_runs(FACTORS, noisy, seed=2)
    found = held(table_of_runs(FACTORS, noisy), old, tmp_path)
    assert found.verdict is Verdict.CANNOT_TELL
    assert "4 of 4 combinations not paired" in found.message


def test_more_replications_than_before_are_paired_as_far_as_they_go(tmp_path: Path) -> None:
    found = held(table_of_runs(FACTORS, noisy, replications=5), table_of_runs(FACTORS, noisy), tmp_path)
    assert found.verdict is Verdict.HOLDS
    assert found.worst is not None
    assert found.worst.interval.replications == 3


def test_combinations_of_one_sweep_only_are_named(tmp_path: Path) -> None:
    old = table_of_runs({**FACTORS, "cluster.services": [10, 50]}, noisy)
    found = held(table_of_runs(FACTORS, noisy), old, tmp_path)
    assert found.verdict is Verdict.HOLDS
    assert found.combinations == 2
    assert "only in these results: proxy = iptables; cluster.services = 1000 |" in found.message
    assert "only in the baseline: proxy = iptables; cluster.services = 50 |" in found.message


def test_what_was_nothing_and_what_is_not_there(tmp_path: Path) -> None:
    nothing = table_of_runs(FACTORS, lambda *_: 0.0)
    assert held(nothing, nothing, tmp_path).verdict is Verdict.HOLDS
    something = table_of_runs(FACTORS, lambda *_: 3.0)
    found = held(something, nothing, tmp_path)
    assert found.verdict is Verdict.FAILS
    assert found.to_dict()["estimate"] is None
    unsure = table_of_runs(FACTORS, lambda *levels: float(levels[-1] == 1))
    assert held(unsure, nothing, tmp_path).verdict is Verdict.CANNOT_TELL
    absent = table_of_runs(FACTORS, lambda *_: math.nan)
    with pytest.raises(InputError, match="neither sweep has a number"):
        held(absent, absent, tmp_path)
    assert held(something, absent, tmp_path).verdict is Verdict.CANNOT_TELL


def test_measures_are_the_usual_ones_if_nothing_says_which(tmp_path: Path) -> None:
    frame = table_of_runs(FACTORS, noisy).assign(throughput_per_s=5.0, loss_ratio=0.5)
    frame.assign(loss_ratio=0.1).to_parquet(tmp_path / "old.parquet")
    report = check(frame, expect=["regression: old.parquet within 1 %"], relative_to=tmp_path)
    assert report.verdict is Verdict.HOLDS
    assert report.outcomes[0].combinations == 8, "four combinations, two measures"
    with_loss = check(frame, expect=["regression: old.parquet within 1 %", "loss < 1"], relative_to=tmp_path)
    assert with_loss.verdict is Verdict.FAILS, "what other expectations are about is shown"


@pytest.mark.parametrize(
    ("old", "message"),
    [
        (table_of_runs({"proxy": ["ipvs"]}, lambda *_: 1.0), "cluster.services is a factor of the table, but not of"),
        (table_of_runs({**FACTORS, "proxy": ["ipvs"]}, noisy), "has no combination of levels in common"),
        (table_of_runs({**FACTORS, "cni": ["a", "b"]}, lambda *_: 1.0), "cni is a factor of"),
        (table_of_runs(FACTORS, noisy, name="cpu_ns_per_transaction"), "'latency_p50_ns' is no measure of both sweeps"),
        (pd.DataFrame({"x": [1, 2]}), "old.parquet is no table of a sweep's runs: it has no column 'run'"),
    ],
)
def test_baselines_that_do_not_fit(old: pd.DataFrame, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        held(table_of_runs(FACTORS, noisy), old, tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_factor_with_one_level_may_be_new(tmp_path: Path) -> None:
    old = table_of_runs({**FACTORS, "cni": ["a"]}, lambda p, s, _cni, r: noisy(p, s, r))
    assert held(table_of_runs(FACTORS, noisy), old, tmp_path).verdict is Verdict.HOLDS


def test_a_missing_or_damaged_baseline_is_one_line(tmp_path: Path) -> None:
    frame = table_of_runs(FACTORS, noisy)
    expect = ["regression: old.parquet within 5 %"]
    with pytest.raises(InputError, match=r"regression: there is no .*old\.parquet"):
        check(frame, expect=expect, relative_to=tmp_path)
    for content in (b"", b"PAR1", b"not a table\n" * 50, np.arange(100).tobytes()):
        (tmp_path / "old.parquet").write_bytes(content)
        with pytest.raises(InputError, match=r"old\.parquet is damaged") as caught:
            check(frame, expect=expect, relative_to=tmp_path)
        assert "\n" not in str(caught.value)
