"""Tables for people."""

from __future__ import annotations

import contextlib
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from kubesim.units import counted, format_measure, format_ns, measure_label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from kubesim.kernel.rule_trace import Outcome
    from kubesim.scenario import Evidence, Summarised, TracedPacket, TraceResult
    from kubesim.twin.calibrate import Calibration
    from kubesim.twin.calibrate_user_mode import UserModeCalibration
    from kubesim.twin.run import Compared
    from kubesim.twin.steps import OnStep

_WIDTH_OF_A_PIPE = 140

OUT = Console(highlight=False, emoji=False)  # `:100:` is a part of an address here
ERROR = Console(stderr=True, highlight=False, emoji=False)
if not OUT.is_terminal:
    OUT.width = _WIDTH_OF_A_PIPE

_OPERATIONS_SHOWN = 12


def notices(texts: Iterable[str]) -> None:
    """Say what a person should know, beside the results."""
    for text in texts:
        notice(text)


def notice(text: str) -> None:
    """Say one such thing."""
    ERROR.print(f"[yellow]note:[/yellow] {escape(text)}", soft_wrap=True)


def written(directory: Path) -> None:
    """Say where results are."""
    OUT.print(f"written to {escape(str(directory))}", soft_wrap=True)


def put(what: Table | str) -> None:
    """Print a table, or a line in rich's markup."""
    OUT.print(what, soft_wrap=isinstance(what, str))


def run(result: Summarised) -> None:
    """The summary of a run, and its dearest operations."""
    summary = result.summary
    table = new_table("measure", "value")
    for name, value in summary.items():
        is_unstable = name.startswith("latency_") and bool(result.load.unstable)
        add(table, measure_label(name), "unstable" if is_unstable else format_measure(name, float(value)))
    scenario = result.scenario
    OUT.print(
        f"[bold]{escape(scenario.name)}[/bold]: {scenario.traffic.workload}, {scenario.cni.name}, {scenario.proxy.name}"
    )
    OUT.print(table)
    _drops(result)
    for reason, flows in result.refusals.items():
        OUT.print(f"[red]{counted(flows, 'connection')} got nowhere:[/red] {escape(reason)}", soft_wrap=True)
    _operations(result)


def trace(found: TraceResult) -> None:
    """Every packet's hops."""
    for packet in found.packets:
        OUT.print(f"\n[bold]{packet.kind.replace('_', ' ')}[/bold]  {escape(packet.sent)}", soft_wrap=True)
        OUT.print(_hops(packet))
        OUT.print(_ending(packet), soft_wrap=True)


def outcomes(found: Iterable[Outcome]) -> None:
    """What becomes of a packet, and with which probability."""
    table = new_table("to", "probability", "verdict", "source", "rules tested")
    reasons = []
    for one in found:
        tested = ", ".join(f"{count} {place}" for place, count in one.rules_tested.items())
        source = "masqueraded" if one.is_masqueraded else "kept"
        add(table, one.to, f"{one.probability:.4g}", one.verdict, source, tested)
        reasons += [one.reason] if one.reason else []
    OUT.print(table)
    for reason in dict.fromkeys(reasons):
        OUT.print(f"[red]got nowhere:[/red] {escape(reason)}", soft_wrap=True)


@contextlib.contextmanager
def steps() -> Iterator[OnStep]:
    """A bar on standard error that says what is being done; gives a function to call with each step."""
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=ERROR, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda what, share: bar.update(task, description=escape(what), completed=share)


@contextlib.contextmanager
def messages() -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error that says how many messages have been played; it comes with the first call."""
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TextColumn("gone,"), TimeRemainingColumn())
    bar = Progress(*columns, TextColumn("left"), console=ERROR, transient=True)
    task = bar.add_task("", total=None)

    def advance(played: int, of: int) -> None:
        bar.start()
        bar.update(task, completed=played, total=of)

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()


def compared(found: Iterable[Compared], cost_set: str) -> None:
    """Each way of a twin, measured and predicted."""
    table = new_table("service", "to", "bytes", "connection", "rules", "best decile", "median", "predicted", "error")
    for one in found:
        add(
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
    OUT.print(f"one packet from socket to socket, predicted by cost set [bold]{escape(cost_set)}[/bold]")
    OUT.print(table)


def calibration(found: Calibration) -> None:
    """How well the new prices predict ways that they were not made from."""
    table = new_table("way not used in the fit", "best decile", "predicted", "error")
    for one in found.held_out:
        predicted = format_ns(found.fit.predict_ns(one.hops, found.base))
        add(table, one.way.name, format_ns(one.timing.best_ns), predicted, f"{found.error(one):+.1%}")
    OUT.print(table)
    within = found.share_within(0.1, found.held_out)
    speed = found.fit.speed
    OUT.print(
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
        table = new_table(title, "value")
        for name, estimate in estimates.items():
            table.add_row(name, f"{estimate.value:.2f}")
        OUT.print(table)
    OUT.print(f"fixed work takes {found.scale.value:.2f} times as long on this host as in user mode")


def user_mode_as_json(found: UserModeCalibration, path: Path) -> dict[str, Any]:
    """The same for programs."""
    return {
        "cost_set": str(path),
        "scale": found.scale.value,
        "prices": {name: estimate.value for name, estimate in found.prices.items()},
        "ratios": {name: estimate.value for name, estimate in found.ratios.items()},
    }


def costs(found: Iterable[Evidence], cost_set: str) -> None:
    """The numbers behind a scenario, by kind of evidence."""
    OUT.print(f"cost set [bold]{escape(cost_set)}[/bold], weakest evidence first", soft_wrap=True)
    for kind, numbers in groupby(found, key=lambda one: one.kind):
        table = new_table("operation", "number", "value", "share of time", "source", title=str(kind.value))
        for one in numbers:
            add(
                table,
                one.operation,
                one.number,
                f"{one.value:g}",
                "" if one.operation == "(all)" else f"{one.share:.1%}",
                one.source,
            )
        OUT.print(table)


def _drops(result: Summarised) -> None:
    """Where packets were dropped, if any were."""
    if result.drops.empty:
        return
    table = new_table("node", "limit", "dropped packets", "first after")
    for host, limit, packets, first_ns in result.drops.itertuples(index=False):
        add(table, host, limit, f"{packets:,}", format_ns(first_ns))
    OUT.print(table)


def _operations(result: Summarised) -> None:
    cpu = result.breakdown[result.breakdown["is_cpu"]]
    if cpu.empty:
        return
    table = new_table("operation", "CPU time per transaction", "share")
    for row in cpu.head(_OPERATIONS_SHOWN).itertuples():
        add(table, str(row.operation), format_ns(float(str(row.ns_per_transaction))), f"{float(str(row.share)):.1%}")
    rest = cpu.iloc[_OPERATIONS_SHOWN:]
    if len(rest):
        add(
            table,
            f"{len(rest)} others",
            format_ns(float(rest["ns_per_transaction"].sum())),
            f"{rest['share'].sum():.1%}",
        )
    OUT.print(table)


def _hops(packet: TracedPacket) -> Table:
    table = new_table("node", "operation", "count", "at", "cost")
    before = ""
    for one in packet.hops:
        hop = one.hop
        add(
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


def new_table(*columns: str, title: str | None = None) -> Table:
    """An empty table: text on the left, numbers on the right."""
    table = Table(box=SIMPLE_HEAD, title=plain(title), title_justify="left", title_style="bold", pad_edge=False)
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
            "limit",
        )
        table.add_column(column, justify="left" if is_text else "right", overflow="fold")
    return table


def add(table: Table, *cells: str) -> None:
    """Add a row of plain text: brackets in it are no markup."""
    table.add_row(*map(Text, cells))


def plain(title: str | None) -> str | None:
    """A title in which brackets are no markup."""
    return None if title is None else escape(title)
