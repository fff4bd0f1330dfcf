"""What the program returns to the shell."""

INPUT_ERROR = 2
"""Something given makes no sense, or cannot be read or written."""

INTERRUPTED = 130
"""Ctrl-C: 128 + SIGINT, as shells have it."""
