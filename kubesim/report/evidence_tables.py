"""What the prices behind results rest on, the weakest evidence first."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from kubesim.errors import InputError
from kubesim.report.data_table import Column, DataTable
from kubesim.scenario.simulation import costs_of
from kubesim.scenario.used_costs import evidence_of
from kubesim.units import format_measure, format_ns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pandas as pd

    from kubesim.cost import CostSet
    from kubesim.scenario import Evidence, Scenario

_KINDS = {
    "assumed": "nobody has said",
    "derived": "worked out from figures that somebody printed",
    "published": "printed for an operation like this one",
    "measured": "measured on the machine of the cost set",
    "given": "given by the scenario",
}


def evidence_tables(scenarios: Mapping[int, Scenario], breakdown: pd.DataFrame) -> tuple[list[DataTable], list[str]]:
    """The numbers that runs rest on, a table per kind of evidence.

    Parameters
    ----------
    scenarios
        By run.
    breakdown
        Where the runs' time went; its column ``run`` says which is which.

    Returns
    -------
    tuple of list of DataTable and list of str
        The tables, and why some numbers are not in them.
    """
    found: dict[tuple[str, str, str, float], Evidence] = {}
    notes: dict[str, None] = {}
    for cost_set, one in _evidence(scenarios, breakdown, notes):
        key = (cost_set, one.operation, one.number, one.value)
        before = found.get(key)
        found[key] = one if before is None else replace(before, share=max(before.share, one.share))
    has_several = len({key[0] for key in found}) > 1
    ordered = sorted(found.items(), key=lambda item: (item[1].kind.strength, -item[1].share, item[0]))
    tables = []
    for kind, items in groupby(ordered, key=lambda item: item[1].kind.value):
        rows = tuple(_row(one, key[0] if has_several else None) for key, one in items)
        tables.append(DataTable(f"{kind.capitalize()}: {_KINDS[kind]}", _columns(has_several=has_several), rows))
    return tables, list(notes)


def _evidence(
    scenarios: Mapping[int, Scenario], breakdown: pd.DataFrame, notes: dict[str, None]
) -> Iterable[tuple[str, Evidence]]:
    """The numbers behind each run, with the name of its cost set; what cannot be told is noted."""
    sets: dict[str, CostSet] = {}
    for run, rows in breakdown.groupby("run", sort=False):
        scenario = scenarios.get(int(str(run)))
        if scenario is None:
            continue
        key = scenario.costs + scenario.hardware.model_dump_json()
        try:
            costs = sets[key] = sets.get(key) or costs_of(scenario)
            for one in evidence_of(rows, costs):
                yield scenario.costs, one
        except InputError as error:
            notes[f"{scenario.costs} is not at hand, so that its numbers are missing here ({error})"] = None


def _columns(*, has_several: bool) -> tuple[Column, ...]:
    names = [
        Column("operation", is_header=True),
        Column("number"),
        Column("value", is_number=True),
        Column("of the time, at most", is_number=True),
        Column("source"),
    ]
    return tuple([*names, Column("cost set")] if has_several else names)


def _row(one: Evidence, cost_set: str | None) -> tuple[str, ...]:
    """What a number is, how large, for how much of the time of a run it matters, and who says so."""
    share = "" if one.operation == "(all)" else format_measure("share_ratio", round(one.share, 4))
    cells = (one.operation, _number(one.number), _value(one), share, one.source)
    return cells if cost_set is None else (*cells, cost_set)


def _number(name: str) -> str:
    """What a number is, without its unit."""
    return name.removesuffix("_ns").removeprefix("ns_").replace("_", "\N{NO-BREAK SPACE}")


def _value(one: Evidence) -> str:
    """A number with its unit, and its standard error where somebody has said."""
    if one.number == "spread":
        text = format_measure("spread_ratio", one.value)
    elif one.number == "fixed_ns":
        text = format_ns(one.value)
    else:
        text = f"{one.value:,g} ns"
    return text if one.uncertainty is None else f"{text} ± {format_measure('error_ratio', one.uncertainty)}"
