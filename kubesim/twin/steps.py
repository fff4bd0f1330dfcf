"""How what takes long says where it is."""

from __future__ import annotations

from collections.abc import Callable

OnStep = Callable[[str, float], None]
"""Called with what is being done, and which share of the whole is behind."""


def quietly(what: str, share: float) -> None:
    """Say nothing."""
