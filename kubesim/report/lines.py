"""Lines of a measure against a factor, with a band and a label at the end of each line."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from kubesim.figure import level_text
from kubesim.report import error_bars, style
from kubesim.units import Unit, format_count, unit_of

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from kubesim.figure import FigureSpec

_PANEL_INCHES = (3.5, 3.4)
_DECADES_FOR_LOG = 1.0
_TICK_DISTANCE, _TICK_LETTER = 0.03, 0.024
"""Of the width of the axes: what lies between two names of levels, and what each letter needs."""

_ENOUGH_DECADES = 3
_HEADROOM = 1.06
"""Room above the highest marker, on all panels alike."""

_LOG_MARGIN = 0.05
"""Room beyond the outermost numbers on a logarithmic axis, as a share of what lies between them."""

_SHIFT_POINTS = 2.5
"""How far the error bars of a line stand beside those of the next."""

_LABEL_HEIGHT = 0.062
"""Of the height of the axes: what one label needs."""


def draw_lines(spec: FigureSpec, runs: pd.DataFrame) -> Figure:
    """Draw a figure of kind ``lines``.

    Parameters
    ----------
    spec
        What to show.
    runs
        Rows to show, those of other levels already left out.
    """
    all_runs, intervals = runs, error_bars.columns_of(runs)
    runs = style.means_of(runs, (spec.x, spec.by, spec.panel), [spec.y, *(spec.band or ()), *intervals])
    panels = style.panels_of(runs, spec.panel)
    lines = style.series_of(runs, spec.by)
    longest = max(len(str(level)) for level in lines)
    below = style.Margins.bottom + (error_bars.NOTE_INCHES if intervals else 0)
    margins = style.Margins(right=0.35 + longest * style.LABEL_INCHES_PER_LETTER, bottom=below)
    figure, axes = style.new_figure([name for name, _ in panels], spec.title, _PANEL_INCHES, margins)
    largest = float(np.nanmax(runs[spec.y].to_numpy(dtype=float)))
    unit = Unit(1, "") if spec.relative_to is not None else unit_of(spec.y, largest)
    for (_, rows), ax in zip(panels, axes, strict=True):
        ends = [_line(ax, spec, rows, lines, number, unit) for number in range(len(lines))]
        _set_scales(ax, spec, runs, unit)
        ax.set_xlabel(spec.x_label or spec.x)
        if spec.by and ax is axes[-1]:
            _label_ends(ax, [end for end in ends if end is not None])
    axes[0].set_ylabel(style.axis_label(spec.y_label or spec.y, unit))
    error_bars.add_note(figure, all_runs)
    return figure


def _line(
    ax: Axes, spec: FigureSpec, rows: pd.DataFrame, lines: list[Any], number: int, unit: Unit
) -> tuple[float, float, str, str] | None:
    """Draw one line of all; the place of its end, its label and its colour."""
    level = lines[number]
    means = style.rows_of(rows, spec.by, level).set_index(spec.x).sort_index()
    means = means[means[spec.y].notna()]
    if means.empty:
        return None
    colour = style.COLOURS[number % len(style.COLOURS)]
    x = means.index.to_numpy(dtype=float)
    y = means[spec.y].to_numpy(dtype=float) / unit.factor
    if spec.band is not None:
        low, high = (means[column].to_numpy(dtype=float) / unit.factor for column in spec.band)
        ax.fill_between(x, low, high, color=colour, alpha=0.13, linewidth=0)
    ax.plot(
        x,
        y,
        color=colour,
        linestyle=style.DASHES[number % len(style.DASHES)],
        marker=style.MARKERS[number % len(style.MARKERS)],
        markersize=5,
        linewidth=2,
    )
    shift = (number - (len(lines) - 1) / 2) * _SHIFT_POINTS
    error_bars.draw(ax, x, means, spec.y, unit.factor, colour, error_bars.Look(shift_points=shift))
    return float(x[-1]), float(y[-1]), str(level), colour


def _label_ends(ax: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Write each line's name beside its end; moved labels keep the order of the lines."""
    to_axes = ax.transAxes.inverted()
    heights = [float(to_axes.transform(ax.transData.transform((x, y)))[1]) for x, y, _, _ in ends]
    for (x, y, name, colour), height in zip(ends, style.spread_labels(heights, _LABEL_HEIGHT), strict=True):
        ax.annotate(
            name,
            xy=(x, y),
            xytext=(1.03, height),
            textcoords="axes fraction",
            color=colour,
            fontweight="bold",
            fontsize=10,
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.7,
                "shrinkA": 0,
                "shrinkB": 4,
                "relpos": (0, 0.5),  # from the name's near end: its middle lies behind the name
            },
        )


def _set_scales(ax: Axes, spec: FigureSpec, runs: pd.DataFrame, unit: Unit) -> None:
    """Logarithmic axes where numbers span decades; ticks at the levels that were run."""
    levels = sorted({float(level) for level in runs[spec.x]})
    if _spans_decades(levels):
        ax.set_xscale("log")
        ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(_apart(levels, is_log=ax.get_xscale() == "log"))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: level_text(value)))
    values = runs[spec.y].to_numpy(dtype=float)
    reached = np.array([*error_bars.ends_of(runs, spec.y), *runs[list(spec.band or ())].to_numpy(dtype=float).ravel()])
    shown = values[np.isfinite(values) & (values > 0)] / unit.factor
    if spec.relative_to is None and len(shown) and _spans_decades([float(shown.min()), float(shown.max())]):
        ax.set_yscale("log")
        decades = math.log10(float(shown.max()) / float(shown.min()))
        ax.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5) if decades <= _ENOUGH_DECADES else (1,)))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_ylim(*_around(reached[np.isfinite(reached) & (reached > 0)] / unit.factor))
    else:
        ax.set_ylim(0, float(np.nanmax(reached)) / unit.factor * _HEADROOM or 1)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))


def _around(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Ends of a logarithmic axis that has room around values, which error bars that end at nothing do not have."""
    low, high = float(values.min()), float(values.max())
    room = (high / low) ** _LOG_MARGIN
    return low / room, high * room


def _apart(levels: list[float], *, is_log: bool) -> list[float]:
    """The levels whose names have room beside each other: powers of ten where they are enough, else as many as fit."""
    decades = [level for level in levels if is_log and math.log10(level) % 1 == 0]
    if len(decades) >= _ENOUGH_DECADES:
        return decades
    places = [math.log10(level) if is_log else level for level in levels]
    longest = max(len(level_text(level)) for level in levels)
    least = (places[-1] - places[0]) * (_TICK_DISTANCE + longest * _TICK_LETTER)
    kept = [len(levels) - 1]
    for place in range(len(levels) - 2, -1, -1):
        if places[kept[-1]] - places[place] >= least and (place == 0 or places[place] - places[0] >= least):
            kept.append(place)
    return [levels[place] for place in reversed(kept)]


def _spans_decades(values: list[float]) -> bool:
    return min(values) > 0 and math.log10(max(values) / min(values)) >= _DECADES_FOR_LOG
