"""What the program returns to the shell."""

EXPECTATION_FAILS = 1
"""Results are not what was expected of them."""

INPUT_ERROR = 2
"""Something given makes no sense, or cannot be read or written."""

CANNOT_TELL = 3
"""Results cannot tell whether they are what was expected."""

INTERRUPTED = 130
"""Ctrl-C: 128 + SIGINT, as shells have it."""
