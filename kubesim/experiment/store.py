"""The directory of a sweep.

``runs/ID.json``
    One file per finished run, named by what made it: whatever is there need not be run again.
``runs.parquet``, ``estimates.parquet``, ``breakdown.parquet``, ``latencies.parquet``
    One row per run, per combination and measure, per run and operation, and per run and rank of its latencies that is
    kept; CSV beside them if wanted.
``plan.json``
    Which runs there are to be: combination, replication and ID of each.
``manifest.json``
    The experiment and everything that made it; figures are drawn from it and the tables.
``environment.json``
    Machine, packages and times: the one file that is not the same everywhere.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from importlib import metadata
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from kubesim.errors import InputError, KubesimError, OutputError
from kubesim.experiment.columns import column_metadata
from kubesim.experiment.frames import FinishedRun, frames_of
from kubesim.experiment.record import Record, read_record, write_record
from kubesim.experiment.shard import parse_shard
from kubesim.experiment.spec import Experiment
from kubesim.files import MANIFEST, prepare_directory, read_manifest, write_text
from kubesim.scenario.provenance import code_sha256
from kubesim.tables import write_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from kubesim.experiment.shard import Shard
    from kubesim.figure import Level

PLAN, ENVIRONMENT, RUNS = "plan.json", "environment.json", "runs"
_RECORD = re.compile(r"^[0-9a-f]{20}\.json$")

PlannedRuns = dict[tuple[int, int], str]
"""The ID of each run by its combination and replication."""


class Store:
    """Writes one sweep, and reads back what is there of it.

    Parameters
    ----------
    directory
        Where.
    experiment
        What is run.
    levels
        Level of each factor, by combination.
    shard
        Which part of it, if not all.
    with_csv
        Write tables as CSV, too.
    """

    def __init__(
        self,
        directory: Path,
        experiment: Experiment,
        levels: Sequence[dict[str, Level]],
        shard: Shard | None = None,
        *,
        with_csv: bool = False,
    ) -> None:
        self.directory = directory
        self._experiment = experiment
        self._levels = levels
        self.damaged: list[str] = []
        self._shard = shard
        self._with_csv = with_csv

    @contextlib.contextmanager
    def opened(self, *, is_fresh: bool = False) -> Iterator[None]:
        """Make the directory fit to be written, for this process alone.

        Parameters
        ----------
        is_fresh
            Forget the runs that are there.

        Raises
        ------
        OutputError
            If it cannot be written, holds something else, or somebody else writes it just now.
        """
        with _locked(self.directory):
            earlier = self._name_of_what_is_there()
            if earlier not in (None, self._experiment.name) and not is_fresh:
                raise OutputError(
                    f"{self.directory} holds the results of the experiment {earlier!r}: give another directory "
                    "(sweep --fresh replaces them)"
                )
            prepare_directory(self.directory, "sweep", keep=(RUNS,))
            if is_fresh:
                self._forget()
            yield

    def find(self, run_id: str) -> Record | None:
        """What is kept of a run, None if there is nothing, or it is damaged."""
        path = self._path(run_id)
        if not path.exists():
            return None
        try:
            return read_record(path)
        except InputError:
            self.damaged.append(path.name)
            return None

    def keep(self, record: Record) -> None:
        """Keep a finished run."""
        write_record(record, self._path(record.id))

    def write_plan(self, planned: PlannedRuns) -> None:
        """Say which runs there are to be, before there are tables."""
        runs = [[combination, replication, run_id] for (combination, replication), run_id in sorted(planned.items())]
        plan = {"combinations": list(self._levels), "runs": runs}
        self._write_manifest((), len(planned), (), is_complete=False)  # first: it makes the directory one of results
        write_text(self.directory / PLAN, json.dumps(plan, allow_nan=False) + "\n")

    def write_tables(
        self, finished: Sequence[FinishedRun], planned: int, shortfalls: Sequence[str], *, is_complete: bool
    ) -> None:
        """Write the tables of what is finished, in the order of the sweep, and say what is missing."""
        experiment = self._experiment.model_dump_json(by_alias=True)
        provenance = {"experiment": experiment, "kubesim_version": metadata.version("kubesim")}
        if finished:
            for name, frame in frames_of(finished).items():
                columns = column_metadata(name, list(frame.columns))
                write_table(self.directory / name, frame, provenance, columns=columns, with_csv=self._with_csv)
        self._write_manifest(finished, planned, shortfalls, is_complete=is_complete)

    def write_environment(self, environment: dict[str, Any]) -> None:
        """Say where and when it was run."""
        write_text(self.directory / ENVIRONMENT, json.dumps(environment, indent=1) + "\n")

    def _write_manifest(
        self, finished: Sequence[FinishedRun], planned: int, shortfalls: Sequence[str], *, is_complete: bool
    ) -> None:
        notices = {notice for one in finished for notice in one.record.notices}
        text = {
            "kind": "sweep",
            "kubesim_version": metadata.version("kubesim"),
            "code_sha256": code_sha256(),
            "is_complete": is_complete,
            "finished_runs": len(finished),
            "planned_runs": planned,
            "shard": None if self._shard is None else str(self._shard),
            "seeds": sorted({int(one.record.provenance["seed"]) for one in finished}),
            "cost_sets": sorted({one.record.provenance["cost_set"] for one in finished}),
            "factors": _factors(self._levels, finished),
            "experiment": self._experiment.model_dump(mode="json", by_alias=True),
            "notices": [*sorted(notices), *shortfalls],
        }
        write_text(self.directory / MANIFEST, json.dumps(text, indent=1) + "\n")

    def _path(self, run_id: str) -> Path:
        return self.directory / RUNS / f"{run_id}.json"

    def _forget(self) -> None:
        """Remove the records of runs, and nothing else."""
        folder = self.directory / RUNS
        for file in folder.iterdir() if folder.is_dir() else ():
            if _RECORD.match(file.name):
                file.unlink(missing_ok=True)

    def _name_of_what_is_there(self) -> str | None:
        """The name of the experiment whose results a directory holds; None if that cannot be told."""
        try:
            manifest = json.loads((self.directory / MANIFEST).read_text(encoding="utf-8"))
            return str(manifest["experiment"]["name"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def read_experiment(directory: Path) -> Experiment:
    """The experiment whose results are in a directory.

    Raises
    ------
    InputError
        If there is none, or its manifest is damaged.
    """
    return read_sweep_manifest(directory)[1]


def read_sweep_manifest(directory: Path) -> tuple[dict[str, Any], Experiment]:
    """The manifest of a sweep's directory, of which all that is read elsewhere makes sense, and its experiment.

    Raises
    ------
    InputError
        If there is none, or it is damaged, or not of a sweep.
    """
    manifest = read_manifest(directory)
    if manifest["kind"] != "sweep":
        raise InputError(f"{directory} holds a {manifest['kind']}, not a sweep")
    try:
        experiment = Experiment.model_validate(manifest["experiment"])
        is_consistent = (
            all(isinstance(levels, list) for levels in manifest["factors"].values())
            and all(isinstance(manifest[name], int) for name in ("planned_runs", "finished_runs", "is_complete"))
            and (manifest["shard"] is None or bool(parse_shard(manifest["shard"])))
        )
    except (KubesimError, ValidationError, KeyError, TypeError, AttributeError, ValueError):
        is_consistent = False
    if not is_consistent:
        raise InputError(f"{directory / MANIFEST} is damaged, or of another version of kubesim")
    return manifest, experiment


def _factors(levels: Sequence[dict[str, Level]], finished: Sequence[FinishedRun]) -> dict[str, list[Any]]:
    """Levels of each factor, in the order in which they come, and the replications that are finished."""
    found: dict[str, dict[Any, None]] = {}
    for one in levels:
        for factor, level in one.items():
            found.setdefault(factor, {})[level] = None
    replications = sorted({one.replication for one in finished})
    return {**{factor: list(levels) for factor, levels in found.items()}, "replication": replications}


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Keep other sweeps out of a directory; the kernel lets go of it whatever becomes of this process."""
    try:
        import fcntl  # noqa: PLC0415 - not on every system
    except ImportError:
        yield
        return
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise OutputError(f"cannot write to {directory}: {error.strerror}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise OutputError(f"another sweep is writing to {directory}: wait for it, or give another directory") from None
    except OSError:
        pass  # a file system without locks: then it is up to whoever starts two
    try:
        yield
    finally:
        os.close(handle)
