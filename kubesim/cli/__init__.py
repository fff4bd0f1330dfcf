"""The command line: thin, and quick to start."""

from __future__ import annotations

import os
import sys

from kubesim.cli.exit_codes import INPUT_ERROR, INTERRUPTED
from kubesim.errors import Interrupted, KubesimError


def main() -> None:
    """Run a command; what goes wrong is one line on standard error and exit code 2."""
    try:
        from kubesim.cli.entry import run_command  # noqa: PLC0415 - here, so that errors while importing are caught too

        code = run_command()
    except KubesimError as error:
        code = _end(str(error), INPUT_ERROR)
    except Interrupted as interrupted:
        code = _end(f"interrupted: {interrupted}", INTERRUPTED)
    except KeyboardInterrupt:
        code = _end("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # Whoever read the output, such as head, has gone: nothing is wrong, and nothing more can be said to them.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _end(message: str, code: int) -> int:
    """Say why it ends."""
    print(f"kubesim: {message}", file=sys.stderr)  # noqa: T201 - this is the place for it
    return code
