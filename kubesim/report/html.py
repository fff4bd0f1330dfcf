"""Writes a page about a directory of results, from nothing but the data in it."""

from __future__ import annotations

import shlex
from collections import Counter
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pandas as pd
import yaml
from pydantic import ValidationError

from kubesim.errors import InputError
from kubesim.figure import TableSpec
from kubesim.files import read_json, read_manifest
from kubesim.report.data import (
    SweepManifest,
    read_measures,
    read_stored_runs,
    require_columns,
    run_manifest,
    sweep_manifest,
)
from kubesim.report.data_table import Column, DataTable, factor_label, level_table, numbers_of, shown_level, text_table
from kubesim.report.draw import sweep_figures
from kubesim.report.evidence_tables import evidence_tables
from kubesim.report.groups import group_of
from kubesim.report.inline_svg import inline_svg
from kubesim.report.page import CheckedExpectation, Page, PageFigure, write_page
from kubesim.report.run_figures import run_figures
from kubesim.report.settings_tables import fixed_tables, varied_tables
from kubesim.report.time_tables import time_by_levels, time_of_run
from kubesim.scenario.spec import Scenario
from kubesim.stats.latency_table import read_latencies
from kubesim.tables import read_parquet
from kubesim.units import counted, format_measure, measure_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from kubesim.report.data import StoredRun
    from kubesim.report.drawn import DrawnFigure
    from kubesim.stats.latencies import Latencies

FILE_NAME = "report.html"
"""What a page is called in the directory that it is about."""

_ORIGIN = ("kubesim_version", "seed", "cost_set", "scenario_sha256", "run_id")
_NUMBERS = ("is_cpu", "total_ns", "ns_per_transaction")
_LATENCY = ("is_measured", "is_complete", "latency_ns")
_TIME = ("operation", *_NUMBERS)


def write_report(
    directory: Path,
    path: Path | None = None,
    expectations: Sequence[CheckedExpectation] | None = None,
    on_left_out: Callable[[str], None] = lambda _why: None,
) -> Path:
    """Write one HTML file about a sweep or a single run, that needs nothing else to be read.

    Parameters
    ----------
    directory
        What ``kubesim sweep`` or ``kubesim run --out`` wrote.
    path
        The file; ``report.html`` in the directory if not given.
    expectations
        What was expected of the results and how it ended, if somebody has held it against them.
    on_left_out
        Called with what to say of each figure or table that cannot be made of the runs that are finished.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If there are no such results, or they are damaged.
    OutputError
        If the file cannot be written.
    """
    manifest = read_manifest(directory)
    left_out: list[str] = []
    if manifest["kind"] == "sweep":
        page = _sweep_page(directory, manifest, expectations, left_out)
    elif manifest["kind"] == "run":
        page = _run_page(directory, manifest, expectations)
    else:
        raise InputError(f"{directory} holds a {manifest['kind']}: a report is about a sweep or a run")
    written = path or directory / FILE_NAME
    write_page(page, written)
    for why in left_out:
        on_left_out(why)
    return written


def _sweep_page(
    directory: Path, raw: dict[str, Any], expectations: Sequence[CheckedExpectation] | None, left_out: list[str]
) -> Page:
    """What there is to say of a sweep; what is left out is added to a list."""
    manifest = sweep_manifest(directory, raw)
    stored: dict[int, StoredRun] = {}
    scenarios: dict[int, Scenario] = {}
    experiment = manifest.experiment
    parts: dict[str, Any] = {}
    if manifest.finished_runs:
        runs = read_parquet(directory / "runs.parquet")
        breakdown = read_parquet(directory / "breakdown.parquet")
        require_columns(runs, ("run", "replication", *manifest.factors, *_ORIGIN), directory / "runs.parquet")
        require_columns(breakdown, ("run", *_TIME, *manifest.factors), directory / "breakdown.parquet", _NUMBERS)
        stored = read_stored_runs(directory, runs)
        scenarios, unread = _scenarios(stored)
        evidence, missing = evidence_tables(scenarios, breakdown)
        if len(stored) < len(runs):
            missing.append(
                f"the scenarios of {counted(len(runs) - len(stored), 'run')} are not in {directory.name}/runs"
            )
        varying = [name for name in _factors(manifest) if runs[name].nunique(dropna=False) > 1]
        time = time_by_levels(breakdown, varying)
        latencies = read_latencies(directory)
        drawn = sweep_figures(directory, raw, left_out.append, has_titles=False)
        parts = {
            "figures": tuple(_figures(drawn, directory, latencies)),
            "tables": tuple(_tables(manifest, runs, latencies, varying, directory, left_out)),
            "evidence": tuple(evidence),
            "evidence_notes": (*unread, *missing),
            "time": () if time is None else (time,),
            "provenance": tuple(_provenance(manifest, runs)),
            "runs": _runs(runs, varying),
        }
    return Page(
        title=experiment.name,
        subtitle=f"Sweep of {counted(manifest.planned_runs, 'run')}",
        question=experiment.question.strip(),
        expectation=experiment.expectation.strip(),
        alarms=(*_alarms(manifest), *_refusals(stored.values()), *left_out),
        expectations=None if expectations is None else tuple(expectations),
        varied=tuple(varied_tables(_factors(manifest), list(scenarios.values()))),
        held_fixed=tuple(fixed_tables(list(scenarios.values()))),
        notices=tuple(manifest.notices),
        command=f"kubesim sweep {experiment.name}.yaml",
        source_name=f"{experiment.name}.yaml",
        source=_yaml(_as_written(raw["experiment"])),
        **parts,
    )


def _run_page(directory: Path, raw: dict[str, Any], expectations: Sequence[CheckedExpectation] | None) -> Page:
    """What there is to say of a single run."""
    manifest = run_manifest(directory, raw)
    origin = manifest.provenance
    breakdown = read_parquet(directory / "breakdown.parquet")
    transactions = read_parquet(directory / "transactions.parquet")
    require_columns(breakdown, _TIME, directory / "breakdown.parquet", _NUMBERS)
    require_columns(transactions, _LATENCY, directory / "transactions.parquet", _LATENCY)
    measures = read_measures(directory / "summary.json")
    scenario, problem = _scenario(origin.scenario)
    scenarios = {} if scenario is None else {0: scenario}
    evidence, missing = evidence_tables(scenarios, breakdown.assign(run=0))
    rows = tuple((measure_label(name), format_measure(name, value)) for name, value in measures.items())
    columns = (Column("measure", is_header=True), Column("value", is_number=True))
    time = time_of_run(breakdown)
    return Page(
        title=manifest.name,
        subtitle="A single run",
        is_sweep=False,
        question="" if scenario is None else scenario.description.strip(),
        alarms=tuple(f"{counted(count, 'connection')} got nowhere: {why}" for why, count in manifest.refusals.items()),
        expectations=None if expectations is None else tuple(expectations),
        figures=tuple(_figures(run_figures(directory, raw, has_titles=False), directory, {})),
        tables=(DataTable("Measures", columns, rows),),
        held_fixed=tuple(fixed_tables(list(scenarios.values()))),
        evidence=tuple(evidence),
        evidence_notes=(*([problem] if problem else []), *missing),
        time=() if time is None else (time,),
        notices=tuple(manifest.notices),
        provenance=(
            ("kubesim", origin.kubesim_version),
            ("seed", origin.seed),
            ("replication", origin.replication),
            ("cost set", origin.cost_set),
            ("scenario (SHA-256)", origin.scenario_sha256),
            _maker(),
        ),
        command=f"kubesim run scenario.yaml --out {shlex.quote(f'results/{manifest.name}')}",
        source_name="scenario.yaml",
        source=_yaml(read_json(directory / "scenario.json")),
    )


def _factors(manifest: SweepManifest) -> dict[str, list[Any]]:
    """The factors, without the number of the repetition."""
    return {name: levels for name, levels in manifest.factors.items() if name != "replication"}


def _scenarios(stored: dict[int, StoredRun]) -> tuple[dict[int, Scenario], list[str]]:
    """The scenario of each run, and why some cannot be read."""
    found: dict[int, Scenario] = {}
    problems: dict[str, None] = {}
    for number, one in stored.items():
        scenario, problem = _scenario(one.provenance.scenario)
        if scenario is not None:
            found[number] = scenario
        elif problem:
            problems[problem] = None
    return found, list(problems)


def _scenario(text: str) -> tuple[Scenario | None, str]:
    """A scenario as results keep it, or why this version cannot read it."""
    try:
        return Scenario.model_validate_json(text), ""
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        return (
            None,
            f"this version of kubesim cannot read the scenario that is kept with the results ({place}: {first['msg']})",
        )


def _alarms(manifest: SweepManifest) -> Iterator[str]:
    """What is missing of a sweep."""
    if not manifest.finished_runs:
        yield "No run is finished: there is nothing to show yet."
    elif not manifest.is_complete:
        yield (
            f"This sweep is incomplete: {manifest.finished_runs:,} of {counted(manifest.planned_runs, 'run')} are "
            "finished, and what follows is of these alone."
        )


def _refusals(stored: Iterable[StoredRun]) -> list[str]:
    """Why connections got nowhere, and in how many runs."""
    reasons = Counter(why for one in stored for why in one.refusals)
    return [f"In {counted(count, 'run')}, connections got nowhere: {why}" for why, count in reasons.items()]


def _figures(drawn: Iterable[DrawnFigure], directory: Path, latencies: Mapping[int, Latencies]) -> Iterator[PageFigure]:
    """Figures with their numbers."""
    for place, one in enumerate(drawn, 1):
        numbers = None
        if one.spec is not None and one.table is not None:
            table = one.table
            if one.spec.kind == "breakdown":
                table = table.assign(group=table["operation"].map(group_of))
            numbers = numbers_of(one.spec, table, directory, latencies)
        yield PageFigure(one.name, one.title, inline_svg(one.figure, f"f{place}", one.title), numbers)


def _tables(
    manifest: SweepManifest,
    runs: pd.DataFrame,
    latencies: Mapping[int, Latencies],
    varying: list[str],
    directory: Path,
    left_out: list[str],
) -> Iterator[DataTable]:
    """The tables that an experiment asks for, else latency and throughput by the factors that vary."""
    rows = varying or list(_factors(manifest)) or ["replication"]
    usual = [TableSpec(value=measure, rows=rows) for measure in ("latency_p50_ns", "throughput_per_s")]
    for spec in manifest.experiment.tables or usual:
        table = level_table(spec, runs, directory, latencies)
        if table is not None:
            yield table
        else:
            title = spec.title or measure_label(spec.value)
            left_out.append(f"the table {title!r} is left out: no finished run has anything to show in it")


def _provenance(manifest: SweepManifest, runs: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """What made a sweep's results."""
    yield "kubesim", _distinct(runs["kubesim_version"])
    yield "runs", f"{manifest.finished_runs:,} of {manifest.planned_runs:,}"
    yield "replications of each combination", str(runs["replication"].nunique())
    yield "seed", _distinct(runs["seed"])
    yield "cost set", _distinct(runs["cost_set"])
    yield _maker()


def _maker() -> tuple[str, str]:
    """What this page was made with, as far as it decides how figures look."""
    packages = ("kubesim", "matplotlib", "pandas", "numpy")
    return "this page", ", ".join(f"{name} {metadata.version(name)}" for name in packages)


def _distinct(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def _runs(runs: pd.DataFrame, varying: Sequence[str]) -> DataTable:
    """Every run with its levels, and which scenario it was of."""
    names = ["run", *varying, "replication", "seed", "scenario_sha256"]
    heads = ["run", *map(factor_label, varying), "replication", "seed", "scenario (SHA-256)"]
    rows = [[*map(shown_level, row)] for row in runs[names].astype(object).itertuples(index=False, name=None)]
    return text_table("All runs", heads, rows)


def _as_written(experiment: dict[str, Any]) -> dict[str, Any]:
    """An experiment without what its figures and tables do not use."""
    shown = {
        field: [
            {name: value for name, value in one.items() if value not in (None, "", {})} for one in experiment[field]
        ]
        for field in ("tables", "figures")
        if experiment.get(field)
    }
    return {**experiment, **shown}


def _yaml(data: Any) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=100)
