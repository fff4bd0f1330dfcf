"""The figures of a single run: how latencies are spread, and where the time goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kubesim.report import style
from kubesim.report.data import read_parquet
from kubesim.report.groups import GROUPS, group_of
from kubesim.units import format_count, unit_of

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure


def draw_run(directory: Path, manifest: dict[str, Any]) -> list[Path]:
    """Draw ``latency`` and ``breakdown`` of what ``kubesim run --out`` wrote."""
    provenance = dict(manifest["provenance"])
    name = manifest["name"]
    transactions = read_parquet(directory / "transactions.parquet")
    breakdown = read_parquet(directory / "breakdown.parquet")
    written = []
    latencies = transactions.loc[transactions["is_measured"] & transactions["is_complete"], "latency_ns"].to_numpy()
    if len(latencies):
        written += style.save(_latency(latencies, name), directory / "figures" / "latency", provenance)
    if breakdown["is_cpu"].any():
        written += style.save(_breakdown(breakdown, name), directory / "figures" / "breakdown", provenance)
    return written


def _latency(latencies: Any, name: str) -> Figure:
    """The share of transactions that took at most so long, with percentiles marked."""
    unit = unit_of("latency_ns", float(np.median(latencies)))
    figure, (ax,) = style.new_figure([""], f"{name}: latency of transactions", (5.4, 3.2), style.Margins(right=0.4))
    ordered = np.sort(latencies) / unit.factor
    share = np.arange(1, len(ordered) + 1) / len(ordered)
    ax.step(ordered, share * 100, where="post", color=style.COLOURS[0], linewidth=2)
    for percent in (50, 90, 99):
        value = float(np.percentile(ordered, percent, method="inverted_cdf"))
        ax.plot([value], [percent], marker="o", color=style.COLOURS[1], markersize=6)
        text = f"p{percent}  {format_count(value)} {unit.name}"
        ax.annotate(text, (value, percent), (9, -4), textcoords="offset points", va="top", color=style.COLOURS[1])
    ax.set_xlim(left=0, right=float(np.percentile(ordered, 99.9)) * 1.15)
    ax.set_ylim(0, 104)
    ax.set_xlabel(style.axis_label("latency", unit))
    ax.set_ylabel("transactions that took at most so long (%)")
    return figure


def _breakdown(breakdown: pd.DataFrame, name: str) -> Figure:
    """CPU time per transaction by group, the largest first, with the dearest operations named."""
    cpu = breakdown[breakdown["is_cpu"]].assign(group=lambda table: table["operation"].map(group_of))
    totals = cpu.groupby("group")["ns_per_transaction"].sum().sort_values()
    unit = unit_of("time_ns", float(totals.max()))
    title = f"{name}: CPU time per transaction, all hosts"
    figure, (ax,) = style.new_figure([""], title, (6.6, 0.1 + 0.42 * len(totals)), style.Margins(left=2.4, right=0.3))
    largest = float(totals.max()) / unit.factor
    for place, (group, total) in enumerate(totals.items()):
        value = float(total) / unit.factor
        ax.barh(place, value, height=0.7, color=GROUPS[str(group)], edgecolor="#505050", linewidth=0.6)
        dearest = cpu[cpu["group"] == group].nlargest(3, "ns_per_transaction")["operation"]
        text = f"{format_count(value)} {unit.name}   {', '.join(dearest)}"
        ax.annotate(text, (value, place), (6, 0), textcoords="offset points", va="center", fontsize=9, color="#404040")
    ax.set_yticks(range(len(totals)), [str(group) for group in totals.index])
    ax.set_xlim(0, largest * 1.75)
    ax.grid(visible=False, axis="y")
    ax.set_xlabel(style.axis_label("CPU time", unit))
    return figure
