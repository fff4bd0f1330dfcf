"""From what was typed to a command, and from how it ended to an exit code."""

from __future__ import annotations

import sys
from typing import cast

import typer

from kubesim.cli.commands import app
from kubesim.cli.exit_codes import INTERRUPTED
from kubesim.errors import InputError

_UsageError = cast("type[typer.BadParameter]", typer.BadParameter.__base__)
"""What the parser raises; the package it is of depends on the version of Typer."""


def run_command() -> int:
    """Run the command that was typed; its exit code.

    Raises
    ------
    KubesimError
        If what was typed, or what it leads to, makes no sense.
    KeyboardInterrupt
        If somebody stopped it before there was anything to keep.
    """
    try:
        outcome = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except typer.Abort:
        raise KeyboardInterrupt from None
    except _UsageError as error:
        raise InputError(_in_one_line(error)) from None
    if outcome == INTERRUPTED:
        raise KeyboardInterrupt
    return outcome if isinstance(outcome, int) else 0


def _in_one_line(error: typer.BadParameter) -> str:
    """What the parser says, as other errors are said; where it knows no better, with where there is help."""
    message = " ".join(error.format_message().split()).rstrip(".").replace("Value error, ", "")
    lowered = message[:1].lower() + message[1:]
    if error.ctx is None or lowered.endswith(("?", ")")):
        return lowered
    return f"{lowered}; '{error.ctx.command_path} --help' says what there is"
