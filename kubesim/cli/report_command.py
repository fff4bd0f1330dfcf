"""The command that writes a page about results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kubesim.errors import InputError

if TYPE_CHECKING:
    from kubesim.experiment.verdicts import Outcome
    from kubesim.report import CheckedExpectation


def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="what `sweep` or `run --out` wrote")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="write the page there; `DIR/report.html` if not given")
    ] = None,
    experiment: Annotated[
        Path | None,
        typer.Option(metavar="EXPERIMENT.yaml", help="hold results against this file, as `check --experiment` does"),
    ] = None,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="print JSON for programs instead of a line for people")
    ] = False,
) -> None:
    """Write one HTML file about a sweep or a run: expectations, figures, tables, what was held fixed, and evidence.

    The file needs nothing else: it can be opened offline, printed, and sent around. JSON: `report`, the file, and
    `left_out[]`, what no finished run has anything to show in.
    """
    from kubesim.cli import show  # noqa: PLC0415 - heavy imports wait until a command needs them
    from kubesim.report import write_report  # noqa: PLC0415

    left_out: list[str] = []
    expectations = _expectations(directory, experiment, left_out)
    written = write_report(directory, out, expectations, on_left_out=left_out.append)
    if as_json:
        typer.echo(json.dumps({"report": str(written), "left_out": left_out}, indent=2))
        return
    show.notices(left_out)
    show.written(written)


def _expectations(directory: Path, experiment: Path | None, left_out: list[str]) -> list[CheckedExpectation] | None:
    """What a sweep's experiment expects, held against its results; None if it expects nothing or has none."""
    from kubesim.cli.check_command import checked  # noqa: PLC0415
    from kubesim.experiment import load_experiment, read_experiment  # noqa: PLC0415
    from kubesim.files import read_manifest  # noqa: PLC0415
    from kubesim.report import CheckedExpectation  # noqa: PLC0415

    manifest = read_manifest(directory)
    if manifest["kind"] != "sweep" or not manifest.get("finished_runs"):
        return None
    if experiment is not None:
        load_experiment(experiment)  # a file that is not there, or makes no sense, is no matter of the results
    elif not read_experiment(directory).expect:
        return None
    try:
        outcomes = checked(directory, experiment).outcomes
    except InputError as error:
        left_out.append(f"expectations were not checked: {error}")
        return None
    return [
        CheckedExpectation(one.expectation, one.estimate_text, one.interval_text, one.verdict.value, _note(one))
        for one in outcomes
    ]


def _note(outcome: Outcome) -> str:
    """What an expectation was evaluated over, and why the data cannot tell."""
    return "; ".join(part for part in (outcome.over, outcome.reason, *outcome.notes) if part)
