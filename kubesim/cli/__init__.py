"""The command line: thin, and quick to start."""

from __future__ import annotations

import os
import sys

from kubesim.cli.exit_codes import INPUT_ERROR, INTERRUPTED
from kubesim.errors import KubesimError


def main() -> None:
    """Run a command; what goes wrong is one line on standard error and exit code 2."""
    from kubesim.cli.commands import app  # noqa: PLC0415 - after this, so that errors while importing are caught too

    try:
        app()
    except KubesimError as error:
        print(f"kubesim: {error}", file=sys.stderr)  # noqa: T201 - this is the place for it
        sys.exit(INPUT_ERROR)
    except KeyboardInterrupt:
        print("kubesim: interrupted", file=sys.stderr)  # noqa: T201
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output, such as head, has gone: nothing is wrong, and nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
