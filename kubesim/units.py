"""Units, and numbers as people read them."""

from __future__ import annotations

import math

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
BITS_PER_BYTE = 8


def ns_per_byte(gbit_per_s: float) -> float:
    """Time one byte takes at a line rate, in nanoseconds."""
    return BITS_PER_BYTE / gbit_per_s


def format_ns(value_ns: float) -> str:
    """A time with three digits and its unit: ``12.3 us``."""
    if math.isnan(value_ns):
        return "-"
    for limit, factor, unit in ((NS_PER_US, 1, "ns"), (NS_PER_MS, NS_PER_US, "us"), (NS_PER_S, NS_PER_MS, "ms")):
        if abs(value_ns) < limit:
            return f"{_digits(value_ns / factor)} {unit}"
    return f"{_digits(value_ns / NS_PER_S)} s"


def format_count(value: float) -> str:
    """A number with three digits and k, M or G where it is large: ``48.1k``."""
    if math.isnan(value):
        return "-"
    for limit, factor, letter in ((1e3, 1.0, ""), (1e6, 1e3, "k"), (1e9, 1e6, "M")):
        if abs(value) < limit:
            return f"{_digits(value / factor)}{letter}"
    return f"{_digits(value / 1e9)}G"


def _digits(value: float) -> str:
    """Three significant digits, without an exponent or a needless fraction."""
    if value == 0:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
