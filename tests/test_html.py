"""Objects show themselves in Jupyter: well-formed, escaped, and with the numbers that they have."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kubesim
from kubesim import html
from kubesim.cost import cost_set_names
from kubesim.report import picture_of_trace
from kubesim.units import format_measure
from tests.scenarios import scenario

HOSTILE = "<script>alert('&amp;')</script>"
VOID = {"img", "br", "hr"}

words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


class _Page(HTMLParser):
    """Reads a page that closes whatever it opens, and keeps its rows and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.rows: list[list[str]] = []
        self.images: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.images += [value for name, value in attrs if name == "src" and value]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def page_of(shown: Any) -> _Page:
    """What an object shows, read; nothing in it does anything."""
    found = _Page(shown._repr_html_())
    assert not found.tags & {"script", "style", "iframe", "object"}
    return found


@given(st.lists(st.lists(words, min_size=3, max_size=3), max_size=4), words)
def test_any_text_comes_through_a_table(rows: list[list[str]], name: str) -> None:
    table = html.table(["a", "b", "c"], rows, numbers=["c"])
    found = _Page(html.shown(html.title(name), table, html.notes([name]), html.folded(name, html.preformatted(name))))
    assert found.rows[1:] == rows
    assert found.text.count(name) >= 4
    assert found.tags <= {"div", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "details",
                          "summary", "pre"}  # fmt: skip


def test_what_says_nothing_is_left_out() -> None:
    assert html.shown(html.notes([]), html.line(""), None) == "<div></div>"


def test_a_scenario_shows_what_was_given_apart_from_what_was_not() -> None:
    found = page_of(scenario(name=HOSTILE, description=HOSTILE))
    assert found.text.count(HOSTILE) == 2
    assert ["cluster.services", "10"] in found.rows
    assert ["traffic.clients_on", '["node-1"]'] in found.rows
    names = [row[0] for row in found.rows]
    assert names.index("cluster.services") < names.index("seed"), "defaults come last"
    assert len(set(names) - {"field"}) == len(names) - 2, "no field comes twice"


def test_a_result_shows_its_summary() -> None:
    refused = scenario(name=HOSTILE, cluster={"endpoints": 0}, traffic={"workload": "tcp_crr"})
    result = kubesim.run(refused)
    found = page_of(result)
    assert HOSTILE in found.text
    assert "got nowhere: connection refused" in found.text
    assert found.text.count("note:") == len(result.notices) + len(result.planned.refusals)
    values = {row[2]: row[1] for row in found.rows if len(row) == 3 and row[2] in result.summary}
    assert values == {name: format_measure(name, float(value)) for name, value in result.summary.items()}
    assert len(repr(result)) < 200 + len(HOSTILE), "a prompt is not flooded"


def test_a_trace_draws_itself(tmp_path: Path) -> None:
    found = kubesim.trace(scenario(), "client-1", "svc-04")
    page = page_of(found)
    (image,) = page.images
    svg = base64.b64decode(image.removeprefix("data:image/svg+xml;base64,")).decode()
    assert svg == found.picture().svg() == picture_of_trace(found)._repr_svg_()
    assert svg == kubesim.draw_trace(found, tmp_path / "way.svg").read_text("utf-8"), "the same as in a file"
    rules = {row[0]: row[-1] for row in page.rows if len(row) == 6}
    assert rules["first"] == str(found.packets[0].rules_tested)
    assert rules["established"] == str(found.packets[2].rules_tested)
    assert found.packets[0].text() in page.text
    assert len(found.picture("first", "reply").svg()) > len(svg)
    assert isinstance(found, kubesim.TraceResult)
    assert repr(found) == "<DrawnTrace from client-1 to svc-04: 4 packets>"
    assert repr(found.packets[0]).startswith("<TracedPacket: first packet: tcp")


def test_a_trace_that_leads_nowhere_says_why() -> None:
    found = kubesim.trace(scenario(cluster={"endpoints": 0}), "client-1", "svc-04")
    assert "nobody: connection refused" in page_of(found).text
    assert "got nowhere" in page_of(found.packets[0]).text


def test_evidence_shows_every_number() -> None:
    found = kubesim.evidence(scenario())
    rows = [row for row in page_of(found).rows if row[0] != "kind"]
    assert [row[:3] for row in rows] == [[one.kind.value, one.operation, one.number] for one in found]


@pytest.mark.parametrize("name", cost_set_names())
def test_a_cost_set_shows_every_number(name: str) -> None:
    costs = kubesim.load_cost_set(name)
    page = page_of(costs)
    assert len(page.rows) - 1 == sum(len(one.numbers()) for one in costs.operations.values())
    counts = re.findall(r"(\d+) (?:assumed|derived|published|measured|given)", page.text)
    assert sum(map(int, counts)) == len(page.rows) - 1


def test_an_experiment_shows_its_factors(repository: Path) -> None:
    experiment, _ = kubesim.load_experiment(repository / "experiments" / "overlay-against-l3.yaml")
    page = page_of(experiment)
    assert experiment.question in page.text
    assert [row[1] for row in page.rows[1:]] == [
        factor for block in experiment.factors for factor in block.factor_names()
    ]
    assert page.rows[1] == ["1", "cni", "flannel-vxlan, flannel-host-gw, calico-bgp (has_policy_chains=false)"]
    assert HOSTILE in page_of(experiment.model_copy(update={"question": HOSTILE})).text


def test_outcomes_of_rules_are_shown(tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    dump.write_text(f'*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m comment --comment "{HOSTILE}" -j DROP\nCOMMIT\n')
    flow = kubesim.Flow("10.0.0.1", "10.0.0.2", "tcp", 80)
    page = page_of(kubesim.trace_rules(flow, kubesim.read_dumps([dump]).install))
    assert page.rows[1] == ["10.0.0.2:80", "1", "DROP", "kept", "1 filter/FORWARD"]
    assert HOSTILE in page.text


def test_who_does_not_look_needs_no_drawing_library(tmp_path: Path) -> None:
    program = (
        "import sys, kubesim\n"
        "small = kubesim.Scenario(cluster={'services': 1}, cni='flannel-vxlan', proxy='none', traffic={'workload': 'tcp_rr'})\n"
        "kubesim.trace(small, 'client-1', 'svc-1'), kubesim.run(small)._repr_html_()\n"
        "assert 'matplotlib' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)
