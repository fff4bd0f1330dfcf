"""What is left of a sweep that goes wrong, and which runs it plans."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.errors import InputError, KubesimError, OutputError
from kubesim.experiment import load_experiment, places, read_experiment, sweep
from kubesim.experiment.forecast import planned_keys
from kubesim.experiment.merge import merge
from kubesim.experiment.places import Done
from kubesim.experiment.results import read_results
from kubesim.experiment.shard import Shard
from kubesim.experiment.store import Store
from tests.experiment.small import SMALL, experiment_file


def test_what_a_run_says_is_not_hidden_by_tables_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(key: tuple[int, int], _scenario: str) -> Done:
        return Done(key, {}, "the run makes no sense", 0.0)

    def full(*_arguments: object, **_named: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(places, "run_one", wrong)
    monkeypatch.setattr(Store, "write_tables", full)
    with pytest.raises(KubesimError, match="the run makes no sense"):
        sweep(*load_experiment(experiment_file(tmp_path)), tmp_path / "out", workers=1)


def test_tables_that_cannot_be_written_after_good_runs_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_arguments: object, **_named: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr(Store, "write_tables", full)
    with pytest.raises(OutputError, match="the disk is full"):
        sweep(*load_experiment(experiment_file(tmp_path)), tmp_path / "out", workers=1)


@pytest.mark.parametrize(
    ("manifest", "said"),
    [
        ('{"kind": "run"}', "holds a run, not a sweep"),
        ('{"kind": "sweep"}', "manifest.json is damaged, or of another version of kubesim"),
    ],
)
def test_a_manifest_is_read_in_one_way(manifest: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    for read in (read_experiment, read_results, lambda directory: merge([directory], tmp_path / "whole")):
        with pytest.raises(InputError, match=said):
            read(tmp_path)


@given(
    wanted=st.dictionaries(st.integers(0, 20), st.integers(0, 3), max_size=8),
    parts=st.integers(1, 5),
)
def test_every_planned_run_is_in_one_part(
    wanted: dict[int, int], parts: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    experiment, _ = load_experiment(experiment_file(tmp_path_factory.mktemp("x"), SMALL + "replications: 3\n"))
    split = [planned_keys(experiment, wanted, Shard(number, parts)) for number in range(1, parts + 1)]
    assert sorted(key for part in split for key in part) == sorted(planned_keys(experiment, wanted, None))
