"""How what takes long says where it is."""

from __future__ import annotations

from collections.abc import Callable

OnStep = Callable[[str, float], None]
"""Called with what is being done, and which share of the whole is behind."""


def quietly(what: str, share: float) -> None:
    """Say nothing."""


def part_of(on_step: OnStep, begin: float, end: float) -> OnStep:
    """Steps of something that is a part of a whole, which goes from one share of it to another."""
    return lambda what, share: on_step(what, begin + (end - begin) * share)
