"""Options that several commands have, and printing for programs."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="print JSON for programs instead of a table for people")]
CsvOption = Annotated[bool, typer.Option("--csv", help="write tables as CSV beside Parquet")]


def print_json(value: Any) -> None:
    """Print for programs."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))
