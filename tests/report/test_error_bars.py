"""Error bars: where they are drawn, how long they are, and what is said of them."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from kubesim.figure import FigureSpec
from kubesim.report.bars import draw_bars, draw_breakdown
from kubesim.report.draw import draw_table
from kubesim.report.error_bars import HIGH, with_intervals
from kubesim.report.lines import draw_lines
from kubesim.stats.intervals import mean_interval
from kubesim.stats.latencies import Latencies

LINES = FigureSpec(name="f", x="n", y="t_ns")
BARS = FigureSpec(name="f", kind="bars", x="n", y="t_ns")


def table(*replications: list[float], **more: Any) -> pd.DataFrame:
    """Runs: for each replication, what the levels 1, 2, … gave."""
    rows = [
        {"n": place, "replication": number, "t_ns": value, **more}
        for number, values in enumerate(replications)
        for place, value in enumerate(values, start=1)
    ]
    return pd.DataFrame(rows)


def bars_of(ax: Axes) -> list[list[float]]:
    """Both ends of each error bar along the vertical axis."""
    collections = [one for one in ax.collections if isinstance(one, LineCollection)]
    return [sorted(float(y) for _, y in segment) for one in collections for segment in one.get_segments()]


def notes_of(ax: Axes) -> list[str]:
    """What is written below a figure."""
    return [text.get_text() for text in ax.get_figure(root=True).texts]  # type: ignore[union-attr]


@pytest.mark.parametrize("spec", [LINES, BARS])
@given(st.lists(st.integers(100, 900), min_size=2, max_size=6, unique=True))
def test_bars_are_intervals_over_replications(spec: FigureSpec, values: list[int]) -> None:
    (ax,) = draw_table(spec, table(*([float(value), 500.0] for value in values)), "a table").axes
    interval = mean_interval(values)
    assert bars_of(ax) == [pytest.approx([interval.low, interval.high])], "what never differs has no bar"
    assert notes_of(ax) == [f"Error bars: 95 % confidence intervals over {len(values)} replications"]


@pytest.mark.parametrize("spec", [LINES, BARS])
def test_nothing_is_drawn_or_said_where_nothing_is_known(spec: FigureSpec) -> None:
    for rows in (
        table([10.0, 20.0]),
        table([10.0, 20.0], [10.0, 20.0]),
        table([10.0, 20.0]).drop(columns="replication"),
    ):
        (ax,) = draw_table(spec, rows, "a table").axes
        assert (bars_of(ax), notes_of(ax)) == ([], [])


def test_shares_have_the_intervals_of_shares() -> None:
    rows = pd.concat([table([10.0], [20.0], p="a"), table([11.0], [20.0], p="b")])
    spec = FigureSpec(name="f", kind="bars", x="n", y="t_ns", by="p", relative_to="a")
    (ax,) = draw_table(spec, rows, "a table").axes
    interval = mean_interval([1.1, 1.0])
    assert bars_of(ax) == [pytest.approx([interval.low, interval.high])], "each replication is held against its own"


def test_an_arrow_leads_to_an_end_beyond_all_that_was_seen() -> None:
    rows = table([10.0], [11.0]).assign(run=[0, 1])[["run", "n", "replication", "t_ns"]]
    rows = rows.rename(columns={"t_ns": "latency_p99_ns"})
    latencies = {run: Latencies((1, 2), (5, 10 + run)) for run in (0, 1)}
    found = with_intervals(rows, ["n"], "latency_p99_ns", latencies)
    assert (found[HIGH] == math.inf).all()
    for draw in (draw_lines, draw_bars):
        (ax,) = draw(FigureSpec(name="f", kind="bars", x="n", y="latency_p99_ns"), found).axes
        assert notes_of(ax)[0].replace("\n", " ").endswith("over 2 replications; arrows: ends beyond all that was seen")


@pytest.mark.parametrize("spread", [0.5, 5.0])
def test_axes_are_not_stretched_by_wide_intervals(spread: float) -> None:
    rows = table([100.0, 1000.0 * (1 - spread / 10)], [100.0, 1000.0 * (1 + spread / 10)]).rename(columns={"t_ns": "t"})
    for spec in (LINES, BARS):
        (ax,) = draw_table(spec.model_copy(update={"y": "t"}), rows, "a table").axes
        low, high = ax.get_ylim()
        assert high < 1800
        assert low == 0 or (ax.get_yscale() == "log" and low > 50)


def test_a_breakdown_has_the_interval_of_its_total() -> None:
    rows = [
        {"run": run, "n": 1, "replication": run, "operation": name, "is_cpu": True, "ns_per_transaction": time}
        for run, times in enumerate([(60.0, 40.0), (70.0, 50.0)])
        for name, time in zip(("tcp_send", "vxlan_encapsulate"), times, strict=True)
    ]
    (ax,) = draw_breakdown(FigureSpec(name="f", kind="breakdown", x="n"), pd.DataFrame(rows)).axes
    interval = mean_interval([100, 120])
    assert bars_of(ax) == [pytest.approx([interval.low, interval.high])]
