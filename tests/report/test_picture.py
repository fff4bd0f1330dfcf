"""Tables drawn in Python: as figures of experiments are, the same each time, and wrong ones refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import kubesim
from kubesim.errors import InputError
from kubesim.figure import FigureSpec
from kubesim.report import style
from kubesim.report.bars import draw_bars
from kubesim.report.lines import draw_lines

RUNS = pd.DataFrame(
    {
        "services": [1, 10, 100] * 2,
        "proxy": ["iptables"] * 3 + ["nftables"] * 3,
        "first_packet_ns": [1000.0, 2000.0, 30_000.0, 1500.0, 1500.0, 1500.0],
    }
)
X_AND_Y = ("services", "first_packet_ns")


@pytest.mark.parametrize(("kind", "draw"), [("lines", draw_lines), ("bars", draw_bars)])
def test_it_is_drawn_as_in_an_experiment(kind: str, draw: Any) -> None:
    words: dict[str, Any] = {"by": "proxy", "title": "What it costs", "y_label": "CPU time"}
    picture = kubesim.draw_frame(RUNS, *X_AND_Y, kind=kind, **words)
    spec = FigureSpec.model_validate({"name": "any", "x": "services", "y": "first_packet_ns", "kind": kind, **words})
    assert picture.svg() == style.svg_text(draw(spec, RUNS), picture.provenance)
    assert picture._repr_svg_() == picture.svg()


def test_a_picture_is_kept_in_a_file(tmp_path: Path) -> None:
    picture = kubesim.draw_frame(RUNS, *X_AND_Y, by="proxy")
    file = picture.save(tmp_path / "costs.svg")
    assert file.read_text("utf-8") == picture.svg()
    assert picture.save(str(tmp_path / "costs.png")).read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match=r"a picture is a \.png or \.svg file"):
        picture.save(tmp_path / "costs.pdf")


def test_where_and_relative_to_choose_as_in_an_experiment() -> None:
    one = kubesim.draw_frame(RUNS, *X_AND_Y, where={"proxy": "iptables"})
    assert one.svg() == kubesim.draw_frame(RUNS[RUNS["proxy"] == "iptables"], *X_AND_Y).svg()
    share = kubesim.draw_frame(RUNS, *X_AND_Y, by="proxy", relative_to="nftables")
    lines = {float(y) for line in share.figure.axes[0].lines for y in np.asarray(line.get_ydata())}
    assert lines == {1.0, 1000 / 1500, 2000 / 1500, 20.0}


@pytest.mark.parametrize(
    ("x", "y", "shown", "message"),
    [
        ("servces", "first_packet_ns", {}, "wants 'servces', which was not measured: did you mean 'services'?"),
        ("services", "first_packet", {}, "did you mean 'first_packet_ns'?"),
        ("proxy", "first_packet_ns", {}, "proxy holds no numbers to draw lines along: kind: bars can show them"),
        ("services", "proxy", {}, "'proxy' holds what is no number"),
        ("services", "first_packet_ns", {"kind": "pie"}, "kind: there is no 'pie': known: bars, breakdown, lines"),
        ("services", "first_packet_ns", {"kind": "breakdown"}, "not a breakdown"),
        ("services", "first_packet_ns", {"colour": "red"}, "colour: unknown field"),
        ("services", "first_packet_ns", {"where": {"proxy": "ipvs"}}, "no row has anything to show"),
    ],
)
def test_what_cannot_be_drawn_is_said(x: str, y: str, shown: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        kubesim.draw_frame(RUNS, x, y, **shown)
    assert str(caught.value).startswith("draw_frame: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
