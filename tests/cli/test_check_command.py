"""``kubesim check`` as CI uses it: on a real sweep, with its exit codes and files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pandas as pd
import pytest

from kubesim.experiment import load_experiment, sweep
from tests.cli.test_commands import fail, kubesim

EXPERIMENT = """\
name: small
scenario:
  cluster: {nodes: 2, endpoints: 2, endpoint_nodes: [node-2]}
  cni: flannel-host-gw
  traffic: {workload: tcp_crr, clients_on: [node-1], transactions: 10}
factors:
  proxy: [iptables, nftables]
  cluster.services: [1, 500]
replications: 3
expect:
"""
HOLDS = """\
- ratio(first_packet_ns, proxy=iptables, proxy=nftables, services=500) > 1
- slope(first_packet_ns ~ services, proxy=nftables) within 0 ± 0.01 ns
- p50 < 1 ms
- regression: baseline.parquet within 1 %
"""


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an experiment, its results, and a baseline that is the same."""
    directory = tmp_path_factory.mktemp("swept")
    (directory / "experiment.yaml").write_text(EXPERIMENT + HOLDS)
    experiment, runs = load_experiment(directory / "experiment.yaml")
    sweep(experiment, runs, directory / "out", workers=1)
    shutil.copy(directory / "out" / "runs.parquet", directory / "out" / "baseline.parquet")
    return directory


@pytest.fixture
def results(swept: Path, tmp_path: Path) -> Path:
    """A copy of the results, to be changed."""
    return Path(shutil.copytree(swept / "out", tmp_path / "out"))


def with_expectations(tmp_path: Path, expect: str) -> Path:
    """The experiment, newer than its results."""
    file = tmp_path / "newer.yaml"
    file.write_text(EXPERIMENT + expect)
    return file


def change_manifest(directory: Path, **fields: Any) -> None:
    """Set fields of a manifest."""
    manifest = json.loads((directory / "manifest.json").read_text())
    (directory / "manifest.json").write_text(json.dumps({**manifest, **fields}))


def test_all_that_is_expected_holds(swept: Path, tmp_path: Path) -> None:
    done = kubesim("check", swept / "out", "--junit", tmp_path / "new" / "junit.xml")
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("slope(first_packet_ns ~ services", "no spread", "4 holds", "paired by replication", "worst: proxy ="):
        assert word in " ".join(done.stdout.split())
    root = ET.parse(tmp_path / "new" / "junit.xml").getroot()  # noqa: S314 - our own
    assert [root.get(name) for name in ("tests", "failures", "errors", "skipped")] == ["4", "0", "0", "0"]
    found = json.loads(kubesim("check", swept / "out", "--json").stdout)
    assert (found["name"], found["verdict"]) == ("small", "holds")
    assert [one["verdict"] for one in found["expectations"]] == ["holds"] * 4


@pytest.mark.parametrize(
    ("expect", "code", "verdict"),
    [
        ("- p99 < 1 ns\n- p99 < 1 ms\n", 1, "fails"),
        ("- p50 < 1 ms\n", 0, "holds"),
        ("- value(p50, proxy=iptables, services=500) within 0 to 1 s\n", 0, "holds"),
        ("- p99 < 1 ms\n", 3, "cannot tell"),  # of 30 transactions together nobody knows where the last percent ends
    ],
)
def test_exit_codes_of_a_newer_file(expect: str, code: int, verdict: str, swept: Path, tmp_path: Path) -> None:
    file = with_expectations(tmp_path, expect)
    done = kubesim("check", swept / "out", "--experiment", file, "--json", "--junit", tmp_path / "j.xml")
    assert done.returncode == code
    assert json.loads(done.stdout)["verdict"] == verdict
    assert (tmp_path / "j.xml").read_text().count("<failure") == (code == 1)


def test_runs_that_are_missing_cannot_tell_but_failures_fail(results: Path, tmp_path: Path) -> None:
    frame = pd.read_parquet(results / "runs.parquet")
    frame[~frame["run"].isin([3, 4, 5, 8])].to_parquet(results / "runs.parquet")
    change_manifest(results, is_complete=False, finished_runs=8)
    done = kubesim("check", results, "--experiment", with_expectations(tmp_path, "- p50 < 1 ms\n"))
    assert done.returncode == 3
    assert "4 of 12 runs are missing: runs 3 to 5, 8" in done.stdout
    gone = with_expectations(tmp_path, "- value(p50, proxy=iptables, services=500) < 1 ms\n")
    assert kubesim("check", results, "--experiment", gone).returncode == 3, "no run of it is there"
    failing = with_expectations(tmp_path, "- p99 < 1 ns\n- p99 < 1 ms\n")
    assert kubesim("check", results, "--experiment", failing).returncode == 1


def test_one_replication_says_what_helps(results: Path, tmp_path: Path) -> None:
    frame = pd.read_parquet(results / "runs.parquet")
    frame[frame["replication"] == 0].to_parquet(results / "runs.parquet")
    done = kubesim("check", results, "--experiment", with_expectations(tmp_path, "- p50 < 1 ms\n"))
    assert done.returncode == 3
    assert "give the experiment replications: 5" in " ".join(done.stdout.split())


def test_a_baseline_beside_the_experiment_file_comes_first(swept: Path, tmp_path: Path) -> None:
    frame = pd.read_parquet(swept / "out" / "runs.parquet")
    frame.assign(latency_p99_ns=frame["latency_p99_ns"] * 2).to_parquet(tmp_path / "baseline.parquet")
    file = with_expectations(tmp_path, "- regression: {baseline: baseline.parquet, within: 5 %, measures: [p99]}\n")
    done = kubesim("check", swept / "out", "--experiment", file)
    assert done.returncode == 1
    assert "-50.00%" in done.stdout
    assert "(better)" in " ".join(done.stdout.split())


def test_a_junit_file_that_cannot_be_written_hides_nothing(swept: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    unwritable = tmp_path / "file" / "j.xml"
    done = kubesim("check", swept / "out", "--junit", unwritable)
    assert done.returncode == 2
    assert "4 holds" in done.stdout
    assert done.stderr.startswith(f"kubesim: cannot write {unwritable}: ")
    assert done.stderr.count("\n") == 1
    done = kubesim("check", swept / "nowhere", "--junit", unwritable)
    assert done.returncode == 2
    assert f"note: cannot write {unwritable}: " in done.stderr
    assert "holds no results of kubesim" in done.stderr.splitlines()[-1]


def test_expectations_are_called_as_errors_call_them(swept: Path, tmp_path: Path) -> None:
    file = with_expectations(tmp_path, "- p50 < 1 ms\n- p99 < 1 ms\n")
    done = kubesim("check", swept / "out", "--experiment", file)
    assert "expect.1: the interval ends beyond all that was seen" in " ".join(done.stdout.split())
    assert {"expect.0", "expect.1"} <= set(done.stdout.split())


def test_nothing_to_check(swept: Path, tmp_path: Path) -> None:
    file = tmp_path / "none.yaml"
    file.write_text(EXPERIMENT.replace("expect:\n", ""))
    error = fail("check", swept / "out", "--experiment", file, "--junit", tmp_path / "j.xml")
    assert "nothing to check: small expects nothing" in error
    assert "nothing to check" in (tmp_path / "j.xml").read_text()


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ("- p99 < 1 ms\n- value(p99, servces=1) < 1 ms\n", "line 12: expect.1: at 'servces': there is no such factor: did you mean"),
        ("- value(p99, proxy=nftable) < 1 ms\n", "line 11: expect.0: at 'proxy=nftable': 'nftable' is no level of proxy"),
        ("- p98 < 1 ms\n", "expect.0: 'p98' is no measure: did you mean 'p99'?"),
        ("- p99 < 1 %\n", "expect.0: at '1 %': % is no unit of latency_p99_ns, a time"),
        ("- [p99]\n", "expect.0"),
        (" p99 < 1 ms\n", "expect: a list is needed"),
        ("- p99: 5\n", "expect.0: an expectation is a text, or regression with a file, not 'p99'"),
    ],
)  # fmt: skip
def test_a_bad_expectation_is_refused_when_the_experiment_is_read(expect: str, message: str, tmp_path: Path) -> None:
    error = fail("sweep", with_expectations(tmp_path, expect), "--out", tmp_path / "out")
    assert message in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no directory", "holds no results of kubesim: there is no such directory"),
        ("a file", "holds no results of kubesim: it is a file"),
        ("an empty directory", "holds no results of kubesim: there is no manifest.json"),
        ("half a manifest", "it is damaged, or no JSON: "),
        ("a run", "holds a run, not a sweep"),
        ("no table", "runs.parquet: no run was finished"),
        ("damaged table", "runs.parquet is damaged"),
        ("foreign table", "runs.parquet is not of this sweep: it has no column 'run'"),
        ("empty table", "runs.parquet holds no runs"),
        ("foreign manifest", "manifest.json is damaged, or of another version of kubesim"),
        ("no baseline", "expect.3: regression: there is no"),
        ("damaged baseline", "baseline.parquet is damaged"),
    ],
)
def test_directories_that_are_no_sweeps(damage: str, message: str, results: Path) -> None:
    table = results / "runs.parquet"
    if damage in ("no directory", "a file", "an empty directory"):
        shutil.rmtree(results)
        if damage == "a file":
            results.write_text("")
        elif damage == "an empty directory":
            results.mkdir()
    elif damage == "half a manifest":
        (results / "manifest.json").write_text((results / "manifest.json").read_text()[:300])
    elif damage == "a run":
        change_manifest(results, kind="run")
    elif damage == "no table":
        table.unlink()
    elif damage == "damaged table":
        table.write_bytes(table.read_bytes()[:-20])
    elif damage == "foreign table":
        pd.DataFrame({"a": [1]}).to_parquet(table)
    elif damage == "empty table":
        pd.read_parquet(table).iloc[:0].to_parquet(table)
    elif damage == "foreign manifest":
        change_manifest(results, experiment={"name": "x"})
    elif damage == "no baseline":
        (results / "baseline.parquet").unlink()
    else:
        (results / "baseline.parquet").write_text("text")
    assert message in fail("check", results)
