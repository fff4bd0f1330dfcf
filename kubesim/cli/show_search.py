"""What people see of a search."""

from __future__ import annotations

import contextlib
from math import isfinite, isinf
from typing import TYPE_CHECKING

from rich.markup import escape

from kubesim.cli.show import ERROR, OUT, add, new_table
from kubesim.experiment.expectations import Expectation, Kind, parse_expectation
from kubesim.units import counted, format_count, format_measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kubesim.experiment.search import Found, Tried


@contextlib.contextmanager
def progress(field: str) -> Iterator[Callable[[Tried], None]]:
    """Say on standard error, in one line, which levels were tried."""
    with ERROR.status(f"{escape(field)} …") as status:

        def tell(one: Tried) -> None:
            status.update(f"{escape(field)} = {format_count(one.level)}: {one.verdict} …")

        yield tell


def search(found: Found) -> None:
    """The levels that were tried, and the border."""
    expectation = parse_expectation(found.expectation)
    assert isinstance(expectation, Expectation)  # noqa: S101 - a search has no other
    table = new_table(found.field, "estimate", "95 % interval", "replications", "verdict")
    for one in found.tried:
        interval = one.interval
        ends = f"{_text(expectation, interval.low)} to {_text(expectation, interval.high)}"
        shown = "unstable" if one.reason.startswith("unstable") else _text(expectation, interval.estimate)
        has_ends = isfinite(interval.low) or isfinite(interval.high)
        add(table, _level(one.level), shown, ends if has_ends else "", str(interval.replications), str(one.verdict))
    OUT.print(f"[bold]{escape(found.expectation)}[/bold], {escape(found.field)} varied", soft_wrap=True)
    OUT.print(table)
    OUT.print(_answer(found), soft_wrap=True)
    OUT.print(f"{counted(found.runs, 'run')} of {counted(len(found.tried), 'level')}")


def _answer(found: Found) -> str:
    """The border in words."""
    field, holds_at, fails_at = escape(found.field), found.holds_at, found.fails_at
    if holds_at is None or fails_at is None:
        known = "fails" if holds_at is None and fails_at is not None else "holds" if holds_at is not None else None
        levels = f"{_level(found.tried[0].level)} to {_level(found.tried[-1].level)}"
        return f"from {field} {levels} it never surely {'fails' if known == 'holds' else 'holds'}"
    up_to = "up to" if holds_at < fails_at else "down to"
    between = sum(min(holds_at, fails_at) < one.level < max(holds_at, fails_at) for one in found.tried)
    unsure = "; between them the data cannot tell" if between else ""
    return f"it holds {up_to} {field} = [bold]{_level(holds_at)}[/bold] and fails at {_level(fails_at)}{unsure}"


def _level(level: float) -> str:
    return f"{level:,.10g}"


def _text(expectation: Expectation, value: float) -> str:
    """A value of the quantity in a unit that suits it."""
    if isinf(value):
        return "beyond all that was seen"
    quantity = expectation.quantity
    return format_count(value) if quantity.kind is Kind.RATIO else format_measure(quantity.measure, value)
