"""Sweeps on the command line: dry runs, parts, going on, and what cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from kubesim.experiment.environment import remembered_experiment
from tests.cli.test_commands import EXPERIMENT, fail, fail_last, kubesim, succeed
from tests.experiment.small import contents


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """An experiment file."""
    file = tmp_path / "experiment.yaml"
    file.write_text(EXPERIMENT + "replications: 2\n")
    return file


def test_a_dry_run_says_what_there_is_to_do_and_writes_nothing(experiment: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = succeed("sweep", experiment, "--out", out, "--dry-run", "--workers", 1)
    assert "8 runs to do" in text
    assert "with 1 process, judging by 4 runs" in text
    assert not out.exists()
    found = json.loads(succeed("sweep", experiment, "--out", out, "--dry-run", "--json"))
    assert [one["replications"] for one in found["runs"]] == [2, 2, 2, 2]
    assert found["runs"][0]["levels"] == {"proxy": "iptables", "cluster.services": 1}
    succeed("sweep", experiment, "--out", out, "--workers", 1)
    next((out / "runs").iterdir()).unlink()
    text = succeed("sweep", experiment, "--out", out, "--dry-run")
    assert "1 run to do; 7 runs are there already" in text
    again = kubesim("sweep", experiment, "--out", out, "--workers", 1)
    assert "8 runs, of which 7 were there already" in again.stdout


def test_samples_that_came_out_as_others_did_are_told(experiment: Path, tmp_path: Path) -> None:
    text = EXPERIMENT.partition("factors")[0]
    spaces = "{cluster.services: {from: 1, to: 3}, cluster.endpoints: {from: 1, to: 3}}"
    experiment.write_text(text + f"factors: {{latin_hypercube: {{samples: 9, factors: {spaces}}}}}\n")
    done = kubesim("sweep", experiment, "--out", tmp_path / "out", "--dry-run", "--json")
    runs = len(json.loads(done.stdout)["runs"])
    assert runs < 9
    assert f"note: latin_hypercube: {9 - runs} of 9 samples came out as others did" in done.stderr
    experiment.write_text(experiment.read_text().replace("samples: 9", "samples: 10"))
    message = fail("sweep", experiment, "--out", tmp_path / "out")
    assert "latin_hypercube: samples: its factors have 9 combinations of levels, which is fewer than 10" in message


def test_parts_are_merged_with_tables_and_figures(experiment: Path, tmp_path: Path) -> None:
    succeed("sweep", experiment, "--out", tmp_path / "whole", "--workers", 1)
    for part in ("1/2", "2/2"):
        succeed("sweep", experiment, "--out", tmp_path / part[0], "--shard", part, "--workers", 1)
    text = succeed("merge", tmp_path / "2", tmp_path / "1", "--out", tmp_path / "merged")
    assert "Does it work?" in text
    assert contents(tmp_path / "merged") == contents(tmp_path / "whole")
    assert (tmp_path / "merged" / "figures" / "f.svg").exists()
    assert remembered_experiment([tmp_path / "merged"]) == experiment
    message = fail("merge", tmp_path / "1", "--out", tmp_path / "half")
    assert "part 2/2 of the sweep is missing: give its directory, too" in message
    assert not (tmp_path / "half").exists()


def test_shards_and_addresses_that_make_no_sense(experiment: Path, tmp_path: Path) -> None:
    assert "--shard 3/2: I/N is needed, such as 2/4" in fail("sweep", experiment, "--shard", "3/2")
    message = fail_last("sweep", experiment, "--out", tmp_path / "out", "--dask", "nonsense")
    assert "--dask nonsense: there is no Dask scheduler to be reached" in message


def test_means_are_shown_with_how_far_off_they_may_be(experiment: Path, tmp_path: Path) -> None:
    assert "±" in succeed("sweep", experiment, "--out", tmp_path / "two", "--workers", 1)
    experiment.write_text(EXPERIMENT)
    assert "±" not in succeed("sweep", experiment, "--out", tmp_path / "one", "--workers", 1)


def test_damaged_records_are_named(experiment: Path, tmp_path: Path) -> None:
    succeed("sweep", experiment, "--out", tmp_path / "out", "--workers", 1)
    damaged = next((tmp_path / "out" / "runs").iterdir())
    damaged.write_text("{")
    done = kubesim("sweep", experiment, "--out", tmp_path / "out", "--workers", 1)
    assert done.returncode == 0
    assert f"note: runs/{damaged.name} was damaged: its run was run again" in done.stderr


def test_a_baseline_beside_the_experiment_is_found_by_check_and_report(experiment: Path, tmp_path: Path) -> None:
    succeed("sweep", experiment, "--out", tmp_path / "old", "--workers", 1)
    shutil.copy(tmp_path / "old" / "runs.parquet", tmp_path / "baseline.parquet")
    experiment.write_text(
        experiment.read_text() + "expect: ['regression: baseline.parquet within 5 % of first_packet_ns']\n"
    )
    out = tmp_path / "new"
    succeed("sweep", experiment, "--out", out, "--workers", 1)
    assert "1 holds" in succeed("check", out)
    succeed("report", out)
    assert "regression: baseline.parquet" in (out / "report.html").read_text()
    moved = Path(shutil.move(out, tmp_path / "elsewhere" / "out"))
    assert "there is no" in fail("check", moved), "the experiment is not where it was, seen from here"
    assert "1 holds" in succeed("check", moved, "--experiment", experiment)
    succeed("report", moved, "--experiment", experiment)


def test_a_sweep_that_was_stopped_before_its_tables_says_so(experiment: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    succeed("sweep", experiment, "--out", out, "--workers", 1)
    manifest = json.loads((out / "manifest.json").read_text())
    (out / "manifest.json").write_text(json.dumps({**manifest, "is_complete": False}))
    (out / "runs.parquet").unlink()
    experiment.write_text(experiment.read_text() + "expect: [p50 < 1 s]\n")
    assert "its sweep was stopped before it wrote them; run it again" in fail("check", out, "--experiment", experiment)


def test_levels_that_a_combination_does_not_have_are_dashes(experiment: Path, tmp_path: Path) -> None:
    text = EXPERIMENT.partition("factors")[0]
    experiment.write_text(
        text + "factors: {proxy: [iptables, ipvs], proxy.scheduler: {levels: [rr, lc], where: {proxy: ipvs}}}\n"
    )
    assert "nan" not in succeed("sweep", experiment, "--out", tmp_path / "out", "--workers", 1)
