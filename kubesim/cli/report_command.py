"""The command that writes a page about results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def report(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="what `sweep` or `run --out` wrote")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="write the page there; `DIR/report.html` if not given")
    ] = None,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="print JSON for programs instead of a line for people")
    ] = False,
) -> None:
    """Write one HTML file about a sweep or a run: figures, tables, what was held fixed, and what the costs rest on.

    The file needs nothing else: it can be opened offline, printed, and sent around. JSON: `report`, the file, and
    `left_out[]`, what no finished run has anything to show in.
    """
    from kubesim.cli import show  # noqa: PLC0415 - heavy imports wait until a command needs them
    from kubesim.report import write_report  # noqa: PLC0415

    left_out: list[str] = []
    written = write_report(directory, out, on_left_out=left_out.append)
    if as_json:
        typer.echo(json.dumps({"report": str(written), "left_out": left_out}, indent=2))
        return
    show.notices(left_out)
    show.written(written)
