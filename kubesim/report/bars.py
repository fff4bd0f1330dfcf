"""Bars: a measure by level, and the stacked breakdown of where the CPU time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter

from kubesim.figure import level_text
from kubesim.report import error_bars, style
from kubesim.report.groups import GROUPS, group_of
from kubesim.units import Unit, format_count, unit_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kubesim.figure import FigureSpec

_HEADROOM = 1.1
"""Room above the tallest bar, for its number."""

_MANY_BARS, _LONG_NAME = 6, 9
"""With more bars, and a name of more letters, they lie, with their names at the left."""

_NAME_INCHES_PER_LETTER = 0.085
_TIME = "ns_per_transaction"
_ERROR = "#202020"

_HATCHES = ("", "//", "", "..", "", "xx", "", "\\\\", "", "++")


def draw_breakdown(spec: FigureSpec, breakdown: pd.DataFrame) -> Figure:
    """Draw a figure of kind ``breakdown``: CPU time per transaction by group of operations.

    Parameters
    ----------
    spec
        What to show.
    breakdown
        Rows of operations, those of other levels already left out.
    """
    cpu = breakdown[breakdown["is_cpu"]].copy()
    cpu["group"] = cpu["operation"].map(group_of)
    panels = style.panels_of(cpu, spec.panel)
    levels = list(dict.fromkeys(cpu[spec.x]))
    totals = _totals(cpu, spec)
    intervals = error_bars.columns_of(totals)
    is_lying = _is_lying(levels, spec)
    size = (5.6, 0.4 + 0.34 * len(levels)) if is_lying else (0.3 + 0.72 * len(levels), 3.6)
    margins = style.Margins(
        left=_left(levels, is_lying=is_lying), right=2.3, bottom=_bottom(levels, totals, is_lying=is_lying)
    )
    figure, axes = style.new_figure([name for name, _ in panels], spec.title, size, margins)
    means = style.means_of(totals, (spec.x, spec.panel), [_TIME, *intervals])
    unit = unit_of(_TIME, float(means[_TIME].max()))
    used = [group for group in GROUPS if group in set(cpu["group"])]
    for (name, rows), ax in zip(panels, axes, strict=True):
        table = rows.pivot_table(index=spec.x, columns="group", values=_TIME, aggfunc="sum", sort=False)
        runs = rows.groupby(spec.x)["run"].nunique()
        table = table.div(runs, axis=0).reindex(index=levels, columns=used).fillna(0) / unit.factor
        bottom = np.zeros(len(levels))
        for group in used:
            heights = table[group].to_numpy()
            _draw(
                ax,
                np.arange(len(levels)),
                heights,
                0.72,
                is_lying=is_lying,
                start=bottom,
                color=GROUPS[group],
                edgecolor="white",
                linewidth=0.7,
                hatch=_HATCHES[list(GROUPS).index(group) % len(_HATCHES)],
                label=group,
            )
            bottom = bottom + heights
        ends = dict(style.panels_of(means, spec.panel))[name].set_index(spec.x).reindex(levels)
        error_bars.draw(ax, np.arange(len(levels)), ends, _TIME, unit.factor, _ERROR, error_bars.Look(is_lying))
        _number(ax, np.arange(len(levels)), 9, ends, _TIME, unit, is_lying=is_lying)
        _name_bars(ax, levels, spec, is_lying=is_lying)
    label = style.axis_label(spec.y_label or "CPU time per transaction, all hosts", unit)
    _measure(axes[0], float(np.nanmax(error_bars.ends_of(means, _TIME))) / unit.factor, label, is_lying=is_lying)
    error_bars.add_note(figure, totals)
    handles, labels = axes[0].get_legend_handles_labels()
    axes[-1].legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    return figure


def _totals(cpu: pd.DataFrame, spec: FigureSpec) -> pd.DataFrame:
    """The CPU time of each run, all operations together, with intervals over replications."""
    keys = list(dict.fromkeys([*([spec.panel] if spec.panel else []), spec.x]))
    runs = [name for name in ("run", "replication") if name in cpu.columns and name not in keys]
    totals = cpu.groupby([*keys, *runs], sort=False)[_TIME].sum().reset_index()
    return error_bars.with_intervals(totals, keys, _TIME, {})


def draw_bars(spec: FigureSpec, runs: pd.DataFrame) -> Figure:
    """Draw a figure of kind ``bars``: groups of bars by ``x``, a bar for each level of ``by``.

    Parameters
    ----------
    spec
        What to show.
    runs
        Rows to show, those of other levels already left out.
    """
    all_runs, intervals = runs, error_bars.columns_of(runs)
    runs = style.means_of(runs, (spec.x, spec.by, spec.panel), [spec.y, *intervals])
    levels = list(dict.fromkeys(runs[spec.x]))
    series = style.series_of(runs, spec.by)
    panels = style.panels_of(runs, spec.panel)
    is_lying = _is_lying(levels, spec)
    standing = (max(2.6, 0.4 + 0.4 * len(levels) * len(series)), 3.4)
    size = (5.6, 0.4 + 0.3 * len(levels)) if is_lying else standing
    margins = style.Margins(
        left=_left(levels, is_lying=is_lying),
        right=_right(series, spec),
        bottom=_bottom(levels, runs, is_lying=is_lying),
    )
    figure, axes = style.new_figure([name for name, _ in panels], spec.title, size, margins)
    largest = float(np.nanmax(runs[spec.y].to_numpy(dtype=float)))
    unit = Unit(1, "") if spec.relative_to is not None else unit_of(spec.y, largest)
    width = 0.8 / len(series)
    for (_, rows), ax in zip(panels, axes, strict=True):
        for number, level in enumerate(series):
            chosen = style.rows_of(rows, spec.by, level).set_index(spec.x).reindex(levels)
            heights = chosen[spec.y].to_numpy() / unit.factor
            places = np.arange(len(levels)) + (number - (len(series) - 1) / 2) * width
            _draw(
                ax,
                places,
                heights,
                width * 0.92,
                is_lying=is_lying,
                color=style.COLOURS[number % len(style.COLOURS)],
                hatch=_HATCHES[number % len(_HATCHES)],
                edgecolor="white",
                label=str(level),
            )
            error_bars.draw(ax, places, chosen, spec.y, unit.factor, _ERROR, error_bars.Look(is_lying))
            _number(ax, places, 8, chosen, spec.y, unit, is_lying=is_lying)
        _name_bars(ax, levels, spec, is_lying=is_lying)
    label = style.axis_label(spec.y_label or spec.y, unit)
    _measure(axes[0], float(np.nanmax(error_bars.ends_of(runs, spec.y))) / unit.factor, label, is_lying=is_lying)
    error_bars.add_note(figure, all_runs)
    if spec.by:
        axes[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    return figure


def _is_lying(levels: list[Any], spec: FigureSpec) -> bool:
    """Whether bars lie, which leaves room for their names."""
    longest = max((len(level_text(level)) for level in levels), default=0)
    return spec.by is None and spec.panel is None and len(levels) > _MANY_BARS and longest > _LONG_NAME


def _left(levels: list[Any], *, is_lying: bool) -> float:
    """Room at the left of the axes, in inches: for names of bars that lie, else for the axis."""
    longest = max((len(level_text(level)) for level in levels), default=0)
    return 0.45 + longest * _NAME_INCHES_PER_LETTER if is_lying else style.Margins.left


def _bottom(levels: list[Any], shown: pd.DataFrame, *, is_lying: bool) -> float:
    """Room below the axes, in inches: for names of bars that stand, which are written aslant, and for a note."""
    longest = max((len(level_text(level)) for level in levels), default=0)
    note = error_bars.NOTE_INCHES if error_bars.has_any(shown) else 0
    return note + (0.75 if is_lying else 0.95 + max(0, longest - 14) * _NAME_INCHES_PER_LETTER * 0.45)


def _right(series: list[Any], spec: FigureSpec) -> float:
    """Room at the right of the axes, in inches, for the legend."""
    longest = max((len(str(level)) for level in series), default=0) if spec.by else 0
    return max(style.Margins.right, 0.6 + longest * _NAME_INCHES_PER_LETTER)


def _draw(ax: Any, places: Any, lengths: Any, width: float, *, is_lying: bool, start: Any = 0, **look: Any) -> None:
    """Bars side by side, or one below the other."""
    if is_lying:
        ax.barh(places, lengths, height=width, left=start, **look)
    else:
        ax.bar(places, lengths, width=width, bottom=start, **look)


def _number(ax: Any, places: Any, size: float, rows: pd.DataFrame, measure: str, unit: Unit, *, is_lying: bool) -> None:
    """Each bar's length at its end, beyond its error bar."""
    lengths = rows[measure].to_numpy(dtype=float) / unit.factor
    ends = error_bars.tops_of(rows, measure) / unit.factor
    arrows = error_bars.arrows_of(rows) * error_bars.ARROW_POINTS
    for place, length, end, arrow in zip(places, lengths, ends, arrows, strict=True):
        if np.isfinite(length):
            at, away = ((end, place), (4 + arrow, 0)) if is_lying else ((place, end), (0, 3 + arrow))
            align = {"ha": "left", "va": "center"} if is_lying else {"ha": "center"}
            ax.annotate(format_count(length), at, away, textcoords="offset points", fontsize=size, **align)


def _measure(ax: Any, largest: float, label: str, *, is_lying: bool) -> None:
    """The axis along the bars: from nothing to above the longest, with its name."""
    along = ax.xaxis if is_lying else ax.yaxis
    (ax.set_xlim if is_lying else ax.set_ylim)(0, largest * _HEADROOM)
    along.set_label_text(label)


def _name_bars(ax: Any, levels: list[Any], spec: FigureSpec, *, is_lying: bool) -> None:
    """Levels at the bars' feet, and no grid between them."""
    names = [level_text(level) for level in levels]
    numbers = FuncFormatter(lambda value, _: format_count(value))
    if is_lying:
        ax.set_yticks(range(len(levels)), names)
        ax.set_ylim(len(levels) - 0.4, -0.6)
        ax.grid(visible=False, axis="y")
        ax.xaxis.set_major_formatter(numbers)
        return
    is_long = max((len(name) for name in names), default=0) > _LONG_NAME
    ax.set_xticks(range(len(levels)), names, rotation=25 if is_long else 0, ha="right" if is_long else "center")
    ax.grid(visible=False, axis="x")
    ax.yaxis.set_major_formatter(numbers)
    ax.set_xlabel(spec.x_label or spec.x)
