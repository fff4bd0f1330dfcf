"""Tables for people."""

from __future__ import annotations

import contextlib
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from kubesim.errors import InputError, did_you_mean
from kubesim.figure import TableSpec, level_text
from kubesim.units import counted, format_measure, format_ns, measure_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from kubesim.experiment import Experiment, SweepOutcome
    from kubesim.kernel.rule_trace import Outcome
    from kubesim.scenario import Evidence, Result, TracedPacket, TraceResult
    from kubesim.twin.calibrate import Calibration
    from kubesim.twin.calibrate_user_mode import UserModeCalibration
    from kubesim.twin.run import Compared
    from kubesim.twin.steps import OnStep

_WIDTH_OF_A_PIPE = 140

_OUT = Console(highlight=False, emoji=False)  # `:100:` is a part of an address here
_ERROR = Console(stderr=True, highlight=False, emoji=False)
if not _OUT.is_terminal:
    _OUT.width = _WIDTH_OF_A_PIPE

_OPERATIONS_SHOWN = 12


def notices(texts: Iterable[str]) -> None:
    """Say what a person should know, beside the results."""
    for text in texts:
        notice(text)


def notice(text: str) -> None:
    """Say one such thing."""
    _ERROR.print(f"[yellow]note:[/yellow] {escape(text)}", soft_wrap=True)


def written(directory: Path) -> None:
    """Say where results are."""
    _OUT.print(f"written to {escape(str(directory))}", soft_wrap=True)


def put(what: Table | str) -> None:
    """Print a table, or a line in rich's markup."""
    _OUT.print(what, soft_wrap=isinstance(what, str))


def run(result: Result) -> None:
    """The summary of a run, and its dearest operations."""
    summary = result.summary
    table = _table("measure", "value")
    for name, value in summary.items():
        _add(table, measure_label(name), format_measure(name, float(value)))
    scenario = result.scenario
    _OUT.print(
        f"[bold]{escape(scenario.name)}[/bold]: {scenario.traffic.workload}, {scenario.cni.name}, {scenario.proxy.name}"
    )
    _OUT.print(table)
    for reason, flows in result.planned.refusals.items():
        _OUT.print(f"[red]{counted(flows, 'connection')} got nowhere:[/red] {escape(reason)}", soft_wrap=True)
    _operations(result)


def trace(found: TraceResult) -> None:
    """Every packet's hops."""
    for packet in found.packets:
        _OUT.print(f"\n[bold]{packet.kind.replace('_', ' ')}[/bold]  {escape(packet.sent)}", soft_wrap=True)
        _OUT.print(_hops(packet))
        _OUT.print(_ending(packet), soft_wrap=True)


def outcomes(found: Iterable[Outcome]) -> None:
    """What becomes of a packet, and with which probability."""
    table = _table("to", "probability", "verdict", "source", "rules tested")
    reasons = []
    for one in found:
        tested = ", ".join(f"{count} {place}" for place, count in one.rules_tested.items())
        source = "masqueraded" if one.is_masqueraded else "kept"
        _add(table, one.to, f"{one.probability:.4g}", one.verdict, source, tested)
        reasons += [one.reason] if one.reason else []
    _OUT.print(table)
    for reason in dict.fromkeys(reasons):
        _OUT.print(f"[red]got nowhere:[/red] {escape(reason)}", soft_wrap=True)


@contextlib.contextmanager
def progress(total: int, name: str) -> Iterator[Callable[[int], None]]:
    """A progress bar on standard error; gives a function to call with the number of finished runs.

    The bar is not there before the first call, so that what goes wrong before is said in one line.
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
    bar = Progress(*columns, console=_ERROR)
    task = bar.add_task(escape(name), total=total)

    def advance(finished: int) -> None:
        bar.start()
        bar.update(task, completed=finished)

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()


@contextlib.contextmanager
def steps() -> Iterator[OnStep]:
    """A bar on standard error that says what is being done; gives a function to call with each step."""
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=_ERROR, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda what, share: bar.update(task, description=escape(what), completed=share)


def compared(found: Iterable[Compared], cost_set: str) -> None:
    """Each way of a twin, measured and predicted."""
    table = _table("service", "to", "bytes", "connection", "rules", "best decile", "median", "predicted", "error")
    for one in found:
        _add(
            table,
            one.way.service,
            one.server,
            str(one.way.payload_bytes),
            "new" if one.way.is_new else "established",
            f"{one.rules:,}",
            format_ns(one.timing.best_ns),
            format_ns(one.timing.median_ns),
            format_ns(one.predicted_ns),
            f"{one.error_ratio:+.1%}",
        )
    _OUT.print(f"one packet from socket to socket, predicted by cost set [bold]{escape(cost_set)}[/bold]")
    _OUT.print(table)


def calibration(found: Calibration) -> None:
    """How well the new prices predict ways that they were not made from."""
    table = _table("way not used in the fit", "best decile", "predicted", "error")
    for one in found.held_out:
        predicted = format_ns(found.fit.predict_ns(one.hops, found.base))
        _add(table, one.way.name, format_ns(one.timing.best_ns), predicted, f"{found.error(one):+.1%}")
    _OUT.print(table)
    within = found.share_within(0.1, found.held_out)
    speed = found.fit.speed
    _OUT.print(
        f"{within:.0%} of them within 10 %; this machine takes {speed:.2f} times what {escape(found.base.name)} says"
    )


def calibration_as_json(found: Calibration, path: Path) -> dict[str, Any]:
    """The same for programs."""
    ways = [
        {
            "way": one.way.name,
            "best_decile_ns": one.timing.best_ns,
            "predicted_ns": found.fit.predict_ns(one.hops, found.base),
            "error_ratio": found.error(one),
        }
        for one in found.held_out
    ]
    return {"cost_set": str(path), "speed": found.fit.speed, "held_out": ways, "fitted_ways": len(found.fitted)}


def user_mode_calibration(found: UserModeCalibration) -> None:
    """What a user-mode kernel takes, brought to this machine's speed, and how its ways compare."""
    for title, estimates in (("price", found.prices), ("ratio in the one kernel", found.ratios)):
        table = _table(title, "value")
        for name, estimate in estimates.items():
            table.add_row(name, f"{estimate.value:.2f}")
        _OUT.print(table)
    _OUT.print(f"fixed work takes {found.scale.value:.2f} times as long on this host as in user mode")


def user_mode_as_json(found: UserModeCalibration, path: Path) -> dict[str, Any]:
    """The same for programs."""
    return {
        "cost_set": str(path),
        "scale": found.scale.value,
        "prices": {name: estimate.value for name, estimate in found.prices.items()},
        "ratios": {name: estimate.value for name, estimate in found.ratios.items()},
    }


def sweep(experiment: Experiment, directory: Path, outcome: SweepOutcome) -> None:
    """The tables of a sweep; where the experiment asks for none, two that have a row per combination of levels."""
    if not outcome.finished:
        return
    runs = pd.read_parquet(directory / "runs.parquet")
    if experiment.question:
        _OUT.print(f"[bold]{escape(experiment.question.strip())}[/bold]", soft_wrap=True)
    for spec in experiment.tables or _usual_tables(experiment, runs):
        _sweep_table(spec, runs)
    _OUT.print(f"tables and figures are in {escape(str(directory))}", soft_wrap=True)


def _usual_tables(experiment: Experiment, runs: pd.DataFrame) -> list[TableSpec]:
    """Latency and throughput by the factors that were varied."""
    factors = [name for name in experiment.factor_names() if runs[name].nunique() > 1]
    return [
        TableSpec(value=measure, rows=factors or experiment.factor_names() or ["replication"])
        for measure in ("latency_p50_ns", "throughput_per_s")
    ]


def _sweep_table(spec: TableSpec, runs: pd.DataFrame) -> None:
    """A measure by some factors down and one across; a note if no run that is finished has it."""
    title = spec.title or measure_label(spec.value)
    for factor, level in spec.where.items():
        runs = runs[runs[factor] == level]
    if spec.value not in runs.columns:
        raise InputError(
            f"the table {title!r}: {spec.value!r} is not measured: {did_you_mean(spec.value, runs.columns)}"
        )
    runs = runs[runs[spec.value].notna()]
    if runs.empty:
        notice(f"the table {title!r} is left out: no finished run has anything to show in it")
        return
    if spec.columns is None:
        across: list[Any] = [measure_label(spec.value)]
        values = runs.groupby(spec.rows, sort=False)[spec.value].mean().to_frame()
    else:
        across = list(dict.fromkeys(runs[spec.columns].dropna()))
        if all(isinstance(level, int | float) for level in across):
            across.sort()
        pivoted = runs.pivot_table(index=spec.rows, columns=spec.columns, values=spec.value, sort=False)
        values = pivoted.reindex(columns=across)  # levels that are truth values would choose, not name, columns
    _OUT.print(_filled(spec, title, [level_text(level) for level in across], values))


def _filled(spec: TableSpec, title: str, names: list[str], values: pd.DataFrame) -> Table:
    """The table of such values; what a row has in common with the one above is not said again."""
    table = Table(box=SIMPLE_HEAD, title=_plain(title), title_justify="left", title_style="bold", pad_edge=False)
    for factor in spec.rows:
        table.add_column(escape(factor.rpartition(".")[2].replace("_", " ")))
    for name in names:
        table.add_column(escape(name), justify="right")
    before: tuple[Any, ...] = ()
    for levels, row in values.iterrows():
        now = levels if isinstance(levels, tuple) else (levels,)
        shown = [
            "" if before[: place + 1] == now[: place + 1] else level_text(level) for place, level in enumerate(now)
        ]
        _add(table, *shown, *(format_measure(spec.value, float(value)) for value in row))
        before = now
    return table


def costs(found: Iterable[Evidence], cost_set: str) -> None:
    """The numbers behind a scenario, by kind of evidence."""
    _OUT.print(f"cost set [bold]{escape(cost_set)}[/bold], weakest evidence first", soft_wrap=True)
    for kind, numbers in groupby(found, key=lambda one: one.kind):
        table = _table("operation", "number", "value", "share of time", "source", title=str(kind.value))
        for one in numbers:
            _add(
                table,
                one.operation,
                one.number,
                f"{one.value:g}",
                "" if one.operation == "(all)" else f"{one.share:.1%}",
                one.source,
            )
        _OUT.print(table)


def _operations(result: Result) -> None:
    cpu = result.breakdown[result.breakdown["is_cpu"]]
    if cpu.empty:
        return
    table = _table("operation", "CPU time per transaction", "share")
    for row in cpu.head(_OPERATIONS_SHOWN).itertuples():
        _add(table, str(row.operation), format_ns(float(str(row.ns_per_transaction))), f"{float(str(row.share)):.1%}")
    rest = cpu.iloc[_OPERATIONS_SHOWN:]
    if len(rest):
        _add(
            table,
            f"{len(rest)} others",
            format_ns(float(rest["ns_per_transaction"].sum())),
            f"{rest['share'].sum():.1%}",
        )
    _OUT.print(table)


def _hops(packet: TracedPacket) -> Table:
    table = _table("node", "operation", "count", "at", "cost")
    before = ""
    for one in packet.hops:
        hop = one.hop
        _add(
            table,
            hop.host if hop.host != before else "",
            hop.operation,
            f"{hop.total_items:,}",
            hop.at,
            format_ns(one.cost_ns),
        )
        before = hop.host
    return table


def _ending(packet: TracedPacket) -> str:
    cost = (
        f"{format_ns(packet.total_ns)}, of which CPU {format_ns(packet.cpu_ns)}; "
        f"{counted(packet.rules_tested, 'rule')} tested"
    )
    if packet.delivered_to is None:
        return f"[red]got nowhere:[/red] {escape(str(packet.path.reason))}\n{cost}"
    arrived = packet.path.packet
    wakeups = format_ns(packet.wakeups * packet.core_wakeup_ns)
    return (
        f"delivered to [bold]{escape(packet.delivered_to)}[/bold], {arrived.destination}:{arrived.destination_port}, "
        f"from {arrived.source}:{arrived.source_port}\n{cost}; idle cores would add {wakeups}"
    )


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(box=SIMPLE_HEAD, title=_plain(title), title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        is_text = column in (
            "measure",
            "price",
            "ratio in the one kernel",
            "way not used in the fit",
            "service",
            "connection",
            "operation",
            "node",
            "at",
            "source",
            "number",
            "what",
            "to",
            "verdict",
        )
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    return table


def _add(table: Table, *cells: str) -> None:
    """Add a row of plain text: brackets in it are no markup."""
    table.add_row(*map(Text, cells))


def _plain(title: str | None) -> str | None:
    return None if title is None else escape(title)
