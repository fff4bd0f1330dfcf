"""Pages: complete, well-formed, the same bytes each time, and nothing in them but what we wrote is markup."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import html5lib
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesim.errors import InputError, OutputError
from kubesim.experiment import load_experiment
from kubesim.figure import TableSpec
from kubesim.report import CheckedExpectation, write_report
from kubesim.report.data_table import level_table, text_table
from kubesim.report.page import Page, render
from kubesim.scenario import evidence, save_result
from kubesim.stats.intervals import mean_interval
from kubesim.units import format_estimate
from tests.report.sweeps import EXPERIMENT, HOSTILE, LONG_WORD, make_sweep
from tests.scenarios import scenario, simulate

XHTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"
PRINTED = HOSTILE.replace("\x1b", "\N{REPLACEMENT CHARACTER}")


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep's directory; tests that change it copy it."""
    return make_sweep(tmp_path_factory.mktemp("sweep"))


@pytest.fixture
def copied(swept: Path, tmp_path: Path) -> Path:
    """A sweep's directory to spoil."""
    return Path(shutil.copytree(swept, tmp_path / "out", ignore=shutil.ignore_patterns("*.html")))


def page_of(directory: Path, **arguments: Any) -> ET.Element:
    """The page about a directory, as a browser reads it, if it is well-formed."""
    return parse(write_report(directory, **arguments).read_text("utf-8"))


def parse(text: str) -> ET.Element:
    """A page, if it is well-formed."""
    parser = html5lib.HTMLParser(tree=html5lib.getTreeBuilder("etree"), strict=True)
    page: ET.Element = parser.parse(text)
    return page


def text_of(element: ET.Element) -> str:
    return " ".join("".join(element.itertext()).split())


@pytest.fixture(scope="module")
def page(swept: Path) -> ET.Element:
    """The page about the sweep."""
    return page_of(swept)


def sections(page: ET.Element) -> dict[str, ET.Element]:
    """The sections by the name of what they are labelled by."""
    return {one.get("aria-labelledby", ""): one for one in page.iter(f"{XHTML}section")}


def tables(section: ET.Element) -> dict[str, list[list[str]]]:
    """The tables of a section by name: cells, heads first."""
    return {
        str(table.get("aria-label")): [[text_of(cell) for cell in row] for row in table.iter(f"{XHTML}tr")]
        for table in section.iter(f"{XHTML}table")
    }


def test_all_of_an_experiment_is_on_its_page(swept: Path, page: ET.Element) -> None:
    found = sections(page)
    assert list(found) == [
        "at-a-glance", "figures", "tables", "varied", "held-fixed", "evidence", "time", "provenance",
    ]  # fmt: skip
    pictures = [svg.get("aria-label") for svg in page.iter(f"{SVG}svg")]
    assert pictures == [f"Lines {PRINTED}", "Bars", "time", "Shares"]
    assert all(svg.get("role") == "img" for svg in page.iter(f"{SVG}svg"))
    assert list(tables(found["tables"])) == [f"Latency {PRINTED}", "CPU time per transaction"]
    assert [row[0] for row in tables(found["varied"])["Factors"][1:]] == ["proxy", "cluster.services", "name"]
    assert ["cni", "flannel-host-gw"] in tables(found["held-fixed"])["Chosen"]
    assert ["hardware.mtu", "1,500"] in tables(found["held-fixed"])["Defaults"]
    assert ["proxy.scheduler", "lc"] in tables(found["held-fixed"])["Chosen"]
    (time,) = tables(found["time"]).values()
    assert len(time) == 1 + 8
    runs = tables(found["provenance"])["All runs"]
    stored = pd.read_parquet(swept / "runs.parquet")
    assert [row[-1] for row in runs[1:]] == stored["scenario_sha256"].tolist()


def test_links_of_the_contents_lead_to_headings(page: ET.Element) -> None:
    headings = {one.get("id") for one in page.iter(f"{XHTML}h2")}
    links = [str(one.get("href")) for one in page.iter(f"{XHTML}a")]
    assert {link.removeprefix("#") for link in links} == headings | {"content"}
    assert len([*page.iter(f"{XHTML}h1")]) == 1


def test_numbers_are_those_of_the_runs(swept: Path) -> None:
    runs = pd.read_parquet(swept / "runs.parquet")
    spec = TableSpec(value="latency_p50_ns", rows=["proxy"], columns="cluster.services", where={"name": "plain"})
    table = level_table(spec, runs, swept)
    assert table is not None
    assert [column.name for column in table.columns] == ["proxy", "1", "20"]
    assert "2 replications" in table.note
    for row in table.rows:
        for services, cell in zip((1, 20), row[1:], strict=True):
            chosen = runs[
                (runs["proxy"] == row[0]) & (runs["cluster.services"] == services) & (runs["name"] == "plain")
            ]
            interval = mean_interval(chosen["latency_p50_ns"].to_numpy())
            assert cell == format_estimate("latency_p50_ns", interval.estimate, interval.half_width)
            assert "±" in cell


def test_rows_are_in_order_and_what_is_not_known_is_a_dash() -> None:
    rows = [("b", 2, 1.0), ("a", 10, 2.0), ("b", 1, 3.0), ("a", 2, float("nan"))]
    runs = pd.DataFrame(rows, columns=["p", "n", "t_ns"]).assign(replication=0)
    table = level_table(TableSpec(value="t_ns", rows=["p", "n"]), runs, Path())
    assert table is not None
    assert table.rows == (("b", "1", "3 ns"), ("b", "2", "1 ns"), ("a", "10", "2 ns"))
    across = level_table(TableSpec(value="t_ns", rows=["p"], columns="n"), runs, Path())
    assert across is not None
    assert across.rows == (("b", "3 ns", "1 ns", "–"), ("a", "–", "–", "2 ns"))
    assert across.note == ""
    assert level_table(TableSpec(value="t_ns", rows=["p"], where={"p": "c"}), runs, Path()) is None


def test_the_numbers_of_a_figure(swept: Path, page: ET.Element) -> None:
    found = tables(sections(page)["figures"])
    runs = pd.read_parquet(swept / "runs.parquet")
    share = {row[0]: row[1:] for row in found["Shares"]}
    assert share["iptables"] == ["100 ± 0 %", "100 ± 0 %"]
    assert share["proxy"] == ["1", "20"]
    heads, *rows = found["time"][1:]
    assert heads[:2] == ["services", "proxy"]
    assert "iptables rules" in heads
    assert [row[:2] for row in rows] == [
        ["1", "iptables"], ["1", "ipvs (scheduler=lc)"], ["20", "iptables"], ["20", "ipvs (scheduler=lc)"],
    ]  # fmt: skip
    assert len(found["Bars"]) == 2 + runs["name"].nunique()


def test_the_same_data_give_the_same_bytes(swept: Path, tmp_path: Path) -> None:
    first = write_report(swept, tmp_path / "one.html").read_bytes()
    again = Path(shutil.copytree(swept, tmp_path / "elsewhere" / "out"))
    assert write_report(again, tmp_path / "two.html").read_bytes() == first
    assert str(tmp_path).encode() not in first
    assert len(first) < 400_000


def test_text_stays_text(page: ET.Element) -> None:
    tags = Counter(str(one.tag).rpartition("}")[2] for one in page.iter())
    assert not tags.keys() & {"script", "img", "iframe", "object", "embed", "foreignObject", "form"}
    for one in page.iter():
        assert not [name for name in one.attrib if name.lower().startswith("on")]
        for name, value in one.items():
            if name.rpartition("}")[2] in ("href", "src", "action"):
                assert value.startswith(("#", "data:,")), value
    assert text_of(next(page.iter(f"{XHTML}p"))) == "Sweep of 16 runs"
    question = next(one for one in page.iter(f"{XHTML}p") if one.get("class") == "question")
    assert text_of(question) == f"{PRINTED} {LONG_WORD}"
    labels = [text_of(one) for svg in page.iter(f"{SVG}svg") for one in svg.iter(f"{SVG}text")]
    assert f"{PRINTED} {LONG_WORD}" in labels, "a level is a label, whole and as it is"


@given(st.text(max_size=80), st.text(max_size=80))
@settings(max_examples=60)
def test_any_text_stays_what_it_is(one: str, other: str) -> None:
    table = text_table(one, (other, one), [(one, other)])
    checked = CheckedExpectation(one, other, other, "holds", one)
    page = Page(
        one, other, question=f"q{one}", tables=(table,), notices=(one, other), expectations=(checked,), source=one
    )
    parsed = parse(render(page))
    assert "script" not in {str(tag.tag).rpartition("}")[2] for tag in parsed.iter()}
    question = next(tag for tag in parsed.iter(f"{XHTML}p") if tag.get("class") == "question")
    assert printable("".join(question.itertext())) == printable(f"q{one}")
    cells = [printable("".join(cell.itertext())) for cell in parsed.iter(f"{XHTML}td")]
    assert printable(other) in cells


def printable(text: str) -> str:
    """Text without what HTML cannot hold, and with line ends as it has them."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"[^\n\t -~]", "", lines.replace("\x7f", ""))


def test_nothing_is_asked_of_the_network(swept: Path, page: ET.Element) -> None:
    (policy,) = (one for one in page.iter(f"{XHTML}meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy.get("content") == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    text = (swept / "report.html").read_text("utf-8")
    assert not re.findall(r"@import|@font-face", text)
    links = {one.get("href") for one in page.iter(f"{XHTML}link")}
    assert links == {"data:,"}


def test_names_within_figures_are_their_own(swept: Path, page: ET.Element) -> None:
    names = [one.get("id") for one in page.iter() if one.get("id")]
    assert len(names) == len(set(names))
    text = (swept / "report.html").read_text("utf-8")
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(names)
    assert {link.removeprefix("#") for link in re.findall(r'href="(#[^"]+)"', text)} <= {f"{name}" for name in names}
    assert any("clip-path" in one.attrib for one in page.iter())


def test_the_evidence_is_that_of_the_runs(tmp_path: Path) -> None:
    result = simulate()
    save_result(result, tmp_path / "out")
    found = tables(sections(page_of(tmp_path / "out"))["evidence"])
    shown = Counter(row[0] for rows in found.values() for row in rows[1:])
    assert shown == Counter(one.operation for one in evidence(scenario()))
    assert [name.partition(":")[0] for name in found] == [
        kind for kind in ("Assumed", "Derived", "Published", "Given") if any(name.startswith(kind) for name in found)
    ]


def test_a_single_run(tmp_path: Path) -> None:
    result = simulate(name=f"run {HOSTILE}")
    save_result(result, tmp_path / "out")
    page = page_of(tmp_path / "out")
    found = sections(page)
    assert list(found) == ["figures", "tables", "held-fixed", "evidence", "time", "provenance"]
    assert [svg.get("aria-label") for svg in page.iter(f"{SVG}svg")] == [
        f"run {PRINTED}: latency of transactions", f"run {PRINTED}: CPU time per transaction, all hosts",
    ]  # fmt: skip
    measures = {row[0]: row[1] for row in tables(found["tables"])["Measures"]}
    assert measures["latency p99.9"].endswith(("µs", "ns"))
    assert result.provenance["scenario_sha256"] in text_of(found["provenance"])


def test_a_run_in_which_connections_got_nowhere(tmp_path: Path) -> None:
    save_result(simulate(cluster={"endpoints": 0}), tmp_path / "out")
    page = page_of(tmp_path / "out")
    (alarms,) = (one for one in page.iter(f"{XHTML}div") if one.get("class") == "alarms")
    assert "got nowhere" in text_of(alarms)
    measures = {row[0]: row[1] for row in tables(sections(page)["tables"])["Measures"]}
    assert measures["latency p50"] == "-"


def test_expectations_that_were_checked(swept: Path, tmp_path: Path) -> None:
    rows = [
        CheckedExpectation("p50 < 1 ms", "12 µs", "11 to 13 µs", "holds"),
        CheckedExpectation(HOSTILE, "3", "2 to 4", "fails", f"worst: {HOSTILE}"),
        CheckedExpectation("p99 < 1 ms", "–", "–", "cannot tell", "replications: 5"),
        CheckedExpectation("loss < 1 %", "0 %", "0 to 0 %", "holds"),
    ]
    glance = sections(page_of(swept, path=tmp_path / "checked.html", expectations=rows))["at-a-glance"]
    assert "2 hold 1 fails 1 cannot tell" in text_of(glance)
    found = tables(glance)["Expectations"][1:]
    assert [row[1] for row in found] == ["holds", "fails", "cannot tell", "holds"]
    assert found[1][0] == PRINTED
    assert "could be checked" in text_of(
        sections(page_of(swept, path=tmp_path / "none.html", expectations=[]))["at-a-glance"]
    )


def test_the_file_on_the_page_makes_the_results_again(page: ET.Element, tmp_path: Path) -> None:
    command, source = (text for one in page.iter(f"{XHTML}pre") if (text := "".join(one.itertext())))
    assert command == "kubesim sweep small.yaml"
    file = tmp_path / "small.yaml"
    file.write_text(source)
    (tmp_path / "original.yaml").write_text(yaml.safe_dump(EXPERIMENT, sort_keys=False))
    assert load_experiment(file) == load_experiment(tmp_path / "original.yaml")


def change_manifest(directory: Path, **changes: Any) -> None:
    manifest = json.loads((directory / "manifest.json").read_text())
    (directory / "manifest.json").write_text(json.dumps(manifest | changes))


def test_an_incomplete_sweep_says_so_on_top(copied: Path) -> None:
    runs, breakdown = (pd.read_parquet(copied / f"{name}.parquet") for name in ("runs", "breakdown"))
    kept = runs[runs["proxy"] == "iptables"]
    kept.to_parquet(copied / "runs.parquet")
    breakdown[breakdown["run"].isin(kept["run"])].to_parquet(copied / "breakdown.parquet")
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["experiment"]["figures"][1]["where"] = {"proxy": "ipvs (scheduler=lc)"}
    manifest["experiment"]["tables"][1]["where"] = {"proxy": "ipvs (scheduler=lc)"}
    change_manifest(copied, is_complete=False, finished_runs=8, experiment=manifest["experiment"])
    left_out: list[str] = []
    header = next(page_of(copied, on_left_out=left_out.append).iter(f"{XHTML}header"))
    assert "incomplete: 8 of 16 runs are finished" in text_of(header)
    assert "the figure bars is left out" in text_of(header)
    assert "the table 'CPU time per transaction' is left out" in text_of(header)
    assert len(left_out) == 2


def test_a_sweep_without_a_finished_run(copied: Path) -> None:
    for name in ("runs.parquet", "breakdown.parquet"):
        (copied / name).unlink()
    shutil.rmtree(copied / "runs")
    change_manifest(copied, is_complete=False, finished_runs=0)
    page = page_of(copied)
    assert "No run is finished" in text_of(next(page.iter(f"{XHTML}header")))
    assert list(sections(page)) == ["at-a-glance", "varied", "provenance"]


def test_results_whose_scenarios_or_costs_are_not_at_hand(copied: Path) -> None:
    files = sorted((copied / "runs").glob("*.json"))
    files[0].unlink()
    for file, field, value in ((files[1], "cni", "no-such-plugin"), (files[2], "costs", "gone.yaml (sha256 00)")):
        record = json.loads(file.read_text())
        stored = json.loads(record["provenance"]["scenario"])
        record["provenance"]["scenario"] = json.dumps(stored | {field: value})
        file.write_text(json.dumps(record))
    text = text_of(sections(page_of(copied))["evidence"])
    assert "the scenarios of 1 run are not in" in text
    assert "cannot read the scenario that is kept with the results (cni" in text
    assert "gone.yaml (sha256 00) is not at hand" in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("manifest.json", "{", "line 1"),
        ("manifest.json", "[" * 100_000, "nested too deeply"),
        ("manifest.json", '{"kind": "sweep"}', "manifest.json: kubesim_version"),
        ("manifest.json", '{"kind": "validation"}', "holds a validation"),
        ("runs.parquet", "PAR1 not really", "is damaged"),
        ("runs/FIRST.json", "{", "line 1"),
        ("runs/FIRST.json", "[]", "FIRST.json: a mapping is needed"),
        ("runs/FIRST.json", '{"id": "x"}', "FIRST.json: provenance"),
    ],
)
def test_damaged_results_are_one_line(copied: Path, name: str, content: str, message: str) -> None:
    first = pd.read_parquet(copied / "runs.parquet")["run_id"][0]
    name, message = name.replace("FIRST", first), message.replace("FIRST", first)
    assert (copied / name).exists()
    (copied / name).write_text(content)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        write_report(copied)
    assert "\n" not in str(caught.value)
    assert not (copied / "report.html").exists()


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("runs", {"seed": None}, "has no column 'seed'"),
        ("runs", {"proxy": None}, "has no column 'proxy'"),
        ("runs", {"latency_p50_ns": "x"}, "'latency_p50_ns' holds what is no number"),
        ("runs", {"cpu_ns_per_transaction": None}, "wants 'cpu_ns_per_transaction', which was not measured"),
        ("breakdown", {"operation": None}, "has no column 'operation'"),
        ("breakdown", {"total_ns": "x"}, "'total_ns' holds what is no number"),
    ],
)
def test_foreign_tables_are_one_line(copied: Path, name: str, changes: dict[str, Any], message: str) -> None:
    file = copied / f"{name}.parquet"
    table = pd.read_parquet(file)
    for column, value in changes.items():
        table = table.drop(columns=column) if value is None else table.assign(**{column: value})
    table.to_parquet(file)
    with pytest.raises(InputError, match=re.escape(message)):
        write_report(copied)


def test_a_damaged_run(tmp_path: Path) -> None:
    save_result(simulate(), tmp_path / "out")
    (tmp_path / "out" / "summary.json").write_text('{"latency_p50_ns": "x"}')
    with pytest.raises(InputError, match=r"summary\.json: measures\.latency_p50_ns"):
        write_report(tmp_path / "out")
    (tmp_path / "out" / "summary.json").unlink()
    with pytest.raises(InputError, match="cannot read"):
        write_report(tmp_path / "out")


def test_a_file_that_cannot_be_written(swept: Path, tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        write_report(swept, tmp_path / "in-the-way" / "page.html")
    with pytest.raises(OutputError, match="cannot write"):
        write_report(swept, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["in-the-way"]


def test_half_characters_do_not_hinder(copied: Path) -> None:
    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["experiment"]["question"] = "half \ud800 of one"
    change_manifest(copied, experiment=manifest["experiment"])
    assert html.escape("half \N{REPLACEMENT CHARACTER} of one") in write_report(copied).read_text("utf-8")
