"""The experiment file: a question, a scenario, and factors with their levels."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from kubesim.errors import did_you_mean
from kubesim.experiment.showing import experiment_html
from kubesim.figure import FigureSpec, Level, TableSpec, level_label
from kubesim.files import YamlDocument, parse_yaml, read_text
from kubesim.scenario.fields import set_field
from kubesim.scenario.spec import Scenario, scenario_from
from kubesim.validation import validate

if TYPE_CHECKING:
    from pathlib import Path


def _list_of_grids(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


Grid = dict[str, Annotated[list[Any], Field(min_length=1)]]


class Experiment(BaseModel):
    """A question, and the runs that answer it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="of the experiment and its results")
    question: str = Field(default="", description="what it answers")
    expectation: str = Field(default="", description="what one expects to see, and why")
    scenario: dict[str, Any] = Field(description="the scenario, without the fields that are factors")
    factors: Annotated[list[Grid], BeforeValidator(_list_of_grids, json_schema_input_type=Grid | list[Grid])] = Field(
        description="levels by field of the scenario, such as cluster.services, all combined; of several grids, each"
    )
    replications: int = Field(
        default=1, ge=1, le=10_000, description="runs of each combination, with other random numbers"
    )
    tables: list[TableSpec] = Field(default=[], description="tables to show when it is done")
    figures: list[FigureSpec] = Field(default=[], description="figures to draw")

    def factor_names(self) -> list[str]:
        """The factors of all grids, in order."""
        return list(dict.fromkeys(factor for grid in self.factors for factor in grid))

    def _repr_html_(self) -> str:
        return experiment_html(self)


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep.

    Parameters
    ----------
    number
        Its place in the sweep, from 0.
    levels
        Level of each factor, as it is written in tables.
    scenario
        What is run.
    """

    number: int
    levels: dict[str, Level]
    scenario: Scenario


def load_experiment(path: Path) -> tuple[Experiment, list[PlannedRun]]:
    """Read an experiment file and work out its runs; paths in its scenario are relative to its directory.

    Parameters
    ----------
    path
        A YAML file.

    Raises
    ------
    InputError
        If it cannot be read or makes no sense, or one of its runs does not.
    """
    document = parse_yaml(read_text(path), str(path))
    experiment = validate(Experiment, document)
    runs = plan_runs(experiment, document, path.parent)
    shown: list[tuple[str, int, FigureSpec | TableSpec]] = []
    shown += [("figures", number, figure) for number, figure in enumerate(experiment.figures)]
    shown += [("tables", number, table) for number, table in enumerate(experiment.tables)]
    for field, number, spec in shown:
        problem = _nothing_to_show(spec, runs)
        if problem is not None:
            raise document.error((field, number), problem)
    return experiment, runs


def _nothing_to_show(spec: FigureSpec | TableSpec, runs: list[PlannedRun]) -> str | None:
    """Why a figure or table would have nothing to show even if all runs were finished, None if it would."""
    factors = {factor for run in runs for factor in run.levels}
    for factor in spec.factors():
        if factor not in factors:
            return f"{factor!r} is not a factor: {did_you_mean(factor, factors)}"
    shown = [run.levels for run in runs if all(run.levels[name] == level for name, level in spec.where.items())]
    if not shown:
        return "no run has the levels in its where"
    if not isinstance(spec, FigureSpec):
        return None
    if spec.relative_to is not None and all(levels[str(spec.by)] != spec.relative_to for levels in shown):
        return f"relative_to: no run has the level {spec.relative_to!r} of {spec.by}"
    if spec.kind == "lines" and any(isinstance(levels[spec.x], str) for levels in shown):
        return f"the levels of {spec.x} are no numbers to draw lines along: kind: bars can show them"
    return None


def plan_runs(experiment: Experiment, document: YamlDocument, base: Path) -> list[PlannedRun]:
    """Every combination of levels, grid by grid and each once, with its scenario.

    Raises
    ------
    InputError
        If a factor is no field of the scenario, or a combination makes no sense.
    """
    factors = experiment.factor_names()
    seen: set[str] = set()
    runs: list[PlannedRun] = []
    for grid in experiment.factors:
        for combination in itertools.product(*grid.values()):
            chosen = dict(zip(grid, combination, strict=True))
            for replication in range(experiment.replications):
                scenario = _scenario(experiment, chosen, replication, document.place, base)
                key = scenario.model_dump_json()
                if key not in seen:
                    seen.add(key)
                    levels = {factor: _level(scenario, factor, chosen) for factor in factors}
                    runs.append(PlannedRun(len(runs), {**levels, "replication": replication}, scenario))
    return runs


def _scenario(experiment: Experiment, chosen: dict[str, Any], replication: int, place: str, base: Path) -> Scenario:
    """The scenario of one combination."""
    data = copy.deepcopy(experiment.scenario)
    for factor, value in chosen.items():
        set_field(data, factor, value)
    data["replication"] = replication
    data.setdefault("name", experiment.name)
    levels = ", ".join(f"{factor} = {level_label(value)}" for factor, value in chosen.items())
    return scenario_from(YamlDocument(f"{place} (with {levels})" if levels else place, data, None), base)


def _level(scenario: Scenario, factor: str, chosen: dict[str, Any]) -> Level:
    """The level of a factor as it is written in tables; None where the scenario has no such field."""
    if factor in chosen:
        return level_label(chosen[factor])
    found: Any = scenario
    for part in factor.split("."):
        if not isinstance(found, BaseModel) or part not in type(found).model_fields:
            return None
        found = getattr(found, part)
    if isinstance(found, BaseModel):
        changed = {
            name: value for name, value in found.model_dump(mode="json").items() if name in found.model_fields_set
        }
        return level_label(changed)
    return level_label(found)
