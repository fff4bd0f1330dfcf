"""A cost set of this machine: designed twins are measured, the same ways walked, and prices solved for."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kubesim.cost import DEFAULT_COST_SET, load_cost_set
from kubesim.files import write_text
from kubesim.twin.bursts import processor
from kubesim.twin.cases import Measurement
from kubesim.twin.cost_file import About, cost_file
from kubesim.twin.designs import Extent, designed, held_out
from kubesim.twin.fit import Fit, fit
from kubesim.twin.names import remove_leftovers
from kubesim.twin.realise import check_host
from kubesim.twin.steps import quietly

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubesim.cost import CostSet
    from kubesim.twin.cases import Measured
    from kubesim.twin.steps import OnStep

_ROUNDS = {Extent.QUICK: 30, Extent.NORMAL: 100, Extent.GRID: 60}
_STEPS = {
    "iptables_rule": (300, 3000, 10_000),
    "iptables_nft_rule": (300, 3000),
    "iptables_match": (20,),
    "iptables_nft_match": (20,),
}


@dataclass(frozen=True)
class Calibration:
    """What came out.

    Parameters
    ----------
    fit
        The prices.
    fitted, held_out
        The ways that were solved for, and others that were predicted from the result.
    base
        Where all other prices come from.
    """

    fit: Fit
    fitted: list[Measured]
    held_out: list[Measured]
    base: CostSet

    def error(self, one: Measured) -> float:
        """How far the predicted time of a way is from the measured one, relative to that."""
        return self.fit.predict_ns(one.hops, self.base) / one.timing.best_ns - 1

    def share_within(self, ratio: float, ways: Sequence[Measured]) -> float:
        """The share of some ways that are predicted within this error."""
        errors = np.array([abs(self.error(one)) for one in ways])
        return float(np.mean(errors <= ratio)) if len(errors) else float("nan")


def calibrate(base: str = DEFAULT_COST_SET, extent: Extent = Extent.NORMAL, on_step: OnStep = quietly) -> Calibration:
    """Measure this machine.

    Ways that prices are solved from and ways that these are tried on take turns: a machine that others share is faster
    at one time than at another.

    Parameters
    ----------
    base
        The cost set that gives what is not measured.
    extent
        How much.
    on_step
        Told what is being done.

    Raises
    ------
    InputError
        If this host cannot make twins.
    """
    check_host(["ip"])
    remove_leftovers()
    base_set = _with_steps(load_cost_set(base))
    designs = designed(extent)
    ways = Measurement([*designs, *held_out(extent)]).run(_ROUNDS[extent], on_step)
    names = {case.name for case in designs}
    fitted = [one for one in ways if one.way.setting in names]
    return Calibration(fit(fitted, base_set), fitted, [one for one in ways if one.way.setting not in names], base_set)


def _with_steps(base: CostSet) -> CostSet:
    """The set with more steps for rules, of the same price at first: long chains leave one cache after the other."""
    operations = dict(base.operations)
    for name, marks in _STEPS.items():
        known = base.operation(name)
        items = {step.above: step for step in known.ns_per_item}
        for mark in marks:
            below = max((above for above in items if above < mark), default=None)
            if below is not None and mark not in items:
                items[mark] = items[below].model_copy(update={"above": mark})
        operations[name] = known.model_copy(update={"ns_per_item": [items[above] for above in sorted(items)]})
    return base.model_copy(update={"operations": operations})


def cost_set_text(found: Calibration, name: str) -> str:
    """The cost set as a file that extends the base set.

    Parameters
    ----------
    found
        What was measured.
    name
        Of the set, that of its file.
    """
    today = datetime.now(UTC).date().isoformat()
    kernel, machine = platform.release(), machine_name()
    source = f"kubesim calibrate, {today}, Linux {kernel}, {machine}"
    made = found.fit.cost_set(found.base, source, name=name)
    measured = {column[0] for column in found.fit.columns}
    operations = {
        key: operation.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        for key, operation in made.operations.items()
        if key in measured
    }
    within = found.share_within(0.1, found.held_out)
    comments = [
        f"Measured by `kubesim calibrate` on {today}: datagrams through {len(found.fitted)} ways of twins in network",
        "namespaces, best decile, solved by non-negative least squares over the walks' own counts. Operations that",
        f"always come together are split as in {found.base.name}. Uncertainties are standard errors over values.",
        f"Of {len(found.held_out)} other ways {within:.0%} were predicted within 10 %. What is not here is taken",
        "from the set that this one extends.",
    ]
    title = f"Measured on {machine}, Linux {kernel}; cards, wires, TCP and IPVS from {found.base.name}"
    return cost_file(comments, About(name, title, machine, kernel, found.base.name), operations)


def write_cost_set(found: Calibration, path: Path) -> None:
    """Write the cost set to a file."""
    write_text(path, cost_set_text(found, path.stem))


def machine_name() -> str:
    """The processor's name, and whether it is a virtual machine's."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        text = ""
    return f"{processor(text)}{', virtual' if re.search(r'^flags.* hypervisor', text, re.MULTILINE) else ''}"
