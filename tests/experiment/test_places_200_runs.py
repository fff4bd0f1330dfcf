"""A sweep of 200 runs gives the same bytes wherever it is run, and whoever dies on the way."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from kubesim.experiment import load_experiment, merge, parse_shard, places, sweep
from kubesim.experiment.places import Done, run_one
from tests.experiment.small import SMALL, contents, experiment_file
from tests.experiment.test_places import DASK_NOISE

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(*DASK_NOISE)]

REMEMBERED = "KUBESIM_TEST_REMEMBERED"
"""The variable that names a file, in which a worker remembers that another one has died."""


def dying_once(key: tuple[int, int], scenario: str) -> Done:
    """A run of which one, in the middle of the sweep, kills its worker the first time."""
    remembered = Path(os.environ[REMEMBERED])
    if key == (2, 0) and not remembered.exists():
        remembered.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return run_one(key, scenario)


def test_the_same_bytes_of_200_runs_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    described = load_experiment(experiment_file(tmp_path, SMALL + "replications: 50\n"))
    assert sweep(*described, tmp_path / "one", workers=1).finished == 200
    alone = contents(tmp_path / "one")
    sweep(*described, tmp_path / "two", workers=2)
    assert contents(tmp_path / "two") == alone
    parts = [tmp_path / f"part-{number}" for number in range(1, 5)]
    for number, part in enumerate(parts, start=1):
        sweep(*described, part, workers=1, shard=parse_shard(f"{number}/4"))
    merge(parts, tmp_path / "merged")
    assert contents(tmp_path / "merged") == alone
    sweep(*described, tmp_path / "dask", workers=2, dask="local")
    assert contents(tmp_path / "dask") == alone
    monkeypatch.setenv(REMEMBERED, str(tmp_path / "remembered"))
    monkeypatch.setattr(places, "run_one", dying_once)
    sweep(*described, tmp_path / "killed", workers=2, dask="local")
    assert (tmp_path / "remembered").exists()
    assert contents(tmp_path / "killed") == alone
