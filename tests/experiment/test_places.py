"""Where runs are run makes no difference, and workers may die."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from joblib.externals.loky.process_executor import TerminatedWorkerError

from kubesim.errors import InputError, KubesimError
from kubesim.experiment import load_experiment, places, sweep
from kubesim.experiment.bisection import Span
from kubesim.experiment.places import Done, Place, Work
from kubesim.experiment.search import search
from tests.experiment.small import SMALL, contents, experiment_file

DASK_NOISE = [
    "ignore::DeprecationWarning:distributed",
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
]
"""Sockets and loops that a cluster closes in its own time."""


def works(count: int) -> list[Work]:
    """So many things to do."""
    return [Work((number, 0), "") for number in range(count)]


def test_workers_that_die_are_replaced_and_nothing_is_done_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[list[tuple[int, int]]] = []

    def dying(work: list[Work], _workers: int) -> Generator[Done]:
        attempts.append([one.key for one in work])
        yield Done(work[0].key, {}, None, 0.0)
        if len(work) > 2:
            raise TerminatedWorkerError("killed")
        yield Done(work[1].key, {}, None, 0.0)

    monkeypatch.setattr(places, "_with_processes", dying)
    found = [done.key for done in Place(workers=2).run(works(4))]
    assert found == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert [len(attempt) for attempt in attempts] == [4, 3, 2]


def test_workers_that_die_again_and_again_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def dying(_work: list[Work], _workers: int) -> Generator[Done]:
        yield from ()
        raise TerminatedWorkerError("killed")

    monkeypatch.setattr(places, "_with_processes", dying)
    with pytest.raises(KubesimError, match="worker processes were killed again and again"):
        list(Place(workers=2).run(works(2)))


def suicidal(key: tuple[int, int], scenario: str) -> Done:
    """A run that kills its worker the first time; ``scenario`` is a file that remembers."""
    remembered = Path(scenario)
    if key == (1, 0) and not remembered.exists():
        remembered.write_text("")
        os.kill(os.getpid(), signal.SIGKILL)
    return Done(key, {}, None, 0.0)


def test_a_worker_process_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "run_one", suicidal)
    work = [Work((number, 0), str(tmp_path / "remembered")) for number in range(6)]
    found = [done.key for done in Place(workers=2).run(work)]
    assert sorted(found) == [one.key for one in work]
    assert (tmp_path / "remembered").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings(*DASK_NOISE)
def test_dask_gives_the_same_bytes_and_its_workers_may_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    experiment, combinations = load_experiment(experiment_file(tmp_path, SMALL + "replications: 2\n"))
    sweep(experiment, combinations, tmp_path / "alone", workers=1)
    sweep(experiment, combinations, tmp_path / "dask", workers=2, dask="local")
    assert contents(tmp_path / "alone") == contents(tmp_path / "dask")
    monkeypatch.setattr(places, "run_one", suicidal)
    work = [Work((number, 0), str(tmp_path / "remembered")) for number in range(6)]
    found = [done.key for done in Place(workers=2, dask="local").run(work)]
    assert sorted(found) == [one.key for one in work]
    assert (tmp_path / "remembered").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings(*DASK_NOISE)
def test_no_cluster_where_there_should_be_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="the extra dask is not installed")
    monkeypatch.setattr(places, "_PATIENCE", "1s")
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(InputError, match=f"--dask {address}: there is no Dask scheduler to be reached"):
            sweep(*load_experiment(experiment_file(tmp_path)), tmp_path / "out", dask=address)
        assert not (tmp_path / "out").exists()


def test_one_cluster_for_all_rounds_of_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []

    @contextlib.contextmanager
    def counted(address: str, _workers: int | None) -> Generator[object]:
        started.append(address)
        yield object()

    def here(work: list[Work], _client: object) -> Generator[Done]:
        return (places.run_one(*one) for one in work)

    monkeypatch.setattr(places, "_client", counted)
    monkeypatch.setattr(places, "_with_dask", here)
    experiment = load_experiment(experiment_file(tmp_path))[0]
    base: dict[str, Any] = {**experiment.scenario, "proxy": "iptables"}
    found = search(
        base, tmp_path, "cluster.services", "cpu < 1 ns", Span(1, 20), place=Place(dask="local"), replications_at_most=2
    )
    assert found.tried
    assert started == ["local"]
