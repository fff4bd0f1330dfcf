"""What runs have in common, and what tells them apart."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kubesim.report.data_table import DataTable, shown_level, text_table
from kubesim.scenario.settings import settings_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kubesim.figure import Level
    from kubesim.scenario.spec import Scenario

_OF_EACH_RUN = ("name", "description", "replication")
"""Fields that say nothing of what is simulated."""

_MANY = 8
"""With more values, a field's are counted rather than listed."""


def varied_tables(factors: Mapping[str, Sequence[Level]], scenarios: Sequence[Scenario]) -> list[DataTable]:
    """The factors with their levels, and the fields that change along with them."""
    rows = [
        (name, str(len(levels)), ", ".join(shown_level(level) for level in levels if level is not None))
        for name, levels in factors.items()
        if len(levels) > 1
    ]
    tables = [text_table("Factors", ("factor", "levels", "in this order"), rows)] if rows else []
    along = [
        (field, _listed(values))
        for field, values in _values(scenarios).items()
        if len(values) > 1 and field not in factors and not _names(field, factors)
    ]
    if along:
        tables.append(text_table("Fields that change along with these", ("field", "values"), along))
    return tables


def fixed_tables(scenarios: Sequence[Scenario]) -> list[DataTable]:
    """The fields that are the same in all runs that have them: first what was chosen, then the defaults."""
    chosen: list[tuple[str, str]] = []
    defaults: list[tuple[str, str]] = []
    values = _values(scenarios)
    given = {_plain(one.field) for scenario in scenarios for one in settings_of(scenario) if not one.is_default}
    for field, found in values.items():
        if len(found) == 1:
            (chosen if field in given else defaults).append((field, next(iter(found))))
    tables = [("Chosen", chosen), ("Defaults", defaults)]
    return [text_table(title, ("field", "value"), rows) for title, rows in tables if rows]


def _values(scenarios: Sequence[Scenario]) -> dict[str, dict[str, None]]:
    """The values of each field, as text, in the order in which they come."""
    found: dict[str, dict[str, None]] = {}
    for scenario in scenarios:
        for one in settings_of(scenario):
            if one.field not in _OF_EACH_RUN:
                found.setdefault(_plain(one.field), {})[_text(one.value)] = None
    return found


def _plain(field: str) -> str:
    """A field's name; that of a plugin's name is the plugin's."""
    return field.removesuffix(".name") if field in ("cni.name", "proxy.name") else field


def _names(field: str, factors: Mapping[str, Any]) -> bool:
    """Whether a field says which workload a factor's level is."""
    return field == "traffic.workload" and "traffic" in factors


def _listed(values: Mapping[str, None]) -> str:
    """Values one after the other, unless they are too many."""
    return ", ".join(values) if len(values) <= _MANY else f"{len(values)} different ones"


def _text(value: Any) -> str:
    """A value nearly as it is written in YAML."""
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value) or "none"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:,.12g}"
    return json.dumps(value, ensure_ascii=False)
