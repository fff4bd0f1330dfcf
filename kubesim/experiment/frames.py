"""Tables of a sweep, made of what was kept of its runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from kubesim.experiment.selection import REPLICATION
from kubesim.stats.latency_table import TABLE, latency_table
from kubesim.stats.replications import replications_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubesim.experiment.record import Record
    from kubesim.figure import Level


@dataclass(frozen=True)
class FinishedRun:
    """One finished run and its place in the sweep.

    Parameters
    ----------
    number
        Its place in the sweep, those that are not finished counted too.
    combination, replication
        Which run it is, both from 0.
    levels
        Level of each factor, as it is written in tables.
    record
        What is kept of it.
    """

    number: int
    combination: int
    replication: int
    levels: dict[str, Level]
    record: Record


def frames_of(runs: Sequence[FinishedRun]) -> dict[str, pd.DataFrame]:
    """The tables of a sweep by name, its runs in order: ``runs``, ``estimates``, ``breakdown`` and ``latencies``."""
    measured, operations = [], []
    for one in runs:
        origin = one.record.provenance
        levels = {**one.levels, REPLICATION: one.replication}
        measured.append(
            {
                "run": one.number,
                **levels,
                **one.record.measures(),
                "kubesim_version": origin["kubesim_version"],
                "seed": int(origin["seed"]),
                "cost_set": origin["cost_set"],
                "scenario_sha256": origin["scenario_sha256"],
                "run_id": one.record.id,
            }
        )
        operations += [{"run": one.number, **levels, **row} for row in one.record.breakdown]
    frames = {
        "runs": pd.DataFrame(measured),
        "estimates": pd.DataFrame(_estimates(runs)),
        "breakdown": pd.DataFrame(operations),
    }
    kept = {one.number: one.record.latencies for one in runs if one.record.latencies is not None}
    return {**{name: _typed(frame) for name, frame in frames.items()}, TABLE: latency_table(kept)}


def _estimates(runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """Every measure over the replications of each combination, with its 95 % confidence interval."""
    grouped: dict[int, list[FinishedRun]] = {}
    for one in runs:
        grouped.setdefault(one.combination, []).append(one)
    rows = []
    for members in grouped.values():
        measures = [one.record.measures() for one in members]
        for name in dict.fromkeys(name for one in measures for name in one):
            values = [one.get(name, float("nan")) for one in measures]
            interval = replications_interval(name, values, [one.record.latencies for one in members])
            ends = {"low": interval.low, "high": interval.high, "replications": interval.replications}
            rows.append({**members[0].levels, "measure": name, "estimate": interval.estimate, **ends})
    return rows


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of one type each: a factor whose levels are of several becomes text, but for those that are missing."""
    for column in frame.columns:
        levels = frame[column].dropna()
        if frame[column].dtype == object and levels.map(type).nunique() > 1:
            frame[column] = levels.map(str).reindex(frame.index)
    return frame
