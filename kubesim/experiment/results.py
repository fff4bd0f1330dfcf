"""The results of a sweep, read back to be judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pandas.api.types import is_bool_dtype, is_numeric_dtype

from kubesim.errors import InputError
from kubesim.experiment.selection import REPLICATION, Runs
from kubesim.experiment.spec import Experiment
from kubesim.experiment.store import read_sweep_manifest
from kubesim.stats.latency_table import read_latencies
from kubesim.tables import read_parquet
from kubesim.units import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from kubesim.figure import Level
    from kubesim.stats.latencies import Latencies

RUN, SEED = "run", "seed"


@dataclass(frozen=True, eq=False)
class Results:
    """What a sweep gave.

    Parameters
    ----------
    name
        Of the experiment.
    frame
        One row per run.
    runs
        The levels of each row.
    missing
        Numbers of the runs that were planned and are not there.
    planned
        How many were planned.
    experiment
        What was run; None for a table of which nothing else is known.
    levels
        Levels of each factor, as the manifest has them; empty for such a table.
    latencies
        Pictures of the latencies of runs, by their numbers, as far as they are known.
    """

    name: str
    frame: pd.DataFrame
    runs: Runs
    missing: tuple[int, ...] = ()
    planned: int = 0
    experiment: Experiment | None = None
    levels: Mapping[str, Sequence[Level]] | None = None
    latencies: Mapping[int, Latencies] = field(default_factory=dict)

    @property
    def measures(self) -> list[str]:
        """The columns that hold measures."""
        return measures_of(self.frame, self.runs)

    @property
    def what_is_missing(self) -> str:
        """The runs that are missing, in words; empty if none is."""
        if not self.missing:
            return ""
        is_one = len(self.missing) == 1
        what = f"{len(self.missing)} of {counted(self.planned, 'run')} {'is' if is_one else 'are'} missing"
        return f"{what}: run{'' if is_one else 's'} {_ranges(self.missing)}"


def results_of_frame(
    frame: pd.DataFrame,
    what: str,
    levels: Mapping[str, Sequence[Level]] | None = None,
    latencies: Mapping[int, Latencies] | None = None,
) -> Results:
    """Results from a table like ``runs.parquet`` alone: its factors are the columns between run and replication.

    Parameters
    ----------
    frame
        One row per run.
    what
        What to call it, such as its path.
    levels
        Levels of factors, where they are known.
    latencies
        Pictures of the latencies of runs, by their numbers, where they are known.

    Raises
    ------
    InputError
        If it is not such a table.
    """
    columns = [str(name) for name in frame.columns]
    for name in (RUN, REPLICATION):
        if name not in columns:
            raise InputError(f"{what} is no table of a sweep's runs: it has no column {name!r}")
    factors = columns[columns.index(RUN) + 1 : columns.index(REPLICATION)]
    if not len(frame):
        raise InputError(f"{what} holds no runs")
    known = {name: (levels or {}).get(name, ()) for name in factors}
    return Results(what, frame, Runs.of(_rows(frame, factors, what), known), latencies=latencies or {})


def read_results(directory: Path) -> Results:
    """The results of a sweep from its directory.

    Raises
    ------
    InputError
        If it is not a sweep's, or damaged.
    """
    manifest, experiment = read_sweep_manifest(directory)
    levels = {name: tuple(found) for name, found in manifest["factors"].items() if name != REPLICATION}
    planned, is_complete = manifest["planned_runs"], manifest["is_complete"]
    path = directory / "runs.parquet"
    if not is_complete and not path.exists():
        raise InputError(
            f"{directory} has no tables: its sweep was stopped before it wrote them; run it again, it goes on"
        )
    frame = read_parquet(path)
    for name in (RUN, REPLICATION, *levels):
        if name not in frame.columns:
            raise InputError(f"{path} is not of this sweep: it has no column {name!r}")
    if not len(frame):
        raise InputError(f"{path} holds no runs")
    runs = Runs.of(_rows(frame, list(levels), str(path)), levels)
    missing = () if is_complete else tuple(sorted(set(range(planned)) - set(frame[RUN].tolist())))
    latencies = read_latencies(directory)
    return Results(experiment.name, frame, runs, missing, planned, experiment, levels, latencies)


def measures_of(frame: pd.DataFrame, runs: Runs) -> list[str]:
    """The numeric columns of a table of runs that are neither factors nor say what made it."""
    others = {RUN, SEED, REPLICATION, *runs.known}
    return [
        str(name)
        for name in frame.columns
        if name not in others and is_numeric_dtype(frame[name]) and not is_bool_dtype(frame[name])
    ]


def _rows(frame: pd.DataFrame, factors: list[str], what: str) -> list[dict[str, Any]]:
    if not is_numeric_dtype(frame[REPLICATION]) or frame[REPLICATION].isna().any():
        raise InputError(f"{what} is no table of a sweep's runs: replication is no number")
    columns = {name: frame[name].tolist() for name in (*factors, REPLICATION)}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _ranges(numbers: Sequence[int]) -> str:
    """Sorted numbers, with runs of them as ``3 to 7``; the first few."""
    ranges: list[list[int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [str(first) if first == last else f"{first} to {last}" for first, last in ranges]
    return ", ".join(texts[:6]) + (" …" if len(texts) > 6 else "")
