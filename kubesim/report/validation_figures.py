"""The figures of a validation: what is predicted against what was measured, and the error of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from kubesim.report import style
from kubesim.tables import read_parquet
from kubesim.units import format_count

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW_INCHES = 0.185
_ERRORS_WIDTH_INCHES = 4.6
_TARGET_NAMES_INCHES = 5.2
_MET, _MISSED = style.COLOURS[0], style.COLOURS[1]
_KINDS = (
    ("predicted, met", "predicted", True),
    ("predicted, missed", "predicted", False),
    ("fitted, met", "fitted", True),
    ("fitted, missed", "fitted", False),
)
_FAMILIES = {
    "rules": ("rules",),
    "ratios": ("ratio",),
    "per second": ("per s",),
    "Gbit/s, Mbit/s": ("Gbit/s", "Mbit/s"),
    "s, µs, ns": ("s", "µs", "ns"),
    "ns per byte or rule": ("ns per byte", "ns per rule"),
}
"""Units that have a marker in common."""


def draw_validation(directory: Path, manifest: dict[str, Any]) -> list[Path]:
    """Draw ``predicted-against-measured`` and ``errors`` of what ``kubesim validate --out`` wrote."""
    targets = read_parquet(directory / "targets.parquet")
    provenance = dict(manifest["provenance"])
    figures = directory / "figures"
    written = style.save(_against(targets), figures / "predicted-against-measured", provenance)
    return written + style.save(_errors(targets), figures / "errors", provenance)


def _against(targets: pd.DataFrame) -> Figure:
    """Both values of each target on logarithmic axes, in the target's own unit."""
    title = "Published figures, predicted against measured"
    figure, (ax,) = style.new_figure([""], title, (5.4, 5.0), style.Margins(right=2.3, top=0.75))
    for (family, units), marker in zip(_FAMILIES.items(), style.MARKERS, strict=False):
        for _, role, is_met in _KINDS:
            rows = targets[targets["unit"].isin(units) & (targets["role"] == role) & (targets["is_met"] == is_met)]
            _dots(ax, rows["measured"], rows["predicted"], marker, role, is_met=is_met)
        ax.plot([], [], marker=marker, linestyle="", color="#606060", label=family)
    lowest = float(targets[["measured", "predicted"]].min().min()) / 2
    highest = float(targets[["measured", "predicted"]].max().max()) * 2
    ax.plot([lowest, highest], [lowest, highest], color="#606060", linewidth=1, zorder=1)
    ax.fill_between([lowest, highest], [lowest / 2, highest / 2], [lowest * 2, highest * 2], color="#f0f0f0", zorder=0)
    ax.annotate("grey: within a factor of 2", (0.97, 0.03), xycoords="axes fraction", ha="right", fontsize=9)
    ax.set(xscale="log", yscale="log", xlim=(lowest, highest), ylim=(lowest, highest))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
        axis.set_minor_locator(NullLocator())
    ax.set_xlabel("measured, each in its own unit")
    ax.set_ylabel("predicted")
    _name_kinds(ax)
    return figure


def _errors(targets: pd.DataFrame) -> Figure:
    """The ratio of predicted to measured, a row for each target and its tolerance as a grey bar."""
    height = _ROW_INCHES * (len(targets) + targets["machine"].nunique())
    margins = style.Margins(left=_TARGET_NAMES_INCHES, right=1.9, top=0.7)
    title = "The error of each prediction"
    figure, (ax,) = style.new_figure([""], title, (_ERRORS_WIDTH_INCHES, height), margins)
    place, names = 0.0, {}
    for machine, rows in targets.groupby("machine", sort=False):
        names[place] = f"{machine}:"
        place += 1
        for row in rows.to_dict("records"):
            names[place] = row["what"] + (f" [{row['source']}]" if rows["source"].nunique() > 1 else "")
            low, high = 1 - row["tolerance"], 1 + row["tolerance"]
            ax.plot([low, high], [place, place], color="#d5d5d5", linewidth=8, solid_capstyle="butt", zorder=1)
            ratio = row["predicted"] / row["measured"]
            _dots(ax, [ratio], [place], "o", row["role"], is_met=row["is_met"])
            place += 1
    ax.axvline(1, color="#606060", linewidth=1)
    ax.set_xscale("log")
    ax.set_ylim(place - 0.3, -0.7)
    ax.xaxis.set_major_locator(FixedLocator([0.25, 0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 3, 4]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.set_xlabel("predicted over measured; grey: what counts as met")
    ax.set_yticks(list(names), list(names.values()), fontsize=8)
    for label, name in zip(ax.get_yticklabels(), names.values(), strict=True):
        label.set_fontweight("bold" if name.endswith(":") else "normal")
    ax.grid(visible=False, axis="y")
    _name_kinds(ax)
    return figure


def _dots(ax: Axes, x: Any, y: Any, marker: str, role: str, *, is_met: bool) -> None:
    """Points: filled where predicted, hollow where fitted."""
    colour = _MET if is_met else _MISSED
    face = colour if role == "predicted" else "white"
    ax.plot(x, y, marker, markersize=5.5, color=colour, markerfacecolor=face, markeredgewidth=1.3, zorder=3)


def _name_kinds(ax: Axes) -> None:
    """A legend of what colours and filling mean."""
    for name, role, is_met in _KINDS:
        colour = _MET if is_met else _MISSED
        face = colour if role == "predicted" else "white"
        ax.plot([], [], "o", color=colour, markerfacecolor=face, markeredgewidth=1.3, label=name)
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=9)
