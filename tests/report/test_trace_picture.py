"""Pictures of packets' ways: the same bytes each time, nothing cut, and no text over another."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

from kubesim.errors import InputError
from kubesim.report import draw_trace
from kubesim.report.trace_boxes import USUAL, inches, shortened, wrapped
from kubesim.report.trace_picture import trace_figure
from kubesim.scenario import trace
from tests.scenarios import CNIS, PROXIES, scenario

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SLACK_PIXELS = 2.0
"""What the boxes around two texts may have in common: there is nothing of a letter at their edges."""


def check_texts(figure: Figure) -> list[str]:
    """All texts of a figure, none of which is cut by its edge or hides another."""
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    texts = [one for one in figure.axes[0].texts if one.get_text().strip()]
    extents = [(one.get_window_extent(renderer), one.get_text()) for one in texts]
    width, height = figure.bbox.width, figure.bbox.height
    for box, words in extents:
        assert box.x0 >= 0, words
        assert box.y0 >= 0, words
        assert box.x1 <= width, words
        assert box.y1 <= height, words
    for (one, words), (other, other_words) in itertools.combinations(extents, 2):
        across = min(one.x1, other.x1) - max(one.x0, other.x0)
        down = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert min(across, down) < SLACK_PIXELS, f"{words!r} is over {other_words!r}"
    return [words for _, words in extents]


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("cni", CNIS)
def test_every_way_can_be_drawn(cni: str, proxy: str) -> None:
    found = trace(scenario(cni=cni, proxy=proxy), "client-1", "svc-04")
    words = check_texts(trace_figure(found))
    assert f"delivered to {found.packets[0].delivered_to}" in words
    assert {"node-1", "node-2", "root namespace", "namespace default/client-1", "wire"} <= set(words)


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_same_bytes_each_time(ending: str, tmp_path: Path) -> None:
    files = [
        draw_trace(trace(scenario(), "client-1", "svc-04"), tmp_path / f"{n}.{ending}", ["first", "reply"])
        for n in (1, 2)
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert {file.name for file in tmp_path.iterdir()} == {f"1.{ending}", f"2.{ending}"}, "nothing is left beside them"
    assert b"<dc:date>" not in files[0].read_bytes()


def test_where_a_packet_ends_is_said() -> None:
    refused = trace(scenario(cluster={"endpoints": 0}), "client-1", "svc-04")
    words = " ".join(check_texts(trace_figure(refused)))
    assert (
        "got nowhere: connection refused, rejected by filter/FORWARD of node-1: default/svc-04 has no endpoints"
        in words
    )
    lost = trace(scenario(), "client-1", "8.8.8.8")
    words = " ".join(check_texts(trace_figure(lost)))
    assert "got nowhere: 8.8.8.8 is not in the cluster" in words
    assert "network wire" in words, "the card has sent it"


def test_a_pod_that_calls_itself() -> None:
    found = trace(scenario(cluster={"endpoints": 1}), "svc-04-0", "svc-04")
    words = check_texts(trace_figure(found, ["first", "first_reply"]))
    assert words.count("namespace default/svc-04-0") == 4, "it is left and entered, twice"


def test_wires_are_below_and_above_where_many_machines_are_passed() -> None:
    found = trace(scenario(), "client-1", "svc-04")
    packet = found.packet("first")
    ways = [("node-1", "node-2"), ("node-3", "node-4"), ("node-5", "node-6")]
    hops = tuple(
        one._replace(hop=one.hop._replace(host=way[one.hop.host == "node-2"])) for way in ways for one in packet.hops
    )
    path = replace(packet.path, hops=tuple(one.hop for one in hops))
    figure = trace_figure(replace(found, packets=(replace(packet, hops=hops, path=path),)))
    check_texts(figure)
    places = {one.get_text(): one.get_position() for one in figure.axes[0].texts}
    across = [places[f"node-{number}"][0] for number in (1, 2, 4, 6)]
    assert across == sorted(across), "each column is to the right of the one before"
    wires = [one.get_position()[1] for one in figure.axes[0].texts if one.get_text() == "wire"]
    machines = [places[f"node-{number}"][1] for number in range(1, 7)]
    assert wires[0] < min(machines) < max(machines) < wires[1]


def test_large_counts_and_long_names() -> None:
    chosen = scenario(
        cluster={"services": 10_000, "endpoint_nodes": None, "nodes": 2},
        traffic={"clients_on": ["node-1"]},
        cni="calico-ipip",
    )
    check_texts(trace_figure(trace(chosen, "client-1", "svc-09999")))


@pytest.mark.parametrize("name", ["way.pdf", "way", "svg"])
def test_other_files_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        draw_trace(trace(scenario(), "client-1", "svc-04"), tmp_path / name)
    assert str(caught.value) == f"picture: {tmp_path / name}: a picture is a .png or .svg file"
    assert not [*tmp_path.iterdir()]


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80), st.floats(0.3, 4))
def test_wrapped_lines_fit_and_lose_nothing(words: str, width: float) -> None:
    lines = wrapped(words, USUAL, width)
    assert all(inches(line, USUAL) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == words.replace(" ", "")
    short = shortened(words, USUAL, width)
    assert inches(short, USUAL) <= width or not short
    assert short in ("", words) or words.startswith(short[:-1])
