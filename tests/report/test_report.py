"""Figures: drawn from data alone, the same bytes each time, and labels that do not hide each other."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.cost import DEFAULT_COST_SET, load_cost_set
from kubesim.errors import InputError
from kubesim.figure import FigureSpec, level_label, level_text
from kubesim.report import draw_directory, style
from kubesim.report.groups import GROUPS, group_of
from kubesim.report.lines import draw_lines
from kubesim.scenario import save_result
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


def test_every_operation_has_a_group() -> None:
    operations = [name for name in load_cost_set(DEFAULT_COST_SET).operations if name != "core_wakeup"]
    assert {name: group_of(name) for name in operations if group_of(name) == "other"} == {}
    assert {group_of(name) for name in operations} <= set(GROUPS)


def test_levels_as_people_read_them() -> None:
    assert [level_text(level) for level in (10_000, 1024, 1.5, True, "x")] == ["10k", "1,024", "1.5", "yes", "x"]
    assert level_label({"name": "ipvs", "scheduler": "lc"}) == "ipvs (scheduler=lc)"
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
