"""Tables as they stand on a page: all of it text, numbers with their units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kubesim.errors import InputError, did_you_mean
from kubesim.figure import TableSpec, level_text
from kubesim.stats.replications import interval_of_rows, is_latency_percentile
from kubesim.units import format_estimate, format_measure, measure_label

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from kubesim.figure import FigureSpec
    from kubesim.stats.intervals import Interval
    from kubesim.stats.latencies import Latencies

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
    across
        What the levels above the columns of numbers are levels of, where they are.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    across: str = ""


def factor_label(factor: str) -> str:
    """A factor's name as it stands above a column: the last part of its path."""
    return factor.rpartition(".")[2].replace("_", " ")


def known_level(level: Any) -> Any:
    """A level as it is in a table; None where a run has no such field."""
    return None if pd.isna(level) else level


def shown_level(level: Any) -> str:
    """A level as people read it; a dash where a run has no such field."""
    known = known_level(level)
    return NOTHING if known is None else level_text(known.item() if isinstance(known, np.generic) else known)


def level_table(
    spec: TableSpec, runs: pd.DataFrame, directory: Path, latencies: Mapping[int, Latencies] | None = None
) -> DataTable | None:
    """A measure by some factors down and one across, with confidence intervals where runs are replicated.

    Parameters
    ----------
    spec
        What to show.
    runs
        A row per run, with its levels, ``replication`` and measures.
    directory
        Where they come from, for messages.
    latencies
        What is kept of the latencies of runs, by their numbers.

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
    intervals = _intervals(spec, runs, latencies or {})
    if not intervals:
        return None
    across = _across(spec, runs)
    rows = _ordered(dict.fromkeys(levels[: len(spec.rows)] for levels in intervals))
    heads = [measure_label(spec.value)] if spec.columns is None else [shown_level(level) for level in across]
    ends: list[tuple[Any, ...]] = [()] if spec.columns is None else [(level,) for level in across]
    columns = [Column(factor_label(factor), is_header=True) for factor in spec.rows]
    columns += [Column(head, is_number=True) for head in heads]
    body = tuple(
        (*map(shown_level, levels), *(_cell(spec.value, intervals.get((*levels, *end))) for end in ends))
        for levels in rows
    )
    across_label = "" if spec.columns is None else factor_label(spec.columns)
    return DataTable(
        title, tuple(columns), body, _note(spec, intervals.values(), has_latencies=bool(latencies)), across_label
    )


def numbers_of(
    spec: FigureSpec, table: pd.DataFrame, directory: Path, latencies: Mapping[int, Latencies] | None = None
) -> DataTable | None:
    """The numbers that a figure shows, for those who cannot see it, or want them exactly.

    Parameters
    ----------
    spec
        What the figure was asked to show.
    table
        The rows that it shows: of runs, or of operations with their groups as ``group``.
    directory
        Where they come from, for messages.
    latencies
        What is kept of the latencies of runs, by their numbers.
    """
    value = "ns_per_transaction" if spec.kind == "breakdown" else spec.y
    if spec.relative_to is not None:
        value, table = "share_ratio", table.rename(columns={spec.y: "share_ratio"})
    if spec.kind == "breakdown":
        keys = list(dict.fromkeys([*([spec.panel] if spec.panel else []), spec.x, "run", "replication", "group"]))
        table = table.groupby(keys, sort=False, dropna=False)[value].sum().reset_index()
    down, across = _sides(spec)
    rows = list(dict.fromkeys(name for name in down if name is not None and name != across))
    asked = TableSpec(title=spec.title or spec.name, value=value, rows=rows, columns=across)
    return level_table(asked, table, directory, latencies)


def _sides(spec: FigureSpec) -> tuple[list[str | None], str | None]:
    """The factors down and across a table of a figure's numbers: a line is a row, and so is a bar of parts."""
    if spec.kind == "breakdown":
        return [spec.panel, spec.x], "group"
    if spec.kind == "lines" and {spec.by, spec.panel} - {None, spec.x}:
        return [spec.panel, spec.by], spec.x
    return [spec.panel, spec.x], None if spec.by == spec.x else spec.by


def _require(spec: TableSpec, title: str, runs: pd.DataFrame, directory: Path) -> None:
    """Refuse runs without a column that a table needs, or in which its measure is no number."""
    for column in [*spec.factors(), spec.value]:
        if column not in runs.columns:
            known = did_you_mean(column, map(str, runs.columns))
            raise InputError(f"{directory}: the table {title!r} wants {column!r}, which was not measured: {known}")
    if not pd.api.types.is_numeric_dtype(runs[spec.value]):
        raise InputError(f"{directory}: the table {title!r}: {spec.value!r} holds what is no number")


def _intervals(
    spec: TableSpec, runs: pd.DataFrame, latencies: Mapping[int, Latencies]
) -> dict[tuple[Any, ...], Interval]:
    """Each combination of levels over its replications; those of which nothing is known are left out."""
    keys = list(dict.fromkeys([*spec.rows, *([spec.columns] if spec.columns else [])]))
    found = {}
    for levels, rows in runs.groupby(keys, sort=False, dropna=False):
        if rows[spec.value].notna().any():
            found[tuple(map(known_level, levels))] = interval_of_rows(spec.value, rows, latencies)
    return found


def _across(spec: TableSpec, runs: pd.DataFrame) -> list[Any]:
    """The levels across, in order."""
    if spec.columns is None:
        return []
    return _in_order(runs.loc[runs[spec.value].notna(), spec.columns].dropna())


def _ordered(rows: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Rows by their first level, then by their second, and so on."""
    found = list(rows)
    places = [{level: place for place, level in enumerate(_in_order(levels))} for levels in zip(*found, strict=True)]
    return sorted(found, key=lambda row: [places[number][level] for number, level in enumerate(row)])


def _in_order(levels: Iterable[Any]) -> list[Any]:
    """Levels, each once: numbers by size, others in the order in which they come."""
    found = list(dict.fromkeys(levels))
    are_numbers = all(isinstance(level, int | float | np.number) for level in found)
    return sorted(found) if are_numbers else found


def _cell(measure: str, interval: Interval | None) -> str:
    if interval is None or np.isnan(interval.estimate):
        return NOTHING
    if interval.is_open:
        return f"{format_measure(measure, interval.estimate)} ± ?"
    return format_estimate(measure, interval.estimate, interval.half_width)


def _note(spec: TableSpec, intervals: Collection[Interval], *, has_latencies: bool) -> str:
    """What the numbers behind ± are, where there are any."""
    counts = {one.replications for one in intervals}
    if "replication" in spec.rows or max(counts) == 1:
        return ""
    over = str(max(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"
    what = f"Mean of {over} replications"
    if has_latencies and is_latency_percentile(spec.value):
        what = f"Of all {over} replications together, where a number is of one combination of levels, else their mean,"
    is_open = any(one.is_open for one in intervals)
    end = "; ± ? where an end of that lies beyond all that was seen." if is_open else "."
    return f"{what} ± half the width of its 95 % confidence interval{end}"


def text_table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, headers: int = 1) -> DataTable:
    """A table of nothing but text, the first columns of which name the rows."""
    columns = tuple(Column(head, is_header=place < headers) for place, head in enumerate(heads))
    return DataTable(title, columns, tuple(tuple(row) for row in rows))
