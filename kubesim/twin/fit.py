"""From measured ways to the prices of operations: least squares over the walks' own counts, no price below zero.

Operations that always come together cannot be told apart by any measurement. Between them the base set decides: each
number is also held, weakly, to the base set's, scaled by one factor for the whole machine, of which
a fixed price is a fifth at least.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls

from kubesim.cost import Kind, Number, Operation

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from kubesim.cost import CostSet
    from kubesim.kernel.walk import Hop
    from kubesim.twin.cases import Measured

_HOLD = 0.05
"""How much a number's relative distance from the base set's weighs against a way's relative error."""

_LEAST = 0.2
"""Of the base set's, at this machine's speed, a fixed price at least is: nothing that is done takes no time."""

_ROUNDING = 1e-6
_AT_LEAST = "a fifth of the base set's at this machine's speed: always with others, which have the rest"

_LEAST_NS = 1.0
"""Of a base set's number, so that a number that is zero there can be another here."""

Column = tuple[str, str, int]
"""An operation, which of its numbers, and for numbers per item above how many."""


@dataclass(frozen=True)
class Fit:
    """Prices that were found.

    Parameters
    ----------
    columns
        The numbers, in order.
    values_ns, errors_ns : array of float, shape (columns,)
        What they are, and their standard errors.
    least_ns : array of float, shape (columns,)
        What they could not be less than.
    speed
        Time here over time by the base set, for the whole machine.
    """

    columns: tuple[Column, ...]
    values_ns: npt.NDArray[np.float64]
    errors_ns: npt.NDArray[np.float64]
    least_ns: npt.NDArray[np.float64]
    speed: float

    def predict_ns(self, hops: Sequence[Hop], base: CostSet) -> float:
        """What a way takes by these prices."""
        counts = _counts(hops, base)
        return float(
            sum(counts.get(column, 0.0) * value for column, value in zip(self.columns, self.values_ns, strict=True))
        )

    def cost_set(self, base: CostSet, source: str, **about: str) -> CostSet:
        """The base set with these prices in place of its own.

        Parameters
        ----------
        base
            Where all other numbers come from.
        source
            How these were measured, for each number.
        about
            ``name``, ``title``, ``machine`` and ``kernel`` of the new set.
        """
        operations = dict(base.operations)
        for name in dict.fromkeys(column[0] for column in self.columns):
            operations[name] = self._operation(name, base.operation(name), source)
        return base.model_copy(update={**about, "extends": None, "operations": operations})

    def _operation(self, name: str, base: Operation, source: str) -> Operation:
        found = {column: number for number, column in enumerate(self.columns) if column[0] == name}

        def measured(kind: str, before: Number | None, above: int = 0) -> Number | None:
            number = found.get((name, kind, above))
            if before is None or number is None:
                return before
            value, error = float(self.values_ns[number]), float(self.errors_ns[number])
            uncertainty = round(error / value, 4) if value > 0 else None
            is_least = value <= float(self.least_ns[number]) * (1 + _ROUNDING)
            said = f"{source}; {_AT_LEAST}" if is_least else source
            return Number(value=round(value, 4), kind=Kind.MEASURED, source=said, uncertainty=uncertainty, above=above)

        items = [measured("item", step, step.above) for step in base.ns_per_item]
        return Operation(
            what=base.what,
            fixed_ns=measured("fixed", base.fixed_ns),
            ns_per_byte=measured("byte", base.ns_per_byte),
            ns_per_item=[step for step in items if step is not None],
            spread=base.spread,
        )


def fit(measured: Sequence[Measured], base: CostSet) -> Fit:
    """Solve for the prices of the operations that were measured.

    Parameters
    ----------
    measured
        Ways with their times and hops.
    base
        The set that says which numbers an operation has, and decides between those that cannot be told apart.
    """
    counts = [_counts(one.hops, base) for one in measured]
    columns = tuple(dict.fromkeys(column for row in counts for column in row))
    matrix = np.array([[row.get(column, 0.0) for column in columns] for row in counts])
    times = np.array([one.timing.best_ns for one in measured])
    prior = np.array([max(_value(base, column), _LEAST_NS if column[1] == "fixed" else 0.01) for column in columns])
    relative = matrix / times[:, None]
    expected = relative @ prior
    speed = float(expected.sum() / (expected @ expected))
    held = prior * speed
    stacked = np.vstack([relative * held, _HOLD * np.eye(len(columns))])
    goal = np.concatenate([np.ones(len(times)), np.full(len(columns), _HOLD)])
    least = np.array([_LEAST if kind == "fixed" else 0.0 for _, kind, _ in columns])
    above, _ = nnls(stacked, goal - stacked @ least)
    found = above + least
    residual = (relative * held) @ found - 1
    freedom = max(1, len(times) - len(columns) // 2)
    covariance = np.linalg.inv(stacked.T @ stacked) * float(residual @ residual) / freedom
    errors = np.sqrt(np.clip(np.diag(covariance), 0, None))
    return Fit(columns, found * held, errors * held, least * held, speed)


def _counts(hops: Sequence[Hop], base: CostSet) -> dict[Column, float]:
    """How often each number is paid on a way."""
    found: dict[Column, float] = {}

    def add(column: Column, amount: float) -> None:
        if amount:
            found[column] = found.get(column, 0.0) + amount

    for hop in hops:
        operation = base.operation(hop.operation)
        if operation.fixed_ns is not None:
            add((hop.operation, "fixed", 0), 1.0)
        if operation.ns_per_byte is not None:
            add((hop.operation, "byte", 0), float(hop.size_bytes))
        for step, following in itertools.zip_longest(operation.ns_per_item, operation.ns_per_item[1:]):
            upper = hop.items if following is None else min(hop.items, following.above)
            add((hop.operation, "item", step.above), float(max(0, upper - step.above)))
    return found


def _value(base: CostSet, column: Column) -> float:
    name, kind, above = column
    operation = base.operation(name)
    if kind == "fixed":
        return 0.0 if operation.fixed_ns is None else operation.fixed_ns.value
    if kind == "byte":
        return 0.0 if operation.ns_per_byte is None else operation.ns_per_byte.value
    return next(step.value for step in operation.ns_per_item if step.above == above)
