"""The command that holds a sweep against what its experiment expects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kubesim.cli.exit_codes import CANNOT_TELL, EXPECTATION_FAILS
from kubesim.errors import InputError, OutputError

if TYPE_CHECKING:
    from kubesim.experiment import CheckReport

_COLOURS = {"holds": "green", "fails": "red", "cannot tell": "yellow"}


def check(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="what `sweep` wrote", show_default=False)],
    experiment: Annotated[
        Path | None,
        typer.Option(
            metavar="EXPERIMENT.yaml",
            help="take `expect` of this file, not the sweep's own, and baselines from beside it",
        ),
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE.xml", help="write JUnit XML for CI systems")] = None,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="print JSON for programs instead of a table for people")
    ] = False,
) -> None:
    """Hold the results of a sweep against what its experiment expects; for CI.

    An expectation, such as `ratio(p99, proxy=iptables, proxy=nftables, services=10000) > 3`, has to hold for each
    combination of the levels it leaves open. It *holds* if the whole 95 % confidence interval of replications meets it,
    and *fails* if for one combination the whole interval misses it; otherwise the data *cannot tell*.

    Exit code 0: all hold; 1: one fails; 3: the data cannot tell, and none fails; 2: something given makes no sense.
    JSON: `expectations[]` with `verdict`, `estimate`, `low`, `high`, `worst`, `combinations`, `reason`.
    """
    from kubesim.experiment.junit import write_junit  # noqa: PLC0415 - heavy imports wait until a command needs them

    try:
        report = checked(directory, experiment)
    except InputError as error:
        if junit is not None:
            _write_error(junit, directory.resolve().name, error)
        raise
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=2, allow_nan=False))
    else:
        _show(report)
    if junit is not None:
        write_junit(junit, report)
    code = {"holds": 0, "fails": EXPECTATION_FAILS, "cannot tell": CANNOT_TELL}[report.verdict.value]
    raise typer.Exit(code)


def _write_error(path: Path, name: str, error: InputError) -> None:
    """Write why nothing was checked; that this cannot be written either does not hide it."""
    from kubesim.cli.show import notice  # noqa: PLC0415
    from kubesim.experiment.junit import write_junit_error  # noqa: PLC0415

    try:
        write_junit_error(path, name, str(error))
    except OutputError as other:
        notice(str(other))


def checked(directory: Path, experiment: Path | None) -> CheckReport:
    """Hold a sweep against its own expectations, or those of an experiment file; baselines may lie beside that file."""
    from kubesim.experiment import check as evaluate  # noqa: PLC0415
    from kubesim.experiment import load_experiment  # noqa: PLC0415

    if experiment is None:
        return evaluate(directory)
    description, _ = load_experiment(experiment)
    return evaluate(directory, description, relative_to=experiment.parent)


def _show(report: CheckReport) -> None:
    """A table of all expectations, what else there is to know, and how many there are of each verdict."""
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    from kubesim.cli.show import put  # noqa: PLC0415
    from kubesim.experiment.evaluation import expect_place  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, title=escape(report.name), title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("expectation", overflow="fold", ratio=5)
    for column in ("estimate", "95 % interval"):
        table.add_column(column, justify="right")
    table.add_column("verdict", no_wrap=True)
    table.add_column("evaluated over", overflow="fold", ratio=4)
    for number, one in enumerate(report.outcomes):
        verdict = f"[{_COLOURS[one.verdict.value]}]{one.verdict}[/]"
        table.add_row(
            expect_place(number),
            escape(one.expectation),
            one.estimate_text,
            one.interval_text,
            verdict,
            escape(one.over),
        )
    put(table)
    for told, numbers in _told(report).items():
        put(f"{', '.join(map(expect_place, numbers))}: {escape(told)}")
    counts = {verdict: sum(one.verdict.value == verdict for one in report.outcomes) for verdict in _COLOURS}
    put(", ".join(f"[{_COLOURS[verdict]}]{count} {verdict}[/]" for verdict, count in counts.items() if count))


def _told(report: CheckReport) -> dict[str, list[int]]:
    """Reasons and notes, each with the numbers of the expectations that it is about."""
    found: dict[str, list[int]] = {}
    for number, one in enumerate(report.outcomes):
        for told in filter(None, (one.reason, *one.notes)):
            found.setdefault(told, []).append(number)
    return found
