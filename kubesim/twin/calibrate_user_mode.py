"""A cost set of what is timed in a user-mode kernel, brought to the host's speed.

The host's kernel may lack IPVS, and must be spared a full conntrack table, whose limit is one for all namespaces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubesim.cost import DEFAULT_COST_SET, load_cost_set
from kubesim.files import write_text
from kubesim.twin.bursts import designs, measure, measure_in_user_mode, processor
from kubesim.twin.cost_file import About, cost_file
from kubesim.twin.operations import summarise
from kubesim.twin.realise import check_host
from kubesim.twin.steps import quietly

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubesim.cost import CostSet
    from kubesim.twin.operations import Estimate
    from kubesim.twin.steps import OnStep

_ROUNDS, _QUICK_ROUNDS = 40, 8
_HOST_ROUNDS = 6
_FRAMES = 1024
_LIMIT_S = 900
_PRICE = re.compile(r"(ipvs_\w+|conntrack_\w+) (fixed_ns|ns_per_item)(?: above (\d+))?")


@dataclass(frozen=True)
class UserModeCalibration:
    """What came out.

    Parameters
    ----------
    prices
        By operation and number, as :func:`kubesim.twin.operations.operation_prices` names them.
    ratios
        Between ways of the one kernel.
    scale
        How much longer fixed work takes on the host.
    kernel
        The user-mode kernel's release.
    base
        Where all other prices come from.
    """

    prices: Mapping[str, Estimate]
    ratios: Mapping[str, Estimate]
    scale: Estimate
    kernel: str
    base: CostSet


def calibrate_user_mode(
    base: str = DEFAULT_COST_SET, *, is_quick: bool = False, on_step: OnStep = quietly
) -> UserModeCalibration:
    """Time IPVS, tunnels, rules and a full conntrack table in a user-mode kernel, and what both have in the host's.

    Parameters
    ----------
    base
        The cost set that gives what is not measured.
    is_quick
        Fewer rounds.
    on_step
        Told what is being done.

    Raises
    ------
    InputError
        If this is not root, or there is no user-mode kernel.
    """
    base_set = load_cost_set(base)
    check_host(["ip"])
    rounds = _QUICK_ROUNDS if is_quick else _ROUNDS
    on_step("a user-mode kernel, which measures for a minute or some", 0.0)
    arguments = ["--rounds", str(rounds), "--frames", str(_FRAMES)]
    run = measure_in_user_mode(arguments, _LIMIT_S)
    on_step("another, whose conntrack table is full", 0.7)
    full = measure_in_user_mode([*arguments, "--full-table"], _LIMIT_S)
    on_step("the same on the host's kernel", 0.8)
    host = measure(designs(), _HOST_ROUNDS, _FRAMES)
    found = summarise([run, full], host)
    ratios = dict(found["ratios"])
    return UserModeCalibration(found["operations"], ratios, ratios.pop("host/user mode"), str(run["kernel"]), base_set)


def user_mode_cost_set_text(found: UserModeCalibration, name: str) -> str:
    """The cost set as a file that extends the base set.

    Parameters
    ----------
    found
        What was measured.
    name
        Of the set, that of its file.
    """
    today = datetime.now(UTC).date().isoformat()
    source = f"kubesim calibrate --kernel uml, {today}, Linux {found.kernel}, user mode"
    operations: dict[str, dict[str, Any]] = {}
    for key, estimate in found.prices.items():
        price = _PRICE.fullmatch(key)
        if price is None or estimate.value <= 0:
            continue  # less than nothing says only that it is too small to see: the base set's number stays
        operation, field, above = price[1], price[2], int(price[3] or 0)
        written = operations.setdefault(operation, _of_base(found.base, operation))
        value = round(estimate.value, 2)
        if field == "fixed_ns":
            uncertainty = round((found.scale.error or 0.0) / found.scale.value, 2)
            scaled = f"{source}; times {found.scale.value:.2f}, as other work takes on the host"
            written[field] = {"value": value, "kind": "derived", "source": scaled, "uncertainty": uncertainty}
        else:
            steps = [step for step in written.get(field, []) if step["above"] < above]
            written[field] = [*steps, {"above": above, "value": value, "kind": "measured", "source": source}]
    compared = [f"{key:45} {estimate.value:8.2f}" for key, estimate in found.ratios.items()]
    machine = processor(Path("/proc/cpuinfo").read_text("utf-8"))
    title = (
        f"IPVS and a full conntrack table on {machine}, timed in a user-mode kernel; all else from {found.base.name}"
    )
    about = About(name, title, machine, f"{found.kernel}, user mode", found.base.name)
    return cost_file(
        ["Ratios in the one kernel, of what each takes more than plain routing:", *compared], about, operations
    )


def write_user_mode_cost_set(found: UserModeCalibration, path: Path) -> None:
    """Write the cost set to a file."""
    write_text(path, user_mode_cost_set_text(found, path.stem))


def _of_base(base: CostSet, operation: str) -> dict[str, Any]:
    """An operation as the base set has it."""
    return base.operation(operation).model_dump(mode="json", exclude_none=True)
