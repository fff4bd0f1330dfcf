"""What a cost set looks like in Jupyter."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from kubesim import html

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubesim.cost.cost_set import CostSet, Number


def cost_set_html(costs: CostSet) -> str:
    """Where the prices hold, on what evidence they rest, and each of them."""
    numbers = [number for operation in costs.operations.values() for _, number in operation.numbers()]
    kinds = Counter(number.kind for number in numbers)
    known = ", ".join(f"{kinds[kind]} {kind.value}" for kind in sorted(kinds, key=lambda kind: kind.strength))
    columns = ("operation", "number", "value", "uncertainty", "kind", "source", "what it is")
    return html.shown(
        html.title(costs.name, "(cost set)"),
        html.line(costs.title),
        html.line(", ".join(part for part in (costs.machine, costs.kernel) if part)),
        html.line(f"{len(numbers)} numbers of {len(costs.operations)} operations, weakest evidence first: {known}"),
        html.folded("all numbers", html.table(columns, _rows(costs), numbers=("value", "uncertainty"))),
    )


def _rows(costs: CostSet) -> Iterator[tuple[str, ...]]:
    for name, operation in costs.operations.items():
        for field, number in operation.numbers():
            yield name, field, f"{number.value:g}", _percent(number), number.kind.value, number.source, operation.what


def _percent(number: Number) -> str:
    return "" if number.uncertainty is None else f"{number.uncertainty:.0%}"
