"""One scenario's twin, measured and held against the simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubesim.scenario.simulation import costs_of
from kubesim.twin.cases import Case, Measurement, Way
from kubesim.twin.names import UP, remove_leftovers, remove_namespaces
from kubesim.twin.realise import Twin
from kubesim.twin.steps import quietly
from kubesim.twin.wires import twin_deployment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubesim.scenario import Scenario
    from kubesim.twin.probe import Timing
    from kubesim.twin.steps import OnStep

_ROUNDS = 100


@dataclass(frozen=True)
class Compared:
    """One way, as it is and as the simulator says.

    Parameters
    ----------
    way, server
        Which way, and which endpoint received.
    timing
        What was measured.
    predicted_ns
        By the scenario's cost set.
    rules
        Rules tested, by the walk.
    """

    way: Way
    server: str
    timing: Timing
    predicted_ns: int
    rules: int

    @property
    def error_ratio(self) -> float:
        """How far the prediction is from the best decile, relative to that."""
        return self.predicted_ns / self.timing.best_ns - 1

    def to_dict(self) -> dict[str, Any]:
        """What ``kubesim twin run --json`` prints of it."""
        return {
            "service": self.way.service,
            "server": self.server,
            "payload_bytes": self.way.payload_bytes,
            "is_new": self.way.is_new,
            "rules_tested": self.rules,
            "best_decile_ns": self.timing.best_ns,
            "median_ns": self.timing.median_ns,
            "samples": self.timing.samples,
            "predicted_ns": self.predicted_ns,
            "error_ratio": self.error_ratio,
        }


def compare(
    scenario: Scenario,
    services: Sequence[str],
    sizes: Sequence[int],
    client: str | None = None,
    on_step: OnStep = quietly,
) -> list[Compared]:
    """Build a scenario's twin, measure, and hold the times against the simulator's; nothing is left behind.

    Parameters
    ----------
    scenario
        What is built.
    services
        To which Services: by name, or ``first``, ``middle``, ``last``.
    sizes
        Payloads in bytes.
    client
        The pod that sends, by its own or its owner's name; otherwise the first client of the scenario's traffic.
    on_step
        Told what is being done.

    Raises
    ------
    InputError
        If the scenario has no twin, or this host cannot make it.
    """
    remove_leftovers()
    costs = costs_of(scenario)
    found = []
    for one in Measurement([Case(scenario.name, scenario, services, sizes, client)]).run(_ROUNDS, on_step):
        predicted_ns = sum(costs.price_ns(hop.operation, hop.items, hop.size_bytes) for hop in one.hops)
        rules = sum(one.path.rules_tested.values())
        found.append(Compared(one.way, one.server, one.timing, predicted_ns, rules))
    return found


def bring_up(scenario: Scenario, on_step: OnStep = quietly) -> dict[str, str]:
    """Build a scenario's twin and leave it; one that is up already is replaced.

    Returns
    -------
    dict of str to str
        Namespaces on this host by the names of nodes and pods.
    """
    remove_leftovers()
    remove_namespaces(UP)
    deployment = twin_deployment(scenario)
    twin = Twin(deployment, deployment.cluster.pods, UP)
    try:
        twin.up(on_step)
    except BaseException:
        twin.down()
        raise
    hosts = [deployment.host(node.name) for node in deployment.cluster.nodes]
    return {namespace.name: twin.name(namespace) for host in hosts for namespace in host.namespaces.values()}


def take_down() -> list[str]:
    """Remove the twin that is up, and what killed runs have left; the names of namespaces that were there."""
    return [*remove_namespaces(UP), *remove_leftovers()]
