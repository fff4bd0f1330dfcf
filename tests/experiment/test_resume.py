"""A sweep goes on where it was, whatever happened to it, and ends with the same bytes."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from kubesim.errors import OutputError
from kubesim.experiment import load_experiment, record, sweep
from tests.experiment.small import SMALL, contents, experiment_file


def test_what_is_there_is_not_run_again(tmp_path: Path) -> None:
    experiment, combinations = load_experiment(experiment_file(tmp_path))
    sweep(experiment, combinations, tmp_path / "out", workers=1)
    first = contents(tmp_path / "out")
    outcome = sweep(experiment, combinations, tmp_path / "out", workers=1)
    assert (outcome.finished, outcome.reused) == (4, 4)
    assert contents(tmp_path / "out") == first
    outcome = sweep(experiment, combinations, tmp_path / "out", workers=1, is_fresh=True)
    assert (outcome.finished, outcome.reused) == (4, 0)
    assert contents(tmp_path / "out") == first


def test_a_level_more_is_a_run_more_and_what_is_no_longer_wanted_stays(tmp_path: Path) -> None:
    experiment, combinations = load_experiment(experiment_file(tmp_path))
    sweep(experiment, combinations, tmp_path / "out", workers=1)
    first = contents(tmp_path / "out")
    more = load_experiment(experiment_file(tmp_path, SMALL.replace("[1, 20]", "[1, 20, 30]")))
    outcome = sweep(*more, tmp_path / "out", workers=1)
    assert (outcome.finished, outcome.reused) == (6, 4)
    outcome = sweep(experiment, combinations, tmp_path / "out", workers=1)
    assert (outcome.finished, outcome.reused) == (4, 4)
    assert {name: held for name, held in contents(tmp_path / "out").items() if name in first} == first
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 6


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"id": "x"}', "truncated", "changed", "renamed"])
def test_damaged_records_are_never_read(damage: str, tmp_path: Path) -> None:
    experiment, combinations = load_experiment(experiment_file(tmp_path))
    sweep(experiment, combinations, tmp_path / "out", workers=1)
    first = contents(tmp_path / "out")
    one, other, *_ = sorted((tmp_path / "out" / "runs").iterdir())
    text = one.read_text()
    changed = text.replace('"latency_p50_ns": ', '"latency_p50_ns": 1')
    assert changed != text
    one.write_text(
        {"truncated": text[: len(text) // 2], "changed": changed, "renamed": other.read_text()}.get(damage, damage)
    )
    outcome = sweep(experiment, combinations, tmp_path / "out", workers=1)
    assert outcome.damaged == (one.name,)
    assert (outcome.finished, outcome.reused) == (4, 3)
    assert contents(tmp_path / "out") == first


def test_results_of_another_experiment_are_not_mixed_in(tmp_path: Path) -> None:
    sweep(*load_experiment(experiment_file(tmp_path)), tmp_path / "out", workers=1)
    first = contents(tmp_path / "out")
    other = load_experiment(experiment_file(tmp_path, SMALL.replace("name: small", "name: other")))
    with pytest.raises(
        OutputError, match=r"holds the results of the experiment 'small': give another directory \(sweep --fresh"
    ):
        sweep(*other, tmp_path / "out", workers=1)
    assert contents(tmp_path / "out") == first
    (tmp_path / "out" / "runs" / "notes.txt").write_text("mine")
    outcome = sweep(*other, tmp_path / "out", workers=1, is_fresh=True)
    assert (outcome.finished, outcome.reused) == (4, 0)
    assert len(list((tmp_path / "out" / "runs").glob("*.json"))) == 4
    assert (tmp_path / "out" / "runs" / "notes.txt").read_text() == "mine"


def test_two_sweeps_do_not_write_one_directory(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    handle = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(OutputError, match="another sweep is writing to"):
        sweep(*load_experiment(experiment_file(tmp_path)), tmp_path / "out", workers=1)
    os.close(handle)
    assert sweep(*load_experiment(experiment_file(tmp_path)), tmp_path / "out", workers=1).finished == 4


def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment, combinations = load_experiment(experiment_file(tmp_path))
    written: list[str] = []

    def write_text(path: Path, text: str) -> None:
        if len(written) == 2:
            raise OutputError(f"cannot write {path}: {os.strerror(errno.ENOSPC)}")
        written.append(path.name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    with monkeypatch.context() as full:
        full.setattr(record, "write_text", write_text)
        with pytest.raises(OutputError, match="No space left on device"):
            sweep(experiment, combinations, tmp_path / "out", workers=1)
    assert len(pd.read_parquet(tmp_path / "out" / "runs.parquet")) == 2
    assert not json.loads((tmp_path / "out" / "manifest.json").read_text())["is_complete"]
    outcome = sweep(experiment, combinations, tmp_path / "out", workers=1)
    assert (outcome.finished, outcome.reused) == (4, 2)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="SIGKILL as Linux has it")
def test_a_sweep_that_is_killed_ten_times_ends_with_the_same_bytes(tmp_path: Path) -> None:
    levels = ", ".join(map(str, range(1, 51)))
    text = SMALL.replace("[1, 20]", f"[{levels}]") + "replications: 2\n"
    file = experiment_file(tmp_path, text)
    assert sweep(*load_experiment(file), tmp_path / "undisturbed", workers=1).finished == 200
    command = [sys.executable, "-m", "kubesim", "sweep", str(file), "--out", str(tmp_path / "killed"), "--workers", "2"]
    chance = random.Random(1)
    runs = tmp_path / "killed" / "runs"
    for kill in range(10):
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        target, deadline = kill * 18 + chance.randint(1, 9), time.monotonic() + 90
        while process.poll() is None and time.monotonic() < deadline:
            done = len(list(runs.glob("[!.]*.json"))) if runs.exists() else 0
            if done >= target:
                break
            time.sleep(chance.random() / 100)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = len(list(runs.glob("[!.]*.json")))
    assert before >= 9 * 18, "what was finished was kept"
    outcome = sweep(*load_experiment(file), tmp_path / "killed", workers=2)
    assert outcome.reused == before - len(outcome.damaged)
    assert not outcome.damaged
    assert contents(tmp_path / "killed") == contents(tmp_path / "undisturbed")
