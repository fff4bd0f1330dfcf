"""A cost set of this machine: designed twins are measured, the same ways walked, and prices solved for."""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kubesim.cost import DEFAULT_COST_SET, load_cost_set
from kubesim.files import write_text
from kubesim.scenario import Scenario
from kubesim.twin.bursts import processor
from kubesim.twin.cases import Measurement
from kubesim.twin.cost_file import About, cost_file
from kubesim.twin.fit import Fit, fit
from kubesim.twin.names import remove_leftovers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubesim.cost import CostSet
    from kubesim.twin.cases import Measured

SMALL_BYTES, LARGE_BYTES = 64, 1372
"""A datagram that fits into any cache line or two, and one that just fits through VXLAN with its own headers."""

_ROUNDS, _QUICK_ROUNDS = 40, 12
_STEPS = {"iptables_rule": (3000, 10_000), "iptables_nft_rule": (3000,)}
_CNIS = ("calico-bgp", "flannel-host-gw", "flannel-vxlan")


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


def calibrate(
    base: str = DEFAULT_COST_SET, *, is_quick: bool = False, on_step: Callable[[str], None] = lambda _what: None
) -> Calibration:
    """Measure this machine.

    Parameters
    ----------
    base
        The cost set that gives what is not measured.
    is_quick
        Measure less: half a minute instead of some.
    on_step
        Called with what is being done.

    Raises
    ------
    InputError
        If this host cannot make twins.
    """
    remove_leftovers()
    base_set = _with_steps(load_cost_set(base))
    rounds = _QUICK_ROUNDS if is_quick else _ROUNDS
    sizes = (SMALL_BYTES, LARGE_BYTES)
    fitted = Measurement(_designed(is_quick=is_quick), sizes=sizes).run(rounds, on_step)
    held_out = Measurement(_others(is_quick=is_quick), ("first", "last"), (SMALL_BYTES, 700)).run(rounds, on_step)
    return Calibration(fit(fitted, base_set), fitted, held_out, base_set)


def _with_steps(base: CostSet) -> CostSet:
    """The set with more steps for rules, of the same price at first: long chains leave one cache after the other."""
    operations = dict(base.operations)
    for name, steps in _STEPS.items():
        known = base.operation(name)
        items = list(known.ns_per_item)
        for above in steps:
            if items and above > items[-1].above:
                items.append(items[-1].model_copy(update={"above": above}))
        operations[name] = known.model_copy(update={"ns_per_item": items})
    return base.model_copy(update={"operations": operations})


def _scenario(cni: str, proxy: Any, services: int = 1, endpoints: int = 1, node: str = "node-2") -> Scenario:
    """A client on the first node, and all endpoints on one."""
    return Scenario.model_validate(
        {
            "cluster": {"nodes": 2, "services": services, "endpoints": endpoints, "endpoint_nodes": [node]},
            "cni": cni,
            "proxy": proxy,
            "traffic": {"workload": "udp_rr", "clients_on": ["node-1"]},
        }
    )


def _designed(*, is_quick: bool) -> dict[str, Scenario]:
    """Twins that differ in one thing each, so that its price shows."""
    found: dict[str, Scenario] = {}
    for cni in _CNIS:
        for node, where in (("node-1", "same node"), ("node-2", "cross node")):
            found[f"{cni}, {where}"] = _scenario(cni, "none", node=node)
        for services in (1, 1000):
            found[f"{cni}, iptables, {services} Services"] = _scenario(cni, "iptables", services)
        found[f"{cni}, nftables, 100 Services"] = _scenario(cni, "nftables", 100)
    for services in (3000, 10_000) if is_quick else (300, 2000, 3000, 5000, 10_000, 20_000):
        found[f"calico-bgp, iptables, {services} Services"] = _scenario("calico-bgp", "iptables", services)
    proxy = {"name": "iptables", "backend": "nft"}
    found["flannel-vxlan, iptables-nft, 1 Service"] = _scenario("flannel-vxlan", proxy, 1)
    for services in (1000,) if is_quick else (100, 1000, 3000):
        found[f"calico-bgp, iptables-nft, {services} Services"] = _scenario("calico-bgp", proxy, services)
    if not is_quick:
        found["calico-bgp, iptables, 50 endpoints"] = _scenario("calico-bgp", "iptables", 1, 50)
        found["calico-bgp, nftables, 1000 Services"] = _scenario("calico-bgp", "nftables", 1000)
    return found


def _others(*, is_quick: bool) -> dict[str, Scenario]:
    """Twins that the prices are tried on."""
    found = {
        "calico-bgp, iptables, 300 Services of 3": _scenario("calico-bgp", "iptables", 300, 3),
        "flannel-vxlan, iptables, 300 Services of 2": _scenario("flannel-vxlan", "iptables", 300, 2),
        "flannel-host-gw, nftables, 1000 Services of 3": _scenario("flannel-host-gw", "nftables", 1000, 3),
    }
    if not is_quick:
        found["calico-bgp, iptables, 3000 Services, same node"] = _scenario("calico-bgp", "iptables", 3000, 1, "node-1")
        found["flannel-vxlan, nftables, 300 Services, same node"] = _scenario(
            "flannel-vxlan", "nftables", 300, 2, "node-1"
        )
        proxy = {"name": "iptables", "backend": "nft"}
        found["flannel-host-gw, iptables-nft, 500 Services of 3"] = _scenario("flannel-host-gw", proxy, 500, 3)
    return found


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
