"""The directory of a sweep: each finished run, the tables made of them, and a manifest that says what they are.

``runs/NNNN.json``
    One file per finished run.
``runs.parquet``, ``runs.csv``
    One row per run: levels of the factors, measures, version, seed, cost set and scenario.
``breakdown.parquet``, ``breakdown.csv``
    One row per run and operation.
``manifest.json``
    The experiment and everything that made it; figures are drawn from it and the tables.
"""

from __future__ import annotations

import json
from importlib import metadata
from math import isfinite
from typing import TYPE_CHECKING, Any

import pandas as pd

from kubesim.files import MANIFEST, prepare_directory, write_text
from kubesim.tables import write_table

if TYPE_CHECKING:
    from pathlib import Path

    from kubesim.experiment.spec import Experiment, PlannedRun


class Store:
    """Writes one sweep.

    Parameters
    ----------
    directory
        Where.
    experiment, runs
        What is run.
    """

    def __init__(self, directory: Path, experiment: Experiment, runs: list[PlannedRun]) -> None:
        self._directory = directory
        self._experiment = experiment
        self._runs = runs
        self._outcomes: dict[int, dict[str, Any]] = {}

    def prepare(self) -> None:
        """Make the directory, and clear away what an earlier sweep left in it.

        Raises
        ------
        OutputError
            If it cannot be written, or holds something that is not a sweep's.
        """
        prepare_directory(self._directory)
        self._write_manifest(is_complete=False)

    def keep(self, number: int, outcome: dict[str, Any]) -> None:
        """Keep a finished run."""
        one = self._runs[number]
        summary = {name: value if isfinite(value) else None for name, value in outcome["summary"].items()}
        record = {"number": number, "levels": one.levels, **outcome, "summary": summary}
        width = len(str(len(self._runs)))
        path = self._directory / "runs" / f"{number:0{width}}.json"
        write_text(path, json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n")
        self._outcomes[number] = outcome

    def write_tables(self, *, is_complete: bool) -> None:
        """Write the tables of what is finished, in the order of the sweep."""
        if not self._outcomes:
            return
        runs, operations = [], []
        for number in sorted(self._outcomes):
            outcome = self._outcomes[number]
            levels = self._runs[number].levels
            origin = outcome["provenance"]
            runs.append(
                {
                    "run": number,
                    **levels,
                    **outcome["summary"],
                    "kubesim_version": origin["kubesim_version"],
                    "seed": int(origin["seed"]),
                    "cost_set": origin["cost_set"],
                    "scenario_sha256": origin["scenario_sha256"],
                }
            )
            operations += [{"run": number, **levels, **row} for row in outcome["breakdown"]]
        provenance = {"experiment": self._experiment.model_dump_json(), "kubesim_version": metadata.version("kubesim")}
        for name, rows in (("runs", runs), ("breakdown", operations)):
            write_table(self._directory / name, _typed(pd.DataFrame(rows)), provenance)
        self._write_manifest(is_complete=is_complete)

    def _write_manifest(self, *, is_complete: bool) -> None:
        text = {
            "kind": "sweep",
            "kubesim_version": metadata.version("kubesim"),
            "is_complete": is_complete,
            "finished_runs": len(self._outcomes),
            "planned_runs": len(self._runs),
            "factors": _factors(self._runs),
            "experiment": self._experiment.model_dump(mode="json"),
            "notices": sorted({notice for outcome in self._outcomes.values() for notice in outcome["notices"]}),
        }
        write_text(self._directory / MANIFEST, json.dumps(text, indent=1) + "\n")


def _factors(runs: list[PlannedRun]) -> dict[str, list[Any]]:
    """Levels of each factor, in the order in which they come."""
    found: dict[str, dict[Any, None]] = {}
    for one in runs:
        for factor, level in one.levels.items():
            found.setdefault(factor, {})[level] = None
    return {factor: list(levels) for factor, levels in found.items()}


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of one type each: a factor whose levels are of several becomes text, but for those that are missing."""
    for column in frame.columns:
        levels = frame[column].dropna()
        if frame[column].dtype == object and levels.map(type).nunique() > 1:
            frame[column] = levels.map(str).reindex(frame.index)
    return frame
