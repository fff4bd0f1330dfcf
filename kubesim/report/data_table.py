"""Tables as they stand on a page: all of it text, numbers with their units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kubesim.errors import InputError, did_you_mean
from kubesim.figure import TableSpec, level_text
from kubesim.stats.intervals import mean_interval
from kubesim.units import format_estimate, measure_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from kubesim.figure import FigureSpec
    from kubesim.stats.intervals import Interval

NOTHING = "–"
"""What stands where there is no value."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    name
        What stands above it.
    is_number
        Whether it holds numbers, which stand at the right.
    is_header
        Whether it names its rows.
    """

    name: str
    is_number: bool = False
    is_header: bool = False


@dataclass(frozen=True)
class DataTable:
    """A table.

    Parameters
    ----------
    title
        What it says.
    columns
        From left to right.
    rows
        A text per column each.
    note
        What one has to know to read it.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def factor_label(factor: str) -> str:
    """A factor's name as it stands above a column: the last part of its path."""
    return factor.rpartition(".")[2].replace("_", " ")


def shown_level(level: Any) -> str:
    """A level as people read it; a dash where a run has no such field."""
    return NOTHING if level is None or level is pd.NaT or level != level else level_text(level)  # noqa: PLR0124 - NaN


def level_table(spec: TableSpec, runs: pd.DataFrame, directory: Path) -> DataTable | None:
    """A measure by some factors down and one across, with confidence intervals where runs are replicated.

    Parameters
    ----------
    spec
        What to show.
    runs
        A row per run, with its levels, ``replication`` and measures.
    directory
        Where they come from, for messages.

    Returns
    -------
    DataTable or None
        None if no run has anything to show in it.

    Raises
    ------
    InputError
        If the runs lack what it asks for.
    """
    title = spec.title or measure_label(spec.value)
    _require(spec, title, runs, directory)
    for factor, level in spec.where.items():
        runs = runs[runs[factor] == level]
    intervals = _intervals(spec, runs)
    if not intervals:
        return None
    across = _across(spec, runs)
    rows = dict.fromkeys(levels[: len(spec.rows)] for levels in intervals)
    heads = [measure_label(spec.value)] if spec.columns is None else [shown_level(level) for level in across]
    ends: list[tuple[Any, ...]] = [()] if spec.columns is None else [(level,) for level in across]
    columns = [Column(factor_label(factor), is_header=True) for factor in spec.rows]
    columns += [Column(head, is_number=True) for head in heads]
    body = tuple(
        (*map(shown_level, levels), *(_cell(spec.value, intervals.get((*levels, *end))) for end in ends))
        for levels in rows
    )
    return DataTable(title, tuple(columns), body, _note(spec, intervals.values()))


def numbers_of(spec: FigureSpec, table: pd.DataFrame, directory: Path) -> DataTable | None:
    """The numbers that a figure shows, for those who cannot see it, or want them exactly.

    Parameters
    ----------
    spec
        What the figure was asked to show.
    table
        The rows that it shows: of runs, or of operations with their groups as ``group``.
    directory
        Where they come from, for messages.
    """
    value = "ns_per_transaction" if spec.kind == "breakdown" else spec.y
    if spec.relative_to is not None:
        value, table = "share_ratio", table.rename(columns={spec.y: "share_ratio"})
    if spec.kind == "breakdown":
        keys = list(dict.fromkeys([*([spec.panel] if spec.panel else []), spec.x, "run", "replication", "group"]))
        table = table.groupby(keys, sort=False, dropna=False)[value].sum().reset_index()
        rows, columns = [spec.panel, spec.x], "group"
    elif spec.kind == "bars" or (spec.by is None and spec.panel is None):
        rows, columns = [spec.panel, spec.x], spec.by
    else:
        rows, columns = [spec.panel, spec.by], spec.x
    names = list(dict.fromkeys(name for name in rows if name and name != columns))
    if not names:
        names, columns = [str(columns)], None
    return level_table(
        TableSpec(title=spec.title or spec.name, value=value, rows=names, columns=columns), table, directory
    )


def _require(spec: TableSpec, title: str, runs: pd.DataFrame, directory: Path) -> None:
    """Refuse runs without a column that a table needs, or in which its measure is no number."""
    for column in [*spec.factors(), spec.value]:
        if column not in runs.columns:
            known = did_you_mean(column, map(str, runs.columns))
            raise InputError(f"{directory}: the table {title!r} wants {column!r}, which was not measured: {known}")
    if not pd.api.types.is_numeric_dtype(runs[spec.value]):
        raise InputError(f"{directory}: the table {title!r}: {spec.value!r} holds what is no number")


def _intervals(spec: TableSpec, runs: pd.DataFrame) -> dict[tuple[Any, ...], Interval]:
    """The mean of each combination of levels, over replications; those of which nothing is known are left out."""
    keys = list(dict.fromkeys([*spec.rows, *([spec.columns] if spec.columns else [])]))
    found = {}
    for levels, rows in runs.groupby(keys, sort=False, dropna=False):
        values = rows.groupby("replication")[spec.value].mean().to_numpy(dtype=float)
        if not np.isnan(values).all():
            found[tuple(None if pd.isna(level) else level for level in levels)] = mean_interval(values)
    return found


def _across(spec: TableSpec, runs: pd.DataFrame) -> list[Any]:
    """The levels across: numbers by size, others in the order in which they come."""
    if spec.columns is None:
        return []
    levels = list(dict.fromkeys(runs.loc[runs[spec.value].notna(), spec.columns].dropna()))
    is_sorted = all(isinstance(level, int | float) for level in levels)
    return sorted(levels) if is_sorted else levels


def _cell(measure: str, interval: Interval | None) -> str:
    if interval is None or np.isnan(interval.estimate):
        return NOTHING
    return format_estimate(measure, interval.estimate, interval.half_width)


def _note(spec: TableSpec, intervals: Iterable[Interval]) -> str:
    """What the numbers behind ± are, where there are any."""
    counts = {one.replications for one in intervals}
    if "replication" in spec.rows or max(counts) == 1:
        return ""
    over = str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    return f"Mean of {over} replications ± half the width of its 95 % confidence interval."


def text_table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, headers: int = 1) -> DataTable:
    """A table of nothing but text, the first columns of which name the rows."""
    columns = tuple(Column(head, is_header=place < headers) for place, head in enumerate(heads))
    return DataTable(title, columns, tuple(tuple(row) for row in rows))
