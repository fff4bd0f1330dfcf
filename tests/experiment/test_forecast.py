"""What a sweep would run, and how long it may take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kubesim.experiment import Forecast, forecast, load_experiment, sweep
from tests.experiment.small import SMALL, experiment_file


def test_workers_have_to_start_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    found = Forecast({0: 4}, 0, 60.0, 4)
    start = found.lasting(2) - 30.0
    assert start > 1, "of short runs that is the most of it"
    assert found.lasting(1) == 60.0, "this process is there already"
    assert found.lasting(4) == pytest.approx(30.0 + 2 * start), "more workers than cores take turns"
    assert Forecast({}, 4, 0.0, 0).lasting(2) == 0.0, "nothing is started where there is nothing to do"


def test_earlier_runs_say_how_long_each_combination_takes(tmp_path: Path) -> None:
    experiment, runs = load_experiment(experiment_file(tmp_path, SMALL + "replications: 2\n"))
    out = tmp_path / "out"
    sweep(experiment, runs, out, workers=1)
    plan = json.loads((out / "plan.json").read_text())["runs"]
    environment = json.loads((out / "environment.json").read_text())
    environment["run_seconds"] = {identity: 10.0**combination for combination, _, identity in plan}
    (out / "environment.json").write_text(json.dumps(environment))
    for combination, _, identity in plan:
        if combination == 3:
            (out / "runs" / f"{identity}.json").unlink()
    found = forecast(experiment, runs, out)
    assert (found.runs, found.reused, found.seconds) == (2, 6, 2000.0)
    again = forecast(experiment, runs, out, is_fresh=True)
    assert (again.runs, again.reused, again.seconds) == (8, 0, 2222.0)


def test_a_few_runs_are_tried_and_nothing_is_written(tmp_path: Path) -> None:
    experiment, runs = load_experiment(experiment_file(tmp_path))
    found = forecast(experiment, runs, tmp_path / "out")
    assert (found.runs, found.reused, found.samples) == (4, 0, 4)
    assert found.seconds > 0
    assert not (tmp_path / "out").exists()
