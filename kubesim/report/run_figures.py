"""The figures of a single run: how latencies are spread, and where the time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter

from kubesim.report import style
from kubesim.report.drawn import DrawnFigure
from kubesim.report.groups import GROUPS, group_of
from kubesim.tables import read_parquet
from kubesim.units import format_count, unit_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matplotlib.figure import Figure

_ROOM_FOR_NUMBERS = 1.22
"""Width of the axis over the longest bar, which has its number behind it."""

_NAMES_AT = 1.03
"""Where names of operations begin, of the width of the axis."""


def run_figures(directory: Path, manifest: dict[str, Any], *, has_titles: bool = True) -> Iterator[DrawnFigure]:
    """``latency`` and ``breakdown`` of what ``kubesim run --out`` wrote; titles are in the figures if wanted."""
    transactions = read_parquet(directory / "transactions.parquet")
    breakdown = read_parquet(directory / "breakdown.parquet")
    latencies = transactions.loc[transactions["is_measured"] & transactions["is_complete"], "latency_ns"].to_numpy()
    if len(latencies):
        title = f"{manifest['name']}: latency of transactions"
        yield DrawnFigure("latency", title, _latency(latencies, title if has_titles else ""))
    if breakdown["is_cpu"].any():
        title = f"{manifest['name']}: CPU time per transaction, all hosts"
        yield DrawnFigure("breakdown", title, _breakdown(breakdown, title if has_titles else ""))


def _latency(latencies: Any, title: str) -> Figure:
    """The share of transactions that took at most so long, with percentiles marked."""
    unit = unit_of("latency_ns", float(np.median(latencies)))
    margins = style.Margins(right=1.3)  # the label of the last percentile runs into it
    figure, (ax,) = style.new_figure([""], title, (5.0, 3.2), margins)
    ordered = np.sort(latencies) / unit.factor
    share = np.arange(1, len(ordered) + 1) / len(ordered)
    ax.step(ordered, share * 100, where="post", color=style.COLOURS[0], linewidth=2)
    for percent in (50, 90, 99):
        value = float(np.percentile(ordered, percent, method="inverted_cdf"))
        ax.plot([value], [percent], marker="o", color=style.COLOURS[1], markersize=6)
        text = f"p{percent}  {format_count(value)} {unit.name}"
        ax.annotate(text, (value, percent), (9, -4), textcoords="offset points", va="top", color=style.COLOURS[1])
    lowest, highest = float(ordered[0]), float(np.percentile(ordered, 99.9))
    padding = 0.05 * (highest - lowest or highest or 1)
    ax.set_xlim(lowest - padding, highest + padding)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_count(value)))
    ax.set_ylim(0, 104)
    ax.set_xlabel(style.axis_label("latency", unit))
    ax.set_ylabel("transactions that took at most so long (%)")
    return figure


def _breakdown(breakdown: pd.DataFrame, title: str) -> Figure:
    """CPU time per transaction by group, the largest first, with the dearest operations named at the right."""
    cpu = breakdown[breakdown["is_cpu"]].assign(group=lambda table: table["operation"].map(group_of))
    totals = cpu.groupby("group")["ns_per_transaction"].sum().sort_values()
    unit = unit_of("time_ns", float(totals.max()))
    margins = style.Margins(left=2.4, right=3.6)
    figure, (ax,) = style.new_figure([""], title, (3.4, 0.1 + 0.42 * len(totals)), margins)
    largest = float(totals.max()) / unit.factor
    beside = ax.get_yaxis_transform()
    for place, (group, total) in enumerate(totals.items()):
        value = float(total) / unit.factor
        ax.barh(place, value, height=0.7, color=GROUPS[str(group)], edgecolor="#505050", linewidth=0.6)
        dearest = cpu[cpu["group"] == group].nlargest(3, "ns_per_transaction")["operation"]
        number = f"{format_count(value)} {unit.name}"
        ax.annotate(number, (value, place), (6, 0), textcoords="offset points", va="center", fontsize=9)
        ax.text(_NAMES_AT, place, ", ".join(dearest), transform=beside, va="center", fontsize=9, color="#606060")
    ax.set_yticks(range(len(totals)), [str(group) for group in totals.index])
    ax.set_xlim(0, largest * _ROOM_FOR_NUMBERS)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(style.axis_label("CPU time", unit))
    return figure
