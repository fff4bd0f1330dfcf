"""The experiments of the project: each says what it expects, and runs in a small version all the way to its page.

Levels keep their names, so that each figure, table and expectation finds the runs that it is about; what is run is cut:
few Services and endpoints, a few transactions. The small version shows that all is there and can be judged. What comes
of it is the full sweep's to say.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from kubesim.cli.commands import app
from kubesim.cli.show_sweep import sweep as show_tables
from kubesim.experiment import Combination, Experiment, check, load_experiment, sweep
from kubesim.figure import FigureSpec, TableSpec
from kubesim.report import draw_directory
from kubesim.scenario import Scenario, run

FILES = sorted((Path(__file__).parents[2] / "experiments").glob("*.yaml"))

AT_MOST = {
    "cluster": {"services": 10, "endpoints": 4},
    "traffic": {"connections": 6, "transactions": 4, "requests": 3, "buffers": 8, "datagrams": 20},
    "conntrack": {"snat_ports": 1},
}
"""The most of each that a small scenario has."""

FREE_ENTRIES = 3
"""Places that are left in a conntrack table that is nearly full."""

FEW_COMBINATIONS = 20
"""Up to so many are run twice in a small version, more of them once."""

each = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def smaller(scenario: Scenario) -> Scenario:
    """The scenario with less to do."""
    data = scenario.model_dump(mode="json", by_alias=True)
    for section, limits in AT_MOST.items():
        fields = data[section] or {}
        fields.update({name: min(fields[name], most) for name, most in limits.items() if name in fields})
    conntrack = data["conntrack"] or {}
    if conntrack.get("held_entries"):
        conntrack["max_entries"] = conntrack["held_entries"] + FREE_ENTRIES
    return Scenario.model_validate(data)


def small_version(file: Path) -> tuple[Experiment, list[Combination]]:
    """An experiment and what it runs, with less to do."""
    experiment, combinations = load_experiment(file)
    replications = 2 if len(combinations) <= FEW_COMBINATIONS else 1
    changed = experiment.model_copy(update={"replications": replications, "precision": None})
    return changed, [replace(one, first=smaller(one.first)) for one in combinations]


def numbers(spec: FigureSpec | TableSpec, runs: pd.DataFrame) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What a figure or table shows of such runs."""
    for factor, level in spec.where.items():
        runs = runs[runs[factor] == level]
    measure = spec.value if isinstance(spec, TableSpec) else spec.y or "cpu_ns_per_transaction"
    return runs[measure].to_numpy(float)


@each
def test_it_says_what_it_expects_and_runs_often_enough_to_tell(file: Path) -> None:
    experiment, _ = load_experiment(file)
    assert experiment.question
    assert experiment.expectation
    assert len(experiment.expect) >= 3
    assert experiment.first_replications() >= 2, "intervals need two"
    assert experiment.figures
    assert experiment.tables


@each
def test_it_runs_in_a_small_version(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment, combinations = small_version(file)
    outcome = sweep(experiment, combinations, tmp_path, workers=1)
    runs = pd.read_parquet(tmp_path / "runs.parquet")
    assert len(runs) == outcome.planned == len(combinations) * experiment.replications
    assert (runs["transactions"] > 0).all()
    shown: list[FigureSpec | TableSpec] = [*experiment.figures, *experiment.tables]
    for spec in shown:
        assert np.isfinite(numbers(spec, runs)).any(), f"{spec.title}: nothing was measured"

    show_tables(experiment, outcome)
    printed = capsys.readouterr()
    assert "left out" not in printed.err
    for table in experiment.tables:
        assert " ".join(table.title.split()[:3]) in printed.out

    left_out: list[str] = []
    drawn = draw_directory(tmp_path, left_out.append)
    assert {one.name for one in drawn} == {f"{one.name}.{end}" for one in experiment.figures for end in ("png", "svg")}
    assert left_out == []

    found = check(tmp_path, relative_to=file.parent)
    assert len(found.outcomes) == len(experiment.expect)
    for one in found.outcomes:
        assert one.combinations > 0, one.expectation
        assert one.worst is not None
        assert np.isfinite(one.worst.interval.estimate), one.message

    written = CliRunner().invoke(app, ["report", str(tmp_path), "--json"], catch_exceptions=False)
    assert json.loads(written.stdout)["left_out"] == []
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.count("<svg") >= len(experiment.figures)


@pytest.mark.slow
@each
def test_both_engines_come_to_the_same_summary(file: Path) -> None:
    _, combinations = small_version(file)
    for one in combinations:
        by_each = [run(one.first.model_copy(update={"engine": name})).summary for name in ("compiled", "simpy")]
        assert repr(by_each[0]) == repr(by_each[1]), one.first
