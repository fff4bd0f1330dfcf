"""``kubesim report``, as people and scripts use it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.test_commands import SCENARIO, fail, succeed
from tests.report.sweeps import make_sweep


def test_a_page_about_a_sweep_and_about_a_run(tmp_path: Path) -> None:
    swept = make_sweep(tmp_path)
    assert succeed("report", swept) == f"written to {swept / 'report.html'}\n"
    told = json.loads(succeed("report", swept, "--out", tmp_path / "new" / "page.html", "--json"))
    assert told == {"report": str(tmp_path / "new" / "page.html"), "left_out": []}
    assert (tmp_path / "new" / "page.html").read_bytes() == (swept / "report.html").read_bytes()
    file = tmp_path / "scenario.yaml"
    file.write_text(SCENARIO)
    succeed("run", file, "--out", tmp_path / "run")
    succeed("report", tmp_path / "run")
    assert "<title>small · kubesim</title>" in (tmp_path / "run" / "report.html").read_text("utf-8")
    succeed("run", file, "--out", tmp_path / "run")
    assert not (tmp_path / "run" / "report.html").exists(), "a page about other results does not stay"


def test_what_is_no_directory_of_results(tmp_path: Path) -> None:
    assert "holds no results of kubesim" in fail("report", tmp_path)
    assert "holds no results of kubesim" in fail("report", tmp_path / "nowhere")
    (tmp_path / "manifest.json").write_text("no")
    assert "manifest.json, line 1" in fail("report", tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["manifest.json"]


def test_an_experiment_file_that_is_not_there(tmp_path: Path) -> None:
    swept = make_sweep(tmp_path)
    assert "cannot read" in fail("report", swept, "--experiment", tmp_path / "nowhere.yaml")
    assert not (swept / "report.html").exists()


def test_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    swept = make_sweep(tmp_path)
    assert "cannot write" in fail("report", swept, "--out", swept / "manifest.json" / "page.html")
    assert "cannot write" in fail("report", swept, "--out", tmp_path)
