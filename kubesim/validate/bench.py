"""The machine that predictions are made for: the costs of a set, slowed down or sped up as a whole."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubesim.files import write_text
from kubesim.scenario import Scenario

if TYPE_CHECKING:
    from kubesim.cost import CostSet, Operation


class Bench:
    """A machine, ready to be asked.

    Parameters
    ----------
    costs
        What operations cost where the slowness is 1.
    slowness
        What all of these costs are multiplied by.
    hardware
        Fields of a scenario's ``hardware``.
    scratch
        A directory for the slowed cost set.
    """

    def __init__(self, costs: CostSet, slowness: float, hardware: dict[str, Any], scratch: Path) -> None:
        self.costs = slowed(costs, slowness)
        self.hardware = hardware
        self._file = scratch / f"slowness-{slowness!r}.yaml"

    def scenario(self, **fields: Any) -> Scenario:
        """A scenario on this machine."""
        return Scenario.model_validate({"hardware": self.hardware, "costs": str(self._cost_file), **fields})

    @cached_property
    def _cost_file(self) -> Path:
        """The costs as a file, which is what a scenario names."""
        if not self._file.exists():
            write_text(self._file, json.dumps(self.costs.model_dump(mode="json", exclude_none=True)))
        return self._file


def slowed(costs: CostSet, slowness: float) -> CostSet:
    """The same set with every operation so many times as dear."""
    return costs.with_operations({name: _slowed(one, slowness) for name, one in costs.operations.items()})


def _slowed(operation: Operation, slowness: float) -> Operation:
    parts = {
        name: number.model_copy(update={"value": number.value * slowness})
        for name in ("fixed_ns", "ns_per_byte")
        if (number := getattr(operation, name)) is not None
    }
    steps = [step.model_copy(update={"value": step.value * slowness}) for step in operation.ns_per_item]
    return operation.model_copy(update={**parts, "ns_per_item": steps})
