"""What may be expected of: the measures of a run's summary, their short names, and the units they are written in."""

from __future__ import annotations

from enum import StrEnum

from kubesim.errors import InputError, did_you_mean
from kubesim.scenario.measures import MEASURES as _MEASURES
from kubesim.units import NS_PER_MS, NS_PER_S, NS_PER_US

SHORT_NAMES = {
    "mean": "latency_mean_ns",
    "p50": "latency_p50_ns",
    "p90": "latency_p90_ns",
    "p99": "latency_p99_ns",
    "p999": "latency_p999_ns",
    "throughput": "throughput_per_s",
    "goodput": "goodput_bit_per_s",
    "loss": "loss_ratio",
    "cpu": "cpu_ns_per_transaction",
}
"""Measures by what people call them."""

MEASURES = tuple(_MEASURES)
"""All that a run's summary may hold."""

_HIGHER_IS_BETTER = ("throughput_per_s", "goodput_bit_per_s", "wire_bit_per_s", "transactions")


class Dimension(StrEnum):
    """What kind of number a measure is."""

    TIME = "a time"
    BIT_RATE = "a rate of bits"
    RATE = "a rate"
    SHARE = "a share"
    RATIO = "a ratio"
    COUNT = "a number"


_MULTIPLES = {"k": 1e3, "M": 1e6, "G": 1e9}
UNITS: dict[Dimension, dict[str, float]] = {
    Dimension.TIME: {"ns": 1.0, "us": NS_PER_US, "µs": NS_PER_US, "ms": NS_PER_MS, "s": NS_PER_S},
    Dimension.BIT_RATE: {"bit/s": 1.0, **{f"{name}bit/s": factor for name, factor in _MULTIPLES.items()}},
    Dimension.RATE: {"": 1.0, "/s": 1.0, **_MULTIPLES, **{f"{name}/s": factor for name, factor in _MULTIPLES.items()}},
    Dimension.SHARE: {"": 1.0, "%": 0.01},
    Dimension.RATIO: {"": 1.0, "%": 0.01},
    Dimension.COUNT: {"": 1.0, **_MULTIPLES},
}
"""How much of a measure's own unit each unit is, by what it may be given for."""


def dimension_of(measure: str) -> Dimension:
    """What kind of number a measure is, by the end of its name."""
    if measure.endswith(("_ratio", "utilisation", "offered_load")):
        return Dimension.SHARE
    if measure.endswith("_bit_per_s"):
        return Dimension.BIT_RATE
    if measure.endswith("_per_s"):
        return Dimension.RATE
    if measure.endswith("_ns") or "_ns_per_" in measure:
        return Dimension.TIME
    return Dimension.COUNT


def is_better(measure: str, *, is_higher: bool) -> bool | None:
    """Whether it is good news that a measure is higher, or lower; None for those that are neither good nor bad."""
    if measure == "duration_ns":
        return None
    return is_higher == (measure in _HIGHER_IS_BETTER or measure.endswith("_first_drop_ns"))


def full_name(name: str, known: tuple[str, ...] | list[str] = MEASURES) -> str:
    """The measure that a name, short or full, stands for.

    Raises
    ------
    InputError
        If there is none.
    """
    found = SHORT_NAMES.get(name, name)
    if found not in known:
        raise InputError(f"{name!r} is no measure: {did_you_mean(name, [*SHORT_NAMES, *known])}")
    return found
