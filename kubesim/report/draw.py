"""Draws the figures of a directory of results, from nothing but the data in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd

from kubesim.errors import InputError, did_you_mean
from kubesim.figure import FigureSpec
from kubesim.files import read_manifest
from kubesim.report import error_bars, style
from kubesim.report.bars import draw_bars, draw_breakdown
from kubesim.report.drawn import DrawnFigure
from kubesim.report.lines import draw_lines
from kubesim.report.run_figures import run_figures
from kubesim.report.validation_figures import draw_validation
from kubesim.stats.latency_table import read_latencies
from kubesim.stats.replications import interval_of_rows, is_latency_percentile
from kubesim.tables import read_parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from matplotlib.figure import Figure

    from kubesim.stats.latencies import Latencies

_DRAW = {"lines": draw_lines, "bars": draw_bars, "breakdown": draw_breakdown}


def draw_directory(directory: Path, on_left_out: Callable[[str], None] = lambda _why: None) -> list[Path]:
    """Draw every figure of a run, a sweep or a validation into its ``figures``.

    Parameters
    ----------
    directory
        What ``kubesim run --out``, ``kubesim sweep`` or ``kubesim validate --out`` wrote.
    on_left_out
        Called with what to say of each figure that cannot be drawn of the runs that are finished.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        If there are no results, or they are damaged, or a figure could not be drawn of any.
    OutputError
        If a figure cannot be written.
    """
    manifest = read_manifest(directory)
    if manifest["kind"] == "validation":
        return draw_validation(directory, manifest)
    if manifest["kind"] == "run":
        drawn, provenance = run_figures(directory, manifest), dict(manifest["provenance"])
    else:
        drawn, provenance = sweep_figures(directory, manifest, on_left_out), _provenance(manifest)
    folder = directory / "figures"
    return [file for one in drawn for file in style.save(one.figure, folder / one.name, provenance)]


def sweep_figures(
    directory: Path, manifest: dict[str, Any], on_left_out: Callable[[str], None], *, has_titles: bool = True
) -> Iterator[DrawnFigure]:
    """The figures of a sweep, one by one.

    Parameters
    ----------
    directory, manifest
        Of the sweep.
    on_left_out
        Called with what to say of each figure that cannot be drawn of the runs that are finished.
    has_titles
        Whether titles are written into the figures.

    Raises
    ------
    InputError
        As :func:`draw_directory` does.
    """
    runs = read_parquet(directory / "runs.parquet")
    breakdown = read_parquet(directory / "breakdown.parquet")
    latencies = read_latencies(directory)
    for entry in manifest["experiment"]["figures"]:
        spec = FigureSpec.model_validate(entry)
        table = _rows(spec, breakdown if spec.kind == "breakdown" else runs, str(directory))
        if table.empty:
            if manifest["is_complete"] and not _has_rows(spec, runs):
                raise InputError(f"{directory}: figure {spec.name} has nothing to show: no run has what it asks for")
            on_left_out(f"the figure {spec.name} is left out: no finished run has anything to show in it")
            continue
        shown = spec if has_titles else spec.model_copy(update={"title": ""})
        figure = _DRAW[spec.kind](shown, _with_estimates(spec, table, latencies))
        yield DrawnFigure(spec.name, spec.title or spec.name, figure, spec, table)


def _provenance(manifest: dict[str, Any]) -> dict[str, str]:
    """What a sweep's figures say about where they come from."""
    experiment = manifest["experiment"]
    return {
        "kubesim_version": manifest["kubesim_version"],
        "experiment": experiment["name"],
        "scenario": json.dumps(experiment["scenario"], sort_keys=True),
        "factors": json.dumps(manifest["factors"]),
    }


def draw_table(spec: FigureSpec, table: pd.DataFrame, place: str) -> Figure:
    """Draw a figure of a table that is in no directory.

    Parameters
    ----------
    spec
        What to show.
    table
        One row per run.
    place
        What to call the table in messages.

    Raises
    ------
    InputError
        If it lacks a column, or has nothing to show.
    """
    rows = _rows(spec, table, place)
    if rows.empty:
        raise InputError(f"{place}: no row has anything to show")
    if spec.kind == "lines" and not pd.api.types.is_numeric_dtype(rows[spec.x]):
        raise InputError(f"{place}: {spec.x} holds no numbers to draw lines along: kind: bars can show them")
    return _DRAW[spec.kind](spec, _with_estimates(spec, rows, {}))


def _rows(spec: FigureSpec, table: pd.DataFrame, place: str) -> pd.DataFrame:
    """The rows that a figure shows."""
    for column in [*spec.factors(), *([spec.y] if spec.y else []), *(spec.band or ())]:
        if column not in table.columns:
            known = did_you_mean(column, table.columns)
            raise InputError(f"{place}: figure {spec.name} wants {column!r}, which was not measured: {known}")
    for column in (*([spec.y] if spec.y else []), *(spec.band or ())):
        if not pd.api.types.is_numeric_dtype(table[column]):
            raise InputError(f"{place}: figure {spec.name}: {column!r} holds what is no number")
    table = _with_levels(spec, table)
    if spec.y:
        table = _measured(spec, table)
    if spec.relative_to is not None:
        table = _relative(spec, table)
    if spec.kind == "breakdown":
        table = table[table["is_cpu"]]
    return table.dropna(subset=[name for name in (spec.x, spec.by, spec.panel, spec.y) if name])


def _with_estimates(spec: FigureSpec, table: pd.DataFrame, latencies: Mapping[int, Latencies]) -> pd.DataFrame:
    """What tables say of each place of a figure: estimates with their intervals; shares are no percentiles."""
    if spec.kind == "breakdown":
        return table
    keys = list(dict.fromkeys(name for name in (spec.x, spec.by, spec.panel) if name))
    if spec.relative_to is not None:
        return error_bars.with_intervals(table, keys, spec.y, {})
    shown = error_bars.with_intervals(table, keys, spec.y, latencies)
    for name in dict.fromkeys(spec.band or ()):
        if name != spec.y and latencies and is_latency_percentile(name):
            for _, rows in shown.groupby(keys, sort=False):
                shown.loc[rows.index, name] = interval_of_rows(name, rows, latencies).estimate
    return shown


def _has_rows(spec: FigureSpec, runs: pd.DataFrame) -> bool:
    """Whether there are runs that a figure asks for, whatever was measured in them."""
    shown = _with_levels(spec, runs)
    return not shown.empty and (spec.relative_to is None or bool((shown[str(spec.by)] == spec.relative_to).any()))


def _with_levels(spec: FigureSpec, table: pd.DataFrame) -> pd.DataFrame:
    """The rows with the levels of a figure's ``where``."""
    for factor, level in spec.where.items():
        table = table[table[factor] == level]
    return table


def _measured(spec: FigureSpec, table: pd.DataFrame) -> pd.DataFrame:
    """The rows of places where each run has a number: the mean of a choice of them is not that of all."""
    keys = list(dict.fromkeys(name for name in (spec.x, spec.by, spec.panel) if name))
    table = table.dropna(subset=keys)
    return table[table[spec.y].notna().groupby([table[name] for name in keys]).transform("all").astype(bool)]


def _relative(spec: FigureSpec, table: pd.DataFrame) -> pd.DataFrame:
    """The measure as a share of its mean for one level of ``by``, all other factors of the figure being equal."""
    keys = [name for name in (spec.x, spec.panel, "replication") if name and name in table.columns]
    base = table[table[str(spec.by)] == spec.relative_to].groupby(keys)[spec.y].mean().replace(0, float("nan"))
    index = pd.MultiIndex.from_frame(table[keys]) if len(keys) > 1 else pd.Index(table[keys[0]])
    return table.assign(**{spec.y: table[spec.y].to_numpy() / base.reindex(index).to_numpy()})
