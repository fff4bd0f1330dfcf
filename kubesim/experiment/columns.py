"""What each column of a sweep's tables is."""

from __future__ import annotations

from typing import Any

from kubesim.experiment.selection import REPLICATION
from kubesim.scenario.measures import BREAKDOWN, MEASURES, Column

FACTOR = "<factor>"
"""What stands for the columns of factors, whose names are those of the scenario's fields."""

_RUN = Column("", "number of the run in its sweep, from 0")
_FACTOR = Column("", "level of a factor: one column for each, named by the scenario's field")
_REPLICATION = Column("", "number of the replication, from 0: the same number means the same random numbers")

COLUMNS: dict[str, dict[str, Column]] = {
    "runs": {
        "run": _RUN,
        FACTOR: _FACTOR,
        REPLICATION: _REPLICATION,
        **MEASURES,
        "kubesim_version": Column("", "version of kubesim"),
        "seed": Column("", "seed of all replications"),
        "cost_set": Column("", "name of the cost set"),
        "scenario_sha256": Column("", "digest of the scenario"),
        "run_id": Column("", "digest of everything that makes the run; its file is runs/ID.json"),
    },
    "estimates": {
        FACTOR: _FACTOR,
        "measure": Column("", "name of a measure, as in runs"),
        "estimate": Column(
            "that of the measure", "mean over replications; percentiles of latencies are of all of them together"
        ),
        "low": Column("that of the measure", "lower end of its 95 % confidence interval"),
        "high": Column("that of the measure", "upper end of its 95 % confidence interval"),
        "replications": Column("replications", "how many it rests on"),
    },
    "breakdown": {"run": _RUN, FACTOR: _FACTOR, REPLICATION: _REPLICATION, **BREAKDOWN},
    "latencies": {
        "run": _RUN,
        "rank": Column("transactions", "how many of the run's measured latencies are not longer"),
        "latency_ns": Column("ns", "the latency at that rank"),
    },
}
"""Columns by table."""


def column_metadata(table: str, columns: list[str]) -> dict[str, dict[str, str]]:
    """Unit and description of each column that a table really has."""
    known = COLUMNS[table]
    return {name: _told(known.get(name, _FACTOR)) for name in columns}


def results_schema() -> dict[str, Any]:
    """Unit and description of each column, by table; for programs and for people."""
    return {table: {name: _told(column) for name, column in columns.items()} for table, columns in COLUMNS.items()}


def _told(column: Column) -> dict[str, str]:
    return column._asdict()
