"""The experiment file: a question, a scenario, and factors with their levels."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from kubesim.errors import InputError, did_you_mean
from kubesim.experiment.factors import Factors
from kubesim.experiment.measures import MEASURES
from kubesim.experiment.precision import LEAST_REPLICATIONS, WrittenPrecision
from kubesim.experiment.selection import REPLICATION, check_expectations
from kubesim.experiment.showing import experiment_html
from kubesim.figure import FigureSpec, FileName, Level, TableSpec, level_label
from kubesim.files import YamlDocument
from kubesim.scenario.fields import set_field
from kubesim.scenario.includes import read_document
from kubesim.scenario.spec import Scenario, scenario_from
from kubesim.units import counted
from kubesim.validation import validate

if TYPE_CHECKING:
    from kubesim.experiment.factors import Chosen


class Experiment(BaseModel):
    """A question, and the runs that answer it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: FileName = Field(description="of the experiment and its results")
    question: str = Field(default="", description="what it answers")
    expectation: str = Field(default="", description="what one expects to see, and why")
    scenario: dict[str, Any] = Field(description="the scenario, without the fields that are factors")
    factors: Factors = Field(
        description="levels by field of the scenario, such as cluster.services, all combined; of several blocks, each"
    )
    replications: int = Field(
        default=1, ge=1, le=10_000, description="runs of each combination, with other random numbers"
    )
    precision: WrittenPrecision | None = Field(
        default=None, description="run more replications until confidence intervals are so narrow, such as 2 %"
    )
    tables: list[TableSpec] = Field(default=[], description="tables to show when it is done")
    figures: list[FigureSpec] = Field(default=[], description="figures to draw")
    expect: list[str | dict[str, Any]] = Field(
        default=[], description="what has to hold of the measures, such as ratio(p99, proxy=iptables, proxy=none) > 1"
    )

    def factor_names(self) -> list[str]:
        """The factors of all blocks, in order."""
        return list(dict.fromkeys(factor for block in self.factors for factor in block.factor_names()))

    def first_replications(self) -> int:
        """How many replications of each combination are run whatever they say."""
        return self.replications if self.precision is None else max(self.replications, LEAST_REPLICATIONS)

    def notices(self) -> list[str]:
        """What a person should know of it before it is run."""
        hypercubes = [block.latin_hypercube for block in self.factors if block.latin_hypercube is not None]
        repeats = [(one.repeated(), one.samples) for one in hypercubes]
        return [
            f"latin_hypercube: {count} of {counted(samples, 'sample')} came out as others did, and "
            f"{'is' if count == 1 else 'are'} run once: fewer samples, or another seed, may repeat none"
            for count, samples in repeats
            if count
        ]

    def precise_measures(self) -> list[str]:
        """What its precision is about."""
        shown = [figure.y for figure in self.figures if figure.y] + [table.value for table in self.tables]
        asked = [] if self.precision is None else self.precision.of
        return asked or list(dict.fromkeys(shown)) or ["latency_mean_ns"]

    def _repr_html_(self) -> str:
        return experiment_html(self)


@dataclass(frozen=True)
class Combination:
    """One setting of all factors.

    Parameters
    ----------
    number
        Its place in the sweep, from 0.
    levels
        Level of each factor, as it is written in tables.
    first
        The scenario of its first replication.
    """

    number: int
    levels: dict[str, Level]
    first: Scenario

    def scenario(self, replication: int) -> Scenario:
        """What one of its replications runs."""
        return self.first.model_copy(update={REPLICATION: replication})

    def scenario_json(self, replication: int) -> str:
        """The same as JSON, without what nobody has given: it does not count as given where it is read, either."""
        return self.scenario(replication).model_dump_json(by_alias=True, exclude_unset=True)


def levels_text(levels: dict[str, Level]) -> str:
    """Levels of factors for people."""
    return ", ".join(f"{factor} = {level}" for factor, level in levels.items())


def load_experiment(path: Path | str) -> tuple[Experiment, list[Combination]]:
    """Read an experiment file and work out what it runs; paths in its scenario are relative to its directory.

    Parameters
    ----------
    path
        A YAML file.

    Raises
    ------
    InputError
        If it cannot be read or makes no sense, or one of its combinations does not.
    """
    path = Path(path)
    document = read_document(path, section="scenario")
    experiment = validate(Experiment, document)
    return experiment, _plan(experiment, document, path.parent)


def plan_experiment(experiment: Experiment, base: Path = Path()) -> list[Combination]:
    """What an experiment made in Python runs.

    Parameters
    ----------
    experiment
        The experiment.
    base
        Where relative paths in its scenario start.

    Raises
    ------
    InputError
        If one of its combinations makes no sense.
    """
    return _plan(experiment, YamlDocument(experiment.name, experiment.model_dump(by_alias=True), None), base)


def _plan(experiment: Experiment, document: YamlDocument, base: Path) -> list[Combination]:
    combinations = _combinations(experiment, document, base)
    if not combinations:
        raise document.error(("factors",), "every combination is excluded")
    shown: list[tuple[str, int, FigureSpec | TableSpec]] = []
    shown += [("figures", number, figure) for number, figure in enumerate(experiment.figures)]
    shown += [("tables", number, table) for number, table in enumerate(experiment.tables)]
    for field, number, spec in shown:
        problem = _nothing_to_show(spec, combinations)
        if problem is not None:
            raise document.error((field, number), problem)
    check_expectations(document, experiment.expect, [{**one.levels, REPLICATION: 0} for one in combinations])
    return combinations


def _nothing_to_show(spec: FigureSpec | TableSpec, combinations: list[Combination]) -> str | None:
    """Why a figure or table would have nothing to show even if all runs were finished, None if it would."""
    factors = {REPLICATION, *(factor for one in combinations for factor in one.levels)}
    unknown = [
        f"{name!r} is not a factor: {did_you_mean(name, factors)}" for name in spec.factors() if name not in factors
    ]
    unknown += [
        f"{name!r} is no measure: {did_you_mean(name, MEASURES)}" for name in spec.measures() if name not in MEASURES
    ]
    if unknown:
        return unknown[0]
    where = {name: level for name, level in spec.where.items() if name != REPLICATION}
    shown = [one.levels for one in combinations if all(one.levels[name] == level for name, level in where.items())]
    if not shown:
        return "no run has the levels in its where"
    if not isinstance(spec, FigureSpec):
        return None
    if spec.relative_to is not None and all(levels[str(spec.by)] != spec.relative_to for levels in shown):
        return f"relative_to: no run has the level {spec.relative_to!r} of {spec.by}"
    if spec.kind == "lines" and spec.x != REPLICATION and any(isinstance(levels[spec.x], str) for levels in shown):
        return f"the levels of {spec.x} are no numbers to draw lines along: kind: bars can show them"
    return None


def _combinations(experiment: Experiment, document: YamlDocument, base: Path) -> list[Combination]:
    """Every combination of levels, block by block and each once."""
    factors = experiment.factor_names()
    if REPLICATION in factors:
        raise document.error(("factors",), "replication is no factor: give replications, their number")
    seen: set[str] = set()
    found: list[Combination] = []
    for block in experiment.factors:
        for chosen in block.combinations():
            scenario = _scenario(experiment, chosen, document, base)
            key = scenario.model_dump_json()
            if key not in seen:
                seen.add(key)
                levels = {factor: _level(scenario, factor, chosen) for factor in factors}
                found.append(Combination(len(found), levels, scenario))
    return found


def _scenario(experiment: Experiment, chosen: Chosen, document: YamlDocument, base: Path) -> Scenario:
    """The scenario of one combination; a factor inside another one, such as a plugin's setting, is set after it."""
    data = copy.deepcopy(experiment.scenario)
    for factor in sorted(chosen, key=lambda name: name.count(".")):
        try:
            set_field(data, factor, chosen[factor])
        except InputError as error:
            raise document.error(("factors",), str(error)) from None
    data.setdefault("name", experiment.name)
    levels = ", ".join(f"{factor} = {level_label(value)}" for factor, value in chosen.items())
    place = f"{document.place} (with {levels})" if levels else document.place
    return scenario_from(YamlDocument(place, data, None), base)


def _level(scenario: Scenario, factor: str, chosen: Chosen) -> Level:
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
