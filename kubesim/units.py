"""Units, and numbers as people read them."""

from __future__ import annotations

import math
from dataclasses import dataclass

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
BITS_PER_BYTE = 8


@dataclass(frozen=True)
class Unit:
    """A unit that a measure is shown in.

    Parameters
    ----------
    factor
        What values are divided by.
    name
        As it stands behind a number.
    """

    factor: float
    name: str


_TIMES = (Unit(NS_PER_S, "s"), Unit(NS_PER_MS, "ms"), Unit(NS_PER_US, "µs"), Unit(1, "ns"))
_RATES = (Unit(1e9, "Gbit/s"), Unit(1e6, "Mbit/s"), Unit(1e3, "kbit/s"), Unit(1, "bit/s"))


def unit_of(measure: str, largest: float) -> Unit:
    """The unit to draw a measure in, by the end of its name and its largest value."""
    if measure.endswith(("_ratio", "utilisation")):
        return Unit(0.01, "%")
    if measure.endswith("_s_per_gbit"):
        return Unit(1, "cores per Gbit/s")
    if measure.endswith("_bit_per_s"):
        choices = _RATES
    elif measure.endswith("_per_s"):
        return Unit(1, "per s")
    elif measure.endswith("_ns") or "_ns_per_" in measure or measure.startswith("ns_per_"):
        choices = _TIMES
    else:
        return Unit(1, "")
    return next((unit for unit in choices if largest >= unit.factor), choices[-1])


def ns_per_byte(gbit_per_s: float) -> float:
    """Time one byte takes at a line rate, in nanoseconds."""
    return BITS_PER_BYTE / gbit_per_s


def format_ns(value_ns: float) -> str:
    """A time with three digits and its unit: ``12.3 µs``."""
    return format_measure("time_ns", value_ns)


def format_measure(measure: str, value: float) -> str:
    """A measure's value with three digits, in a unit that suits it by the end of the measure's name."""
    if math.isnan(value):
        return "-"
    unit = unit_of(measure, abs(value))
    if not unit.name:
        return f"{value:,.0f}" if value.is_integer() else format_count(value)
    if unit.name == "per s":
        return f"{value:,.0f} per s" if abs(value) >= 100 else f"{_digits(value)} per s"
    return f"{_digits(value / unit.factor)} {unit.name}"


def format_estimate(measure: str, value: float, half_width: float) -> str:
    """A measure's value and how far off it may be, in one unit: ``12.3 ± 0.12 µs``; the value alone if none knows."""
    if math.isnan(value) or not math.isfinite(half_width):
        return format_measure(measure, value)
    unit = unit_of(measure, abs(value))
    shown, half = value / unit.factor, half_width / unit.factor
    decimals = max(_decimals(shown, 3), _decimals(half, 2))
    decimals = min(decimals, _decimals(shown, 5)) if shown else decimals
    half_text = f"{half:,.{decimals}f}" if round(half, decimals) else "0"
    return f"{shown:,.{decimals}f} ± {half_text} {unit.name}".rstrip()


def measure_label(measure: str) -> str:
    """A measure's name as people read it, without its unit, which the value has."""
    for ending in ("_bit_per_s", "_per_s", "_ns", "_ratio"):
        measure = measure.removesuffix(ending)
    return measure.replace("_", " ").replace("cpu ns per", "CPU time per").replace("p999", "p99.9")


def format_count(value: float) -> str:
    """A number with three digits and k, M or G where it is large: ``48.1k``."""
    if math.isnan(value):
        return "-"
    for limit, factor, letter in ((1e3, 1.0, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M")):
        if abs(value) < limit:
            return f"{_digits(value / factor)}{letter}"
    return f"{_digits(value / 1e9)}G"


def counted(count: int, noun: str, plural: str = "") -> str:
    """So many of something: ``1 pod``, ``2,000 pods``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {plural or noun + 's'}"


def _digits(value: float) -> str:
    """Three significant digits, without an exponent or a needless fraction."""
    if value == 0:
        return "0"
    text = f"{value:.{_decimals(value, 3)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _decimals(value: float, digits: int) -> int:
    """Decimals that show so many significant digits of a number."""
    return 0 if value == 0 else max(0, digits - 1 - math.floor(math.log10(abs(value))))
