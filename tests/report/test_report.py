"""Figures: drawn from data alone, the same bytes each time, and labels that do not hide each other."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kubesim.cost import DEFAULT_COST_SET, load_cost_set
from kubesim.errors import InputError
from kubesim.experiment import load_experiment, sweep
from kubesim.figure import FigureSpec, level_label, level_text
from kubesim.report import draw_directory, style
from kubesim.report.bars import draw_bars
from kubesim.report.draw import draw_table
from kubesim.report.groups import GROUPS, group_of
from kubesim.report.lines import draw_lines
from kubesim.scenario import save_result
from kubesim.units import Unit
from tests.scenarios import simulate


def test_the_figures_of_a_run(tmp_path: Path) -> None:
    result = simulate()
    drawn = []
    for name in ("one", "two"):
        save_result(result, tmp_path / name, with_packets=True)
        drawn.append([file.read_bytes() for file in draw_directory(tmp_path / name)])
    assert drawn[0] == drawn[1]
    names = {file.name for file in (tmp_path / "one" / "figures").iterdir()}
    assert names == {"latency.png", "latency.svg", "breakdown.png", "breakdown.svg"}
    png = (tmp_path / "one" / "figures" / "latency.png").read_bytes()
    assert result.provenance["scenario_sha256"].encode() in png
    assert b"<dc:date>" not in (tmp_path / "one" / "figures" / "latency.svg").read_bytes()


def test_a_run_in_which_nothing_was_delivered_has_no_latency_to_draw(tmp_path: Path) -> None:
    save_result(simulate(cluster={"endpoints": 0}), tmp_path / "out")
    assert {file.stem for file in draw_directory(tmp_path / "out")} == {"breakdown"}
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["latency_p50_ns"] is None


@given(st.lists(st.floats(-10, 10), max_size=12), st.floats(0.1, 3))
def test_labels_are_spread_in_order(positions: list[float], gap: float) -> None:
    placed = style.spread_labels(positions, gap)
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    for before, after in itertools.pairwise(order):
        assert placed[after] - placed[before] >= gap * 0.999
    if all(b - a >= gap for a, b in itertools.pairwise(sorted(positions))):
        assert placed == pytest.approx(positions), "labels with room stay"


def test_axes_are_logarithmic_where_numbers_span_decades() -> None:
    rows = pd.DataFrame(
        {"n": [1, 10, 100, 1000] * 2, "p": ["a"] * 4 + ["b"] * 4, "t_ns": [10, 20, 200, 2000, 9, 9, 9, 9]}
    )
    spec = FigureSpec(name="f", x="n", y="t_ns", by="p")
    (ax,) = draw_lines(spec, rows).axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    (ax,) = draw_lines(spec, rows.assign(n=rows["n"].map({1: 1, 10: 2, 100: 3, 1000: 4}), t_ns=5.0)).axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "linear")
    assert ax.get_ylim()[0] == 0
    assert {text.get_text() for text in ax.texts} == {"a", "b"}, "lines are labelled at their ends"


def test_the_highest_marker_is_below_the_top_on_all_panels() -> None:
    rows = pd.DataFrame({"n": [1, 2] * 2, "p": ["a"] * 2 + ["b"] * 2, "t_ns": [10.0, 20.0, 30.0, 40.0]})
    for ax in draw_lines(FigureSpec(name="f", x="n", y="t_ns", panel="p"), rows).axes:
        assert ax.get_ylim() == pytest.approx((0, 42.4))


def test_axes_end_above_means_not_above_single_runs() -> None:
    rows = pd.DataFrame({"n": [1, 2] * 2, "replication": [0, 0, 1, 1], "t_ns": [10.0, 20.0, 10.0, 60.0]})
    (lines,) = draw_lines(FigureSpec(name="f", x="n", y="t_ns"), rows).axes
    assert lines.get_ylim() == pytest.approx((0, 42.4))
    (bars,) = draw_bars(FigureSpec(name="f", kind="bars", x="n", y="t_ns"), rows).axes
    assert bars.get_ylim() == pytest.approx((0, 44))


def test_a_place_where_a_run_has_no_number_is_not_drawn() -> None:
    rows = pd.DataFrame(
        {"n": [1, 2, 3] * 2, "replication": [0] * 3 + [1] * 3, "t_ns": [10.0, 20.0, math.nan, 20.0, math.nan, math.nan]}
    )
    (ax,) = draw_table(FigureSpec(name="f", x="n", y="t_ns"), rows, "a table").axes
    (line,) = ax.lines
    assert line.get_xydata() == pytest.approx(np.array([[1, 15]]))


def test_large_numbers_along_an_axis_are_short() -> None:
    rows = pd.DataFrame({"n": [1, 2], "p": ["a", "b"], "rate_per_s": [200_000.0, 250_000.0]})
    for draw, spec in (
        (draw_lines, FigureSpec(name="f", x="n", y="rate_per_s")),
        (draw_bars, FigureSpec(name="f", x="p", y="rate_per_s")),
    ):
        (ax,) = draw(spec, rows).axes
        assert ax.yaxis.get_major_formatter()(250_000) == "250k"


def test_many_bars_with_long_names_lie() -> None:
    names = [f"plugin-{number} (a-setting=its-value)" for number in range(8)]
    spec = FigureSpec(name="f", kind="bars", x="cni", y="rate_per_s", x_label="CNI plugin", y_label="rate")
    for shown, is_lying in ((names, True), (names[:3], False)):
        rows = [{"cni": name, "rate_per_s": 100 + place} for place, name in enumerate(shown)]
        figure = draw_bars(spec, pd.DataFrame(rows))
        FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
        (ax,) = figure.axes
        named, measured = (ax.yaxis, ax.xaxis) if is_lying else (ax.xaxis, ax.yaxis)
        assert [label.get_text() for label in named.get_ticklabels()] == shown, "in the order of the levels"
        assert measured.get_label_text().startswith("rate")
        if is_lying:
            assert ax.yaxis_inverted(), "the first is at the top"
            assert min(label.get_window_extent().x0 for label in named.get_ticklabels()) >= 0


def test_lines_of_a_label_are_about_as_long_as_each_other() -> None:
    assert style.axis_label("CPU time of a first packet, p50 to p99", Unit(1e3, "µs")).count("\n") == 0
    first, second = style.axis_label("latency of a connection's first request, p50 to p99", Unit(1e3, "µs")).split("\n")
    assert abs(len(first) - len(second)) < 10


def test_the_axis_of_latencies_fits_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures: dict[str, Figure] = {}

    def keep(figure: Figure, stem: Path, _provenance: dict[str, str]) -> list[Path]:
        figures[stem.name] = figure
        return []

    monkeypatch.setattr(style, "save", keep)
    save_result(simulate(traffic={"workload": "tcp_crr", "transactions": 200}), tmp_path / "out")
    draw_directory(tmp_path / "out")
    latencies = pd.read_parquet(tmp_path / "out" / "transactions.parquet").query("is_measured")["latency_ns"] / 1e3
    (ax,) = figures["latency"].axes
    low, high = ax.get_xlim()
    assert low == pytest.approx(latencies.min(), rel=0.1)
    assert high == pytest.approx(latencies.quantile(0.999), rel=0.1)
    for figure in figures.values():
        FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
        width = figure.bbox.width
        for text in figure.axes[0].texts:
            assert text.get_window_extent().x1 < width, text.get_text()
    (ax,) = figures["breakdown"].axes
    longest = max(patch.get_width() for patch in ax.patches if isinstance(patch, Rectangle))
    assert longest > 0.8 * ax.get_xlim()[1]


def test_a_figure_of_a_complete_sweep_that_can_show_nothing(tmp_path: Path) -> None:
    file = tmp_path / "experiment.yaml"
    file.write_text(
        "{name: e, scenario: {cni: calico-bgp, proxy: none, cluster: {services: 1, endpoints: 0},"
        " traffic: {workload: tcp_rr, transactions: 5}},"
        " factors: {cluster.nodes: [2, 3]}, figures: [{name: f, x: cluster.nodes, y: latency_p50_ns}]}"
    )
    experiment, runs = load_experiment(file)
    sweep(experiment, runs, tmp_path / "out", workers=1)
    left_out: list[str] = []
    assert draw_directory(tmp_path / "out", left_out.append) == []
    assert left_out == ["the figure f is left out: no finished run has anything to show in it"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    manifest["experiment"]["figures"][0]["where"] = {"cluster.nodes": 4}
    (tmp_path / "out" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="figure f has nothing to show: no run has what it asks for"):
        draw_directory(tmp_path / "out")


def test_every_operation_has_a_group() -> None:
    operations = [name for name in load_cost_set(DEFAULT_COST_SET).operations if name != "core_wakeup"]
    assert {name: group_of(name) for name in operations if group_of(name) == "other"} == {}
    assert {group_of(name) for name in operations} <= set(GROUPS)


def test_levels_as_people_read_them() -> None:
    assert [level_text(level) for level in (10_000, 1024, 1.5, True, "x")] == ["10k", "1,024", "1.5", "yes", "x"]
    assert level_label({"name": "ipvs", "scheduler": "lc"}) == "ipvs (scheduler=lc)"
    assert level_label({"name": "calico-bgp", "has_policy_chains": False}) == "calico-bgp (has_policy_chains=false)"
    assert level_label({"workload": "tcp_rr", "clients": 3}) == "tcp_rr"
    assert level_label(["a", "b"]) == "a, b"


def test_directories_without_results(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no results of kubesim: there is no manifest\.json"):
        draw_directory(tmp_path)
    for text, message in (
        ("{", "line 1"),
        ("[]", "is not a manifest of kubesim"),
        ('{"kind": "x"}', "is not a manifest"),
    ):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(InputError, match=message):
            draw_directory(tmp_path)


def test_damaged_tables(tmp_path: Path) -> None:
    save_result(simulate(), tmp_path / "out")
    (tmp_path / "out" / "transactions.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match=r"transactions\.parquet is damaged"):
        draw_directory(tmp_path / "out")
