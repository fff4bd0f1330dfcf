"""Reads directories of results back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict

from kubesim.errors import InputError
from kubesim.figure import FigureSpec, Level, TableSpec
from kubesim.files import MANIFEST, YamlDocument, read_json
from kubesim.validation import validate

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class StoredExperiment(BaseModel):
    """What a manifest keeps of an experiment, as far as pages show it; ``as_written`` has all of it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    question: str = ""
    expectation: str = ""
    tables: list[TableSpec] = []
    figures: list[FigureSpec] = []


class SweepManifest(BaseModel):
    """The manifest of a sweep."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    kubesim_version: str
    is_complete: bool
    finished_runs: int
    planned_runs: int
    factors: dict[str, list[Level]]
    experiment: StoredExperiment
    notices: list[str] = []


class Provenance(BaseModel):
    """What a run says of where it comes from."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    kubesim_version: str
    scenario: str
    scenario_sha256: str
    seed: str
    replication: str
    cost_set: str


class RunManifest(BaseModel):
    """The manifest of a single run."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    name: str
    provenance: Provenance
    notices: list[str] = []
    refusals: dict[str, int] = {}


class StoredRun(BaseModel):
    """What a sweep keeps of each run, as far as pages show it."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    provenance: Provenance
    refusals: dict[str, int] = {}


class _Summary(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    measures: dict[str, float | None]


def sweep_manifest(directory: Path, manifest: dict[str, Any]) -> SweepManifest:
    """A sweep's manifest, checked.

    Raises
    ------
    InputError
        If something is not there, or not what it should be.
    """
    return validate(SweepManifest, YamlDocument(str(directory / MANIFEST), manifest, None))


def run_manifest(directory: Path, manifest: dict[str, Any]) -> RunManifest:
    """A single run's manifest, checked as that of a sweep."""
    return validate(RunManifest, YamlDocument(str(directory / MANIFEST), manifest, None))


def read_stored_runs(directory: Path, runs: pd.DataFrame) -> dict[int, StoredRun]:
    """Finished runs of a sweep by their number, as far as their files are there.

    Raises
    ------
    InputError
        If one is damaged.
    """
    files = zip(runs["run"].tolist(), runs["run_id"].tolist(), strict=True)
    places = {int(number): directory / "runs" / f"{run_id}.json" for number, run_id in files}
    return {
        number: validate(StoredRun, YamlDocument(str(file), read_json(file), None))
        for number, file in places.items()
        if file.exists()
    }


def read_measures(path: Path) -> dict[str, float]:
    """The measures of a single run's summary, NaN where there is none.

    Raises
    ------
    InputError
        If it cannot be read, or is damaged.
    """
    data = read_json(path)
    if not isinstance(data, dict):
        raise InputError(f"{path} holds no summary")
    given = {name: value for name, value in data.items() if name not in Provenance.model_fields}
    summary = validate(_Summary, YamlDocument(str(path), {"measures": given}, None))
    return {name: float("nan") if value is None else value for name, value in summary.measures.items()}


def require_columns(table: pd.DataFrame, columns: Iterable[str], path: Path, numbers: Iterable[str] = ()) -> None:
    """Refuse a table that lacks columns, or in which some of them hold no numbers.

    Raises
    ------
    InputError
        With the first that is not there, or not so.
    """
    for column in columns:
        if column not in table.columns:
            raise InputError(f"{path} is no such table of kubesim: it has no column {column!r}")
    for column in numbers:
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise InputError(f"{path} is no such table of kubesim: its column {column!r} holds what is no number")
