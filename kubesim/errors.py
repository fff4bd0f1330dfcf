"""Errors that are shown to people: one line that says what was wrong, where, and what is known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KubesimError(Exception):
    """Something the user gave, or the machine refused, that kubesim cannot work with.

    The message is one line, fit to be shown as it is; the command line prints it and ends with exit code 2.
    """


class InputError(KubesimError, ValueError):
    """A file, a field or an argument holds something that makes no sense."""


class PlanError(KubesimError, ValueError):
    """A :class:`kubesim.engine.Plan` breaks the engine contract, or asks for what an engine cannot do."""


class OutputError(KubesimError, OSError):
    """Results could not be written or read back."""


class Interrupted(Exception):  # noqa: N818 - nothing is wrong
    """Somebody pressed Ctrl-C; the message says what is kept."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Say which known word is closest, or which there are: a clause to end an error message with.

    Parameters
    ----------
    word
        What was given.
    known
        What would have been understood.
    """
    names = sorted(set(known) - {""})
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if close:
        return f"did you mean {close[0]!r}?"
    if not names:
        return "there is none"
    shown = ", ".join(names[:12])
    return f"known: {shown}" + (f" and {len(names) - 12} more" if len(names) > 12 else "")
