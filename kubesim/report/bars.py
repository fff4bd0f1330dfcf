"""Bars: a measure by level, and the stacked breakdown of where the CPU time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter

from kubesim.figure import level_text
from kubesim.report import style
from kubesim.report.groups import GROUPS, group_of
from kubesim.units import Unit, format_count, unit_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kubesim.figure import FigureSpec

_HEADROOM = 1.1
"""Room above the tallest bar, for its number."""

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
    runs_per_cell = cpu.groupby([*([spec.panel] if spec.panel else []), spec.x])["run"].nunique()
    size = (0.3 + 0.72 * len(levels), 3.6)
    figure, axes = style.new_figure(
        [name for name, _ in panels], spec.title, size, style.Margins(right=2.3, bottom=0.95)
    )
    totals = cpu.groupby([*([spec.panel] if spec.panel else []), spec.x])["ns_per_transaction"].sum() / runs_per_cell
    unit = unit_of("ns_per_transaction", float(totals.max()))
    used = [group for group in GROUPS if group in set(cpu["group"])]
    for (_, rows), ax in zip(panels, axes, strict=True):
        table = rows.pivot_table(index=spec.x, columns="group", values="ns_per_transaction", aggfunc="sum", sort=False)
        runs = rows.groupby(spec.x)["run"].nunique()
        table = table.div(runs, axis=0).reindex(index=levels, columns=used).fillna(0) / unit.factor
        bottom = np.zeros(len(levels))
        for group in used:
            heights = table[group].to_numpy()
            ax.bar(
                range(len(levels)),
                heights,
                bottom=bottom,
                width=0.72,
                color=GROUPS[group],
                edgecolor="white",
                linewidth=0.7,
                hatch=_HATCHES[list(GROUPS).index(group) % len(_HATCHES)],
                label=group,
            )
            bottom += heights
        for place, total in enumerate(bottom):
            ax.annotate(
                format_count(total), (place, total), (0, 3), textcoords="offset points", ha="center", fontsize=9
            )
        _name_bars(ax, levels, spec)
    axes[0].set_ylim(0, float(totals.max()) / unit.factor * _HEADROOM)
    axes[0].set_ylabel(style.axis_label(spec.y_label or "CPU time per transaction, all hosts", unit))
    handles, labels = axes[0].get_legend_handles_labels()
    axes[-1].legend(handles[::-1], labels[::-1], loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    return figure


def draw_bars(spec: FigureSpec, runs: pd.DataFrame) -> Figure:
    """Draw a figure of kind ``bars``: groups of bars by ``x``, a bar for each level of ``by``.

    Parameters
    ----------
    spec
        What to show.
    runs
        Rows to show, those of other levels already left out.
    """
    levels = list(dict.fromkeys(runs[spec.x]))
    series = style.series_of(runs, spec.by)
    panels = style.panels_of(runs, spec.panel)
    size = (max(2.6, 0.4 + 0.4 * len(levels) * len(series)), 3.4)
    figure, axes = style.new_figure([name for name, _ in panels], spec.title, size, style.Margins(bottom=0.95))
    largest = float(np.nanmax(runs[spec.y].to_numpy(dtype=float)))
    unit = Unit(1, "") if spec.relative_to is not None else unit_of(spec.y, largest)
    width = 0.8 / len(series)
    for (_, rows), ax in zip(panels, axes, strict=True):
        for number, level in enumerate(series):
            chosen = style.rows_of(rows, spec.by, level)
            heights = chosen.groupby(spec.x)[spec.y].mean().reindex(levels).to_numpy() / unit.factor
            places = np.arange(len(levels)) + (number - (len(series) - 1) / 2) * width
            ax.bar(
                places,
                heights,
                width=width * 0.92,
                color=style.COLOURS[number % len(style.COLOURS)],
                hatch=_HATCHES[number % len(_HATCHES)],
                edgecolor="white",
                label=str(level),
            )
            for place, height in zip(places, heights, strict=True):
                if np.isfinite(height):
                    text = format_count(height)
                    ax.annotate(text, (place, height), (0, 3), textcoords="offset points", ha="center", fontsize=8)
        _name_bars(ax, levels, spec)
    axes[0].set_ylim(0, float(np.nanmax(runs[spec.y])) / unit.factor * _HEADROOM)
    axes[0].set_ylabel(style.axis_label(spec.y_label or spec.y, unit))
    if spec.by:
        axes[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
    return figure


def _name_bars(ax: Any, levels: list[Any], spec: FigureSpec) -> None:
    """Levels below the bars, and no vertical grid."""
    names = [level_text(level) for level in levels]
    is_long = max((len(name) for name in names), default=0) > 9
    ax.set_xticks(range(len(levels)), names, rotation=25 if is_long else 0, ha="right" if is_long else "center")
    ax.grid(visible=False, axis="x")
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
    ax.set_xlabel(spec.x_label or spec.x)
