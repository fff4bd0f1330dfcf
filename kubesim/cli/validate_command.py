"""The command that holds the simulator against published measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from kubesim.validate import Comparison, Fit, Validation

_DIGITS = 4


def validate(
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="write tables and figures there")] = None,
    costs: Annotated[
        str | None, typer.Option(metavar="SET", help="cost set: a name, or a YAML file; the default one if not given")
    ] = None,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="print JSON for programs instead of tables for people")
    ] = False,
) -> None:
    """Predict published measurements, and say how far off each prediction is.

    A figure is *fitted* where it went into the cost set or into the one factor of its machine, and *predicted* where it
    did not. A target that is missed is shown as missed. JSON and the tables in `--out DIR` say of each how it is
    predicted, and where it is printed. JSON: `targets[]` with `measured`, `predicted`, `error`, `is_met`, `role`.
    """
    from kubesim.cli import show  # noqa: PLC0415 - heavy imports wait until a command needs them
    from kubesim.cost import DEFAULT_COST_SET  # noqa: PLC0415
    from kubesim.validate import compare, save_validation  # noqa: PLC0415

    found = compare(costs or DEFAULT_COST_SET)
    if out is not None:
        from kubesim.report import draw_directory  # noqa: PLC0415

        save_validation(found, out)
        draw_directory(out, show.notice)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), indent=2, allow_nan=False))
        return
    _show(found)
    if out is not None:
        show.written(out)


def _show(found: Validation) -> None:
    """Tables by machine, why targets are missed, where they are printed, and what is left out."""
    from kubesim.cli.show import put  # noqa: PLC0415

    fits = {fit.machine: fit for fit in found.fits}
    for name in dict.fromkeys(one.target.machine for one in found.comparisons):
        put(_table([one for one in found.comparisons if one.target.machine == name], fits.get(name)))
    _list("missed, and why where that is known", [_reason(one) for one in found.comparisons if not one.is_met])
    sources = {
        one.target.source: f"{one.target.source}: {one.source.citation}; {one.source.url or 'not on the web'}; "
        f"trust {one.source.trust}"
        for one in found.comparisons
    }
    _list("sources; trust A: seen in its own text or data, B: read off a chart", list(sources.values()))
    _list("not modelled yet, and so not compared", [f"{one.what} ({one.citation})" for one in found.not_modelled])
    put(f"\n[bold]cost set {found.cost_set}[/bold]")
    for role, counts in found.summary().items():
        if counts["targets"]:
            put(f"{role}: {counts['met']} of {counts['targets']} met, median error {counts['median_error']:.0%}")


def _table(rows: Sequence[Comparison], fit: Fit | None) -> Table:
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    factor = "" if fit is None else f"; all costs times {fit.slowness:g}, {fit.why}"
    title = escape(rows[0].machine.what + factor)
    table = Table(box=SIMPLE_HEAD, title=title, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("target", overflow="fold")
    for column in ("measured", "predicted", "error", "allowed"):
        table.add_column(column, justify="right")
    for column in ("role", "outcome", "source"):
        table.add_column(column)
    for one in rows:
        target = one.target
        table.add_row(
            escape(target.what),
            _number(target.value, target.unit),
            _number(one.predicted, target.unit),
            f"{one.error:+.1%}",
            f"{target.tolerance:.0%}",
            one.role,
            "met" if one.is_met else "[red]missed[/red]",
            target.source,
        )
    return table


def _list(title: str, lines: Sequence[str]) -> None:
    from rich.markup import escape  # noqa: PLC0415

    from kubesim.cli.show import put  # noqa: PLC0415

    if lines:
        put(f"\n[bold]{title}[/bold]")
    for line in lines:
        put(f"  {escape(line)}")


def _reason(one: Comparison) -> str:
    return f"{one.target.id} {one.error:+.0%}: {one.target.note or 'not known'}"


def _number(value: float, unit: str) -> str:
    """A value with four digits and its unit; a ratio has none."""
    text = f"{value:,.0f}" if value >= 10**_DIGITS else f"{value:.{_DIGITS}g}"
    return text if unit == "ratio" else f"{text} {unit}"
