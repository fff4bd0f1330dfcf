"""Predicts every published figure, after the machines' factors have been fitted, and says how far off it is."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from scipy.optimize import brentq

from kubesim.cost import DEFAULT_COST_SET, CostSet, load_cost_set
from kubesim.errors import InputError
from kubesim.validate.bench import Bench
from kubesim.validate.predictor import UNITS
from kubesim.validate.records import NotModelled, Published, load_published

if TYPE_CHECKING:
    from kubesim.validate.records import AnyPredictor, Machine, Source, Target

_LOWEST, _HIGHEST = 1 / 16, 16.0
"""Factors on all costs that a fit looks between."""

_PRECISION = 1e-3
_DIGITS = 4


@dataclass(frozen=True)
class Comparison:
    """One published figure and what is predicted for it.

    Parameters
    ----------
    target
        What was measured.
    source
        Where it is printed.
    machine
        On what.
    role
        ``fitted`` where the figure went into the costs or the machine's factor, else ``predicted``.
    predicted
        In the target's unit.
    """

    target: Target
    source: Source
    machine: Machine
    role: str
    predicted: float

    @property
    def error(self) -> float:
        """Predicted less measured, relative to measured."""
        return self.predicted / self.target.value - 1

    @property
    def is_met(self) -> bool:
        """Whether the error is within the tolerance."""
        return abs(self.error) <= self.target.tolerance

    def to_dict(self) -> dict[str, Any]:
        """One row for programs and for tables."""
        target = self.target
        return {
            "id": target.id,
            "what": target.what,
            "machine": target.machine,
            "unit": target.unit,
            "measured": target.value,
            "predicted": self.predicted,
            "error": self.error,
            "tolerance": target.tolerance,
            "is_met": self.is_met,
            "role": self.role,
            "how": target.predict.how,
            "in_costs": target.in_costs,
            "derived": target.derived,
            "note": target.note,
            "source": target.source,
            "citation": self.source.citation,
            "url": self.source.url,
            "trust": self.source.trust,
        }


@dataclass(frozen=True)
class Fit:
    """What a machine's costs are multiplied by, and why.

    Parameters
    ----------
    machine
        Its name.
    slowness
        The factor.
    why
        On which targets it is fitted, or from where it is known.
    """

    machine: str
    slowness: float
    why: str


@dataclass(frozen=True)
class Validation:
    """The outcome.

    Parameters
    ----------
    cost_set
        Whose costs were used.
    fits
        Machines whose factor is not 1 as a matter of course.
    comparisons
        Every target, in the order of the file.
    not_modelled
        Figures that nothing predicts yet.
    """

    cost_set: str
    fits: tuple[Fit, ...]
    comparisons: tuple[Comparison, ...]
    not_modelled: tuple[NotModelled, ...]

    def summary(self) -> dict[str, Any]:
        """Of each role: targets, how many are met, and the median of absolute errors."""
        found = {}
        for role in ("predicted", "fitted"):
            rows = [one for one in self.comparisons if one.role == role]
            errors = [abs(one.error) for one in rows]
            found[role] = {
                "targets": len(rows),
                "met": sum(one.is_met for one in rows),
                "median_error": median(errors) if errors else None,
            }
        return found

    def to_dict(self) -> dict[str, Any]:
        """What ``kubesim validate --json`` prints."""
        return {
            "kubesim_version": metadata.version("kubesim"),
            "cost_set": self.cost_set,
            "summary": self.summary(),
            "fits": [{"machine": fit.machine, "slowness": fit.slowness, "why": fit.why} for fit in self.fits],
            "targets": [one.to_dict() for one in self.comparisons],
            "not_modelled": [{"what": one.what, "citation": one.citation} for one in self.not_modelled],
        }


def compare(costs: str = DEFAULT_COST_SET, published: Published | None = None) -> Validation:
    """Compare the simulator with published measurements.

    Parameters
    ----------
    costs
        A cost set: a name, or a YAML file.
    published
        The measurements; those that come with kubesim if not given.

    Returns
    -------
    Validation
        The same for the same version and costs.

    Raises
    ------
    InputError
        If there is no such cost set, or it has no price for what a target needs.
    """
    records = published or load_published()
    cost_set = load_cost_set(costs)
    with tempfile.TemporaryDirectory(prefix="kubesim-validate-") as scratch:
        comparer = _Comparer(records, cost_set, Path(scratch))
        fits = {name: comparer.fit(name) for name in records.machines}
        comparisons = tuple(comparer.compare(target, fits[target.machine]) for target in records.targets)
    shown = tuple(fit for fit in fits.values() if fit.why)
    return Validation(cost_set.name, shown, comparisons, tuple(records.not_modelled))


class _Comparer:
    """Predicts on machines, the same thing only once."""

    def __init__(self, records: Published, costs: CostSet, scratch: Path) -> None:
        self._records = records
        self._costs = costs
        self._scratch = scratch
        self._known: dict[tuple[str, float, str], float] = {}
        self._is_in_costs = records.cost_set in (costs.name, costs.extends)

    def fit(self, name: str) -> Fit:
        """The factor of a machine: fitted, given, or 1."""
        machine = self._records.machines[name]
        if not machine.fitted_on:
            return Fit(name, machine.slowness, machine.slowness_from)
        targets = [target for target in self._records.targets if target.id in machine.fitted_on]

        def too_slow(slowness: float) -> float:
            ratios = [self._predict(name, slowness, one.predict, one.unit) / one.value for one in targets]
            return sum(map(math.log, ratios)) / len(ratios)

        ends = too_slow(_LOWEST), too_slow(_HIGHEST)
        if ends[0] * ends[1] > 0:
            raise InputError(f"no factor between {_LOWEST:g} and {_HIGHEST:g} fits {name} to its targets")
        found = brentq(too_slow, _LOWEST, _HIGHEST, rtol=_PRECISION)
        return Fit(name, float(f"{found:.{_DIGITS}g}"), f"fitted on {', '.join(machine.fitted_on)}")

    def compare(self, target: Target, fit: Fit) -> Comparison:
        """One target."""
        machine = self._records.machines[target.machine]
        is_fitted = target.id in machine.fitted_on or bool(target.in_costs and self._is_in_costs)
        predicted = self._predict(target.machine, fit.slowness, target.predict, target.unit)
        role = "fitted" if is_fitted else "predicted"
        return Comparison(target, self._records.sources[target.source], machine, role, predicted)

    def _predict(self, machine: str, slowness: float, predictor: AnyPredictor, unit: str) -> float:
        key = (machine, slowness, predictor.model_dump_json())
        if key not in self._known:
            bench = Bench(self._costs, slowness, self._records.machines[machine].hardware, self._scratch)
            self._known[key] = predictor.predict(bench)
        return self._known[key] / UNITS[unit]
