"""Percentiles of a sweep come from all replications together, wherever they are shown or judged."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kubesim.cli import show_sweep
from kubesim.cli.show import OUT
from kubesim.errors import InputError
from kubesim.experiment import check, load_experiment, sweep
from kubesim.experiment.bisection import Span
from kubesim.experiment.evaluation import WITHOUT_LATENCIES
from kubesim.experiment.places import Place
from kubesim.experiment.record import read_record
from kubesim.experiment.search import search
from kubesim.experiment.verdicts import BEYOND
from kubesim.figure import TableSpec
from kubesim.report import draw
from kubesim.report.data_table import level_table
from kubesim.scenario import Scenario, run
from kubesim.stats.intervals import Interval, mean_interval, percentile_interval
from kubesim.stats.latency_table import read_latencies
from kubesim.stats.replications import interval_of_rows
from kubesim.units import format_estimate, format_measure
from tests.experiment.small import SMALL, contents, experiment_file

TEXT = SMALL.replace(
    "tcp_crr, clients_on: [node-1], transactions: 5", "tcp_crr, clients_on: [node-1], transactions: 20"
)
LEVELS = {"proxy": "iptables", "cluster.services": 20}


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a sweep of three replications."""
    directory = tmp_path_factory.mktemp("swept")
    sweep(*load_experiment(experiment_file(directory, TEXT + "replications: 3\n")), directory / "out", workers=1)
    return directory / "out"


def rows_of(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of one combination."""
    return table[(table[list(LEVELS)] == list(LEVELS.values())).all(axis=1)]


def of_all(directory: Path, percent: float) -> Interval:
    """The percentile of one combination, from the latencies of its runs as they are simulated again."""
    samples = []
    for run_id in rows_of(pd.read_parquet(directory / "runs.parquet"))["run_id"]:
        record = read_record(directory / "runs" / f"{run_id}.json")
        frame = run(Scenario.model_validate_json(record.provenance["scenario"])).transactions
        samples.append(frame.loc[frame["is_measured"] & frame["is_complete"], "latency_ns"].to_numpy())
    assert len(samples) == 3
    return percentile_interval(samples, percent)


def test_estimates_and_verdicts_are_of_all_latencies(swept: Path) -> None:
    estimates = rows_of(pd.read_parquet(swept / "estimates.parquet")).set_index("measure")
    runs = rows_of(pd.read_parquet(swept / "runs.parquet"))
    for name, percent in (("p50", 50.0), ("p90", 90.0), ("p99", 99.0)):
        expected, found = of_all(swept, percent), estimates.loc[f"latency_{name}_ns"]
        assert (found["estimate"], found["low"], found["high"]) == (expected.estimate, expected.low, expected.high)
        (judged,) = check(swept, expect=[f"value({name}, proxy=iptables, services=20) < 1 s"]).outcomes
        assert judged.worst is not None
        assert judged.worst.interval == expected
        assert not judged.notes
    for name in ("latency_mean_ns", "throughput_per_s"):
        found = estimates.loc[name]
        mean = mean_interval(runs[name])
        assert (found["estimate"], found["low"], found["high"]) == (mean.estimate, mean.low, mean.high)


def test_tables_show_the_same(swept: Path) -> None:
    runs, latencies = pd.read_parquet(swept / "runs.parquet"), read_latencies(swept)
    expected = of_all(swept, 50)
    spec = TableSpec(value="latency_p50_ns", rows=["proxy"], columns="cluster.services")
    page = level_table(spec, runs, swept, latencies)
    assert page is not None
    assert page.rows[0][2] == format_estimate("latency_p50_ns", expected.estimate, expected.half_width)
    assert "of all 3 replications together" in page.note.lower()
    with OUT.capture() as captured:
        show_sweep._sweep_table(spec, runs, latencies)
    width = f"±{expected.relative_half_width * 100:.2g}%"
    assert f"{format_measure('latency_p50_ns', expected.estimate)} {width}" in captured.get()


def test_an_interval_with_an_open_end_says_so(swept: Path) -> None:
    runs, latencies = pd.read_parquet(swept / "runs.parquet"), read_latencies(swept)
    spec = TableSpec(value="latency_p999_ns", rows=["proxy", "cluster.services"])
    assert interval_of_rows("latency_p999_ns", rows_of(runs), latencies).high == math.inf
    page = level_table(spec, runs, swept, latencies)
    assert page is not None
    assert all(row[-1].endswith("± ?") for row in page.rows)
    assert "beyond all that was seen" in page.note
    (found,) = check(swept, expect=["value(p999) < 1 s"]).outcomes
    assert (found.verdict.value, found.reason) == ("cannot tell", BEYOND)
    assert found.interval_text.endswith("to beyond all bounds")
    (found,) = check(swept, expect=["value(p999) > 1 ns"]).outcomes
    assert found.verdict.value == "holds", "the end that is known is enough"


def test_without_latencies_it_is_students_and_that_is_said(swept: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(swept, tmp_path / "copy"))
    (copy / "latencies.parquet").unlink()
    frame = pd.read_parquet(swept / "runs.parquet")
    expected = mean_interval(rows_of(frame)["latency_p99_ns"])
    for results in (copy, frame):
        (found,) = check(results, expect=["value(p99, proxy=iptables, services=20) < 1 s"]).outcomes
        assert found.worst is not None
        assert found.worst.interval == expected
        assert found.notes == (WITHOUT_LATENCIES,)
    outcomes = check(
        frame, expect=["ratio(p99, proxy=iptables, proxy='ipvs (scheduler=lc)') > 0.1", "value(throughput) > 1"]
    )
    assert all(not one.notes for one in outcomes.outcomes)


def test_a_replication_without_steady_state_makes_percentiles_unknown(swept: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(swept, tmp_path / "copy"))
    runs = pd.read_parquet(copy / "runs.parquet")
    row = rows_of(runs).index[1]
    runs.loc[row, "latency_p99_ns"] = math.nan
    runs.to_parquet(copy / "runs.parquet")
    (found,) = check(copy, expect=["value(p99, proxy=iptables, services=20) < 1 s"]).outcomes
    assert found.verdict.value == "cannot tell"
    assert "latency_p99_ns is not a number in replication 1" in found.reason
    assert math.isnan(interval_of_rows("latency_p99_ns", rows_of(runs), read_latencies(copy)).estimate)


def test_records_and_the_table_hold_the_same_latencies(swept: Path) -> None:
    runs, latencies = pd.read_parquet(swept / "runs.parquet"), read_latencies(swept)
    for number, run_id, p99 in zip(runs["run"], runs["run_id"], runs["latency_p99_ns"], strict=True):
        file = swept / "runs" / f"{run_id}.json"
        assert read_record(file).latencies == latencies[number]
        assert set(json.loads(file.read_text())["latencies"]) == {"ranks", "values_ns"}
        assert np.percentile(latencies[number].spread(), 99, method="inverted_cdf") == p99


def test_a_damaged_table_is_one_line(swept: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(swept, tmp_path / "copy"))
    (copy / "latencies.parquet").write_text("x")
    with pytest.raises(InputError, match=r"latencies\.parquet is damaged") as caught:
        check(copy, expect=["p99 < 1 s"])
    assert "\n" not in str(caught.value)


def test_figures_show_the_same(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = {"name": "p", "x": "cluster.services", "y": "latency_p50_ns", "by": "proxy"}
    manifest = json.loads((swept / "manifest.json").read_text())
    manifest["experiment"]["figures"] = [spec, {**spec, "relative_to": "iptables"}]
    drawn: list[pd.DataFrame] = []
    monkeypatch.setitem(draw._DRAW, "lines", lambda _, table: drawn.append(table))
    assert len(list(draw.sweep_figures(swept, manifest, pytest.fail))) == 2
    assert set(rows_of(drawn[0])["latency_p50_ns"]) == {of_all(swept, 50).estimate}
    assert set(rows_of(drawn[1])["latency_p50_ns"]) == {1.0}, "shares are paired by replication"


def test_a_search_judges_by_all_latencies() -> None:
    scenario = {
        "cluster": {"nodes": 2, "services": 1, "endpoints": 1, "endpoint_nodes": ["node-2"]},
        "cni": "flannel-host-gw",
        "proxy": "iptables",
        "traffic": {"workload": "tcp_crr", "clients_on": ["node-1"], "transactions": 20},
    }
    where = Span(1, 1, 2, is_whole=True, within=0.5)
    found = search(scenario, Path(), "cluster.services", "p50 < 1 s", where, place=Place(1))
    results = []
    for replication in range(3):
        one = run(Scenario.model_validate({**scenario, "replication": replication}))
        results.append(one.transactions.query("is_measured and is_complete")["latency_ns"].to_numpy())
    assert found.tried[0].interval == percentile_interval(results, 50)


def test_what_nothing_bounds_is_not_precise(tmp_path: Path) -> None:
    text = SMALL.replace("[1, 20]", "[1]").replace("[iptables, ", "[")
    text += "precision: {within: 5 %, of: [latency_p999_ns], replications_at_most: 3}\n"
    (said,) = sweep(*load_experiment(experiment_file(tmp_path, text)), tmp_path / "out", workers=1).shortfalls
    assert "latency_p999_ns is not bounded after 3 replications, not within 5.00%" in said


@pytest.mark.parametrize(
    "written",
    [SMALL + "replications: 2\n", SMALL + "precision: {within: 8 %, of: [latency_p90_ns], replications_at_most: 4}\n"],
)
def test_the_same_bytes_from_workers_parts_and_what_was_there(written: str, tmp_path: Path) -> None:
    file = experiment_file(tmp_path, written)
    sweep(*load_experiment(file), tmp_path / "one", workers=1)
    first = contents(tmp_path / "one")
    assert "latencies.parquet" in first
    sweep(*load_experiment(file), tmp_path / "two", workers=2)
    assert contents(tmp_path / "two") == first
    next((tmp_path / "two" / "runs").iterdir()).unlink()
    sweep(*load_experiment(file), tmp_path / "two", workers=1)
    assert contents(tmp_path / "two") == first
