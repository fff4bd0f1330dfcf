"""What people see of a sweep: how far it is, its tables, and what it would run."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from kubesim.cli.show import ERROR, OUT, add, new_table, notice, plain
from kubesim.errors import InputError, did_you_mean
from kubesim.figure import TableSpec, level_text
from kubesim.stats.latency_table import read_latencies
from kubesim.stats.replications import interval_of_rows
from kubesim.units import counted, format_measure, format_ns, measure_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from kubesim.experiment import Combination, Experiment, Forecast, Progress, SweepOutcome
    from kubesim.stats.intervals import Interval
    from kubesim.stats.latencies import Latencies

_COMBINATIONS_SHOWN = 40
_SHOWN_WIDTH = 0.0005
"""The narrowest interval, as a share of the estimate, that is worth a mention."""


@contextlib.contextmanager
def progress(name: str) -> Iterator[Callable[[Progress], None]]:
    """A progress bar on standard error; gives a function to call with how far it is.

    The bar is not there before the first call, so that what goes wrong before is said in one line. The time left is
    judged by the runs that are really run.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("runs,"),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    bar = Bar(*columns, console=ERROR)
    task = bar.add_task(escape(name), total=None)

    def advance(now: Progress) -> None:
        bar.start()
        there = f" ({now.reused} there already)" if now.reused else ""
        bar.update(
            task,
            description=escape(name) + there,
            total=now.planned - now.reused,
            completed=now.finished - now.reused,
        )

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()


def sweep(experiment: Experiment, outcome: SweepOutcome) -> None:
    """The tables of a sweep; where the experiment asks for none, two that have a row per combination of levels."""
    if not outcome.finished:
        return
    runs = pd.read_parquet(outcome.directory / "runs.parquet")
    if experiment.question:
        OUT.print(f"[bold]{escape(experiment.question.strip())}[/bold]", soft_wrap=True)
    latencies = read_latencies(outcome.directory)
    for spec in experiment.tables or _usual_tables(experiment, runs):
        _sweep_table(spec, runs, latencies)
    if outcome.reused:
        there = "all were" if outcome.reused == outcome.finished else f"{outcome.reused:,} were"
        OUT.print(f"{counted(outcome.finished, 'run')}, of which {there} there already", soft_wrap=True)
    OUT.print(f"tables and figures are in {escape(str(outcome.directory))}", soft_wrap=True)


def dry_run(experiment: Experiment, combinations: Sequence[Combination], found: Forecast, processes: int) -> None:
    """What a sweep would run, and how long it may take."""
    names = [name for name in experiment.factor_names() if len({one.levels[name] for one in combinations}) > 1]
    table = new_table(*names, "replications")
    for number, count in list(found.missing.items())[:_COMBINATIONS_SHOWN]:
        levels = combinations[number].levels
        add(table, *("" if levels[name] is None else level_text(levels[name]) for name in names), str(count))
    OUT.print(table)
    more = len(found.missing) - _COMBINATIONS_SHOWN
    if more > 0:
        OUT.print(f"and {counted(more, 'combination')} more")
    there = f"; {counted(found.reused, 'run')} {'is' if found.reused == 1 else 'are'} there already"
    OUT.print(f"{counted(found.runs, 'run')} to do{there if found.reused else ''}", soft_wrap=True)
    if found.runs:
        time = format_ns(found.lasting(processes) * 1e9)
        by = f"judging by {counted(found.samples, 'run')}"
        OUT.print(f"about {time} with {counted(processes, 'process', 'processes')}, {by}", soft_wrap=True)
    if experiment.precision is not None:
        OUT.print(f"more replications follow until {experiment.precision.within:.3g} of precision is reached")


def _usual_tables(experiment: Experiment, runs: pd.DataFrame) -> list[TableSpec]:
    """Latency and throughput by the factors that were varied."""
    factors = [name for name in experiment.factor_names() if runs[name].nunique() > 1]
    return [
        TableSpec(value=measure, rows=factors or experiment.factor_names() or ["replication"])
        for measure in ("latency_p50_ns", "throughput_per_s")
    ]


def _sweep_table(spec: TableSpec, runs: pd.DataFrame, latencies: Mapping[int, Latencies]) -> None:
    """A measure by some factors down and one across; a note if no run that is finished has it."""
    title = spec.title or measure_label(spec.value)
    for factor, level in spec.where.items():
        runs = runs[runs[factor] == level]
    if spec.value not in runs.columns:
        raise InputError(
            f"the table {title!r}: {spec.value!r} is not measured: {did_you_mean(spec.value, runs.columns)}"
        )
    if runs[spec.value].isna().all():
        notice(f"the table {title!r} is left out: no finished run has anything to show in it")
        return
    columns = [] if spec.columns is None else [spec.columns]
    runs = runs.dropna(subset=columns)
    cells = {
        levels: _cell(spec.value, interval_of_rows(spec.value, group, latencies))
        for levels, group in runs.groupby([*spec.rows, *columns], sort=False, dropna=False)
        if group[spec.value].notna().any()
    }
    across: list[Any] = list(dict.fromkeys(runs.loc[runs[spec.value].notna(), columns[0]])) if columns else []
    if all(isinstance(level, int | float) for level in across):
        across.sort()
    OUT.print(_filled(spec, title, across, cells))


def _cell(measure: str, interval: Interval) -> str:
    """An estimate, and how far off it may be: ``12.3 µs ±2%``, or ``±?`` where an end is beyond all that was seen."""
    shown = format_measure(measure, interval.estimate)
    if interval.is_open:
        return f"{shown} ±?"
    width = interval.relative_half_width
    return f"{shown} ±{width * 100:.2g}%" if _SHOWN_WIDTH <= width < float("inf") else shown


def _filled(spec: TableSpec, title: str, across: list[Any], cells: dict[Any, str]) -> Table:
    """The table of such cells; what a row has in common with the one above is not said again."""
    table = Table(box=SIMPLE_HEAD, title=plain(title), title_justify="left", title_style="bold", pad_edge=False)
    for factor in spec.rows:
        table.add_column(escape(factor.rpartition(".")[2].replace("_", " ")))
    for name in [level_text(level) for level in across] if across else [measure_label(spec.value)]:
        table.add_column(escape(name), justify="right")
    before: tuple[Any, ...] = ()
    for now in dict.fromkeys(levels[: len(spec.rows)] for levels in cells):
        shown = [
            "" if before[: place + 1] == now[: place + 1] else "-" if pd.isna(level) else level_text(level)
            for place, level in enumerate(now)
        ]
        row = [cells.get((*now, level), "-") for level in across] if across else [cells[now]]
        add(table, *shown, *row)
        before = now
    return table
