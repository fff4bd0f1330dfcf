"""What a scenario's results rest on: every number behind the operations it uses, the weakest evidence first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubesim.scenario.showing import evidence_html
from kubesim.scenario.simulation import costs_of, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from kubesim.cost import CostSet, Kind, Operation
    from kubesim.scenario.spec import Scenario


@dataclass(frozen=True, slots=True)
class Evidence:
    """One number of a cost set, as a scenario uses it.

    Parameters
    ----------
    operation, number, value
        Which number: of what, its name with the unit, and what it is.
    kind, source
        How it is known, and from where.
    uncertainty
        Standard error relative to the value, None where nobody has said.
    share
        Of the scenario's time, the part that the operation takes; of CPU time, or of time on card and wire.
    what
        What the operation is.
    """

    operation: str
    number: str
    value: float
    kind: Kind
    source: str
    uncertainty: float | None
    share: float
    what: str

    def to_dict(self) -> dict[str, Any]:
        """What ``kubesim costs --json`` prints of it."""
        return {
            "operation": self.operation,
            "number": self.number,
            "value": self.value,
            "kind": self.kind.value,
            "source": self.source,
            "uncertainty": self.uncertainty,
            "share": self.share,
            "what": self.what,
        }


class EvidenceList(list[Evidence]):
    """Numbers, in an order that says something; a table in Jupyter."""

    def _repr_html_(self) -> str:
        return evidence_html(self)


def evidence(scenario: Scenario) -> EvidenceList:
    """The numbers that a scenario rests on.

    Parameters
    ----------
    scenario
        It is run, to see which operations it uses and how much.

    Returns
    -------
    EvidenceList
        A list of :class:`Evidence`, by kind, the weakest first, then by share of the time, the largest first.

    Raises
    ------
    InputError
        If the scenario makes no sense.
    """
    return evidence_of(run(scenario).breakdown, costs_of(scenario))


def evidence_of(breakdown: pd.DataFrame, costs: CostSet) -> EvidenceList:
    """The numbers that a run rests on, in the order of :func:`evidence`.

    Parameters
    ----------
    breakdown
        Where the run's time went: its columns ``operation``, ``is_cpu`` and ``total_ns``.
    costs
        The prices it was run with.

    Raises
    ------
    InputError
        If an operation has no price.
    """
    found = []
    for name, operation, share in _used(breakdown, costs):
        for number, one in operation.numbers():
            source = _full_source(one.source, costs.sources)
            found.append(Evidence(name, number, one.value, one.kind, source, one.uncertainty, share, operation.what))
    spread = costs.default_spread
    source = _full_source(spread.source, costs.sources)
    found.append(
        Evidence("(all)", "spread", spread.value, spread.kind, source, spread.uncertainty, 1.0, "deviation over mean")
    )
    return EvidenceList(sorted(found, key=lambda one: (one.kind.strength, -one.share, one.operation, one.number)))


def _used(breakdown: pd.DataFrame, costs: CostSet) -> Iterator[tuple[str, Operation, float]]:
    """The operations of a breakdown that have a price, each with its share of the time it is part of."""
    rows = breakdown[breakdown["operation"] != "application"]
    for is_cpu in (True, False):
        chosen = rows[rows["is_cpu"] == is_cpu]
        total = max(1, int(chosen["total_ns"].sum()))
        for name, spent in zip(chosen["operation"], chosen["total_ns"], strict=True):
            yield str(name), costs.operation(str(name)), int(spent) / total
    yield "core_wakeup", costs.operation("core_wakeup"), 0.0


def _full_source(text: str, sources: dict[str, str]) -> str:
    """A source with the full name of what its first word stands for."""
    word, colon, rest = text.partition(":")
    return f"{sources[word]}: {rest.strip()}" if colon and word in sources else text
