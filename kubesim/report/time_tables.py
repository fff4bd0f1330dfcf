"""Where the CPU time goes: the dearest operations of each combination of levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from kubesim.report.data_table import NOTHING, Column, DataTable, factor_label, shown_level
from kubesim.units import format_measure, format_ns

if TYPE_CHECKING:
    from collections.abc import Sequence

_DEAREST = 4
_OPERATIONS_SHOWN = 12


def time_by_levels(breakdown: pd.DataFrame, factors: Sequence[str]) -> DataTable | None:
    """The dearest operations of each combination of levels, over replications.

    Parameters
    ----------
    breakdown
        A row per run and operation, with the run's levels.
    factors
        Those that tell combinations apart.

    Returns
    -------
    DataTable or None
        None if no CPU did anything.
    """
    cpu = breakdown[breakdown["is_cpu"]]
    if cpu.empty:
        return None
    heads = [Column(factor_label(factor), is_header=True) for factor in factors]
    heads += [Column("CPU time per transaction", is_number=True), Column("most of it")]
    groups = cpu.groupby(list(factors), sort=False, dropna=False) if factors else [((), cpu)]
    rows = [(*map(shown_level, levels), *_dearest(rows)) for levels, rows in groups]
    return DataTable("The dearest operations by combination of levels", tuple(heads), tuple(rows))


def time_of_run(breakdown: pd.DataFrame) -> DataTable | None:
    """The dearest operations of a single run."""
    cpu = breakdown[breakdown["is_cpu"]].sort_values("ns_per_transaction", ascending=False, kind="stable")
    if cpu.empty:
        return None
    whole = float(cpu["ns_per_transaction"].sum())
    times = {str(row["operation"]): float(row["ns_per_transaction"]) for row in cpu.to_dict("records")}
    rest = list(times.values())[_OPERATIONS_SHOWN:]
    shown = dict(list(times.items())[:_OPERATIONS_SHOWN])
    if rest:
        shown[f"{len(rest)} others"] = sum(rest)
    columns = (
        Column("operation", is_header=True),
        Column("CPU time per transaction", is_number=True),
        Column("share", is_number=True),
    )
    rows = tuple((name, format_ns(value), _share(value, whole)) for name, value in shown.items())
    return DataTable("The dearest operations", columns, rows)


def _dearest(rows: pd.DataFrame) -> list[str]:
    """The CPU time of a transaction, and the operations that take most of it."""
    runs = rows["run"].nunique()
    times = rows.groupby("operation", sort=True)["ns_per_transaction"].sum() / runs
    whole = float(times.sum())
    top = times.sort_values(ascending=False, kind="stable").head(_DEAREST)
    named = [f"{name} {_share(float(value), whole)}".replace(" ", "\N{NO-BREAK SPACE}") for name, value in top.items()]
    return [format_ns(whole), ", ".join(named)]


def _share(value: float, whole: float) -> str:
    return format_measure("share_ratio", round(value / whole, 3)) if whole else NOTHING
