"""What people see of a search."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

from rich.markup import escape

from kubesim.cli.show import ERROR, OUT, add, new_table
from kubesim.experiment.expectations import Kind
from kubesim.experiment.verdicts import Verdict
from kubesim.units import counted, format_estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kubesim.experiment.search import Found, Tried


@contextlib.contextmanager
def progress(field: str) -> Iterator[Callable[[Tried], None]]:
    """Say on standard error, in one line, which levels were tried."""
    with ERROR.status(f"{escape(field)} …") as status:

        def tell(one: Tried) -> None:
            status.update(f"{escape(field)} = {_level(one.level)}: {one.verdict} …")

        yield tell


def search(found: Found) -> None:
    """The levels that were tried, and the border."""
    table = new_table(found.field, "estimate", "from limit", "replications", "verdict")
    for one in found.tried:
        add(table, _level(one.level), *_estimate(found, one), str(one.interval.replications), str(one.verdict))
    OUT.print(f"[bold]{escape(str(found.expectation))}[/bold], {escape(found.field)} varied", soft_wrap=True)
    OUT.print(table)
    OUT.print(_answer(found), soft_wrap=True)
    OUT.print(f"{counted(found.runs, 'run')} of {counted(len(found.tried), 'level')}")


def what_may_help(found: Found) -> list[str]:
    """What to say if there is no border."""
    undecided = [one for one in found.tried if one.verdict is Verdict.CANNOT_TELL]
    if undecided:
        reasons = dict.fromkeys(one.reason for one in undecided if one.reason)
        return [f"at {found.field} = {_level(undecided[0].level)} the data cannot tell: {'; '.join(reasons)}"]
    return [*found.refused, "there is no border in the range: give another --from or --to"]


def _estimate(found: Found, one: Tried) -> tuple[str, str]:
    """A level's estimate with its interval, and how far from the limit it is as a share of that."""
    interval = one.interval
    if math.isnan(interval.estimate):
        return one.reason.partition(":")[0] if one.reason.startswith("unstable") else "-", ""
    quantity, bounds = found.expectation.quantity, found.expectation.bounds
    measure = "" if quantity.kind is Kind.RATIO else quantity.measure
    shown = format_estimate(measure, interval.estimate, interval.half_width)
    ends = [end for end in (bounds.low, bounds.high) if math.isfinite(end)]
    nearest = min(ends, key=lambda end: abs(interval.estimate - end))
    return shown, f"{interval.estimate / nearest - 1:+.2%}" if nearest else ""


def _answer(found: Found) -> str:
    """The border in words."""
    field, holds_at, fails_at = escape(found.field), found.holds_at, found.fails_at
    if holds_at is None or fails_at is None:
        where = f"{field} from {_level(found.tried[0].level)} to {_level(found.tried[-1].level)}"
        if holds_at is None and fails_at is None:
            return f"{where}: the data cannot tell anywhere"
        is_undecided = any(one.verdict is Verdict.CANNOT_TELL for one in found.tried)
        places = "wherever the data can tell" if is_undecided else "everywhere"
        return f"{where}: it {'holds' if fails_at is None else 'fails'} {places}"
    up_to = "up to" if holds_at < fails_at else "down to"
    between = sum(min(holds_at, fails_at) < one.level < max(holds_at, fails_at) for one in found.tried)
    unsure = "; between them the data cannot tell" if between else ""
    return f"it holds {up_to} {field} = [bold]{_level(holds_at)}[/bold] and fails at {_level(fails_at)}{unsure}"


def _level(level: float) -> str:
    return f"{level:,.10g}"
