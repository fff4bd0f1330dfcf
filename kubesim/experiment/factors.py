"""Factors and their levels: which combinations an experiment runs.

A block combines all levels of its factors (a full grid), and with them what stands under ``zip`` (levels side by side),
``list`` (combinations as they are) and ``latin_hypercube`` (samples that fill a space evenly). Levels that make sense
only beside others have a ``where``; combinations that make no sense are excluded.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from kubesim.errors import did_you_mean
from kubesim.figure import Level, level_label
from kubesim.units import counted

_SIGNIFICANT_DIGITS = 6
_MOST_COMBINATIONS = 100_000

Chosen = dict[str, Any]
"""A level of each factor, as it is set in the scenario."""

Levels = Annotated[list[Any], Field(min_length=1)]


class ConditionalLevels(BaseModel):
    """Levels of a factor that is varied only beside some levels of others."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    levels: Levels = Field(description="the levels")
    where: dict[str, Any] = Field(
        min_length=1, description="a level, or a list of levels, of each factor that it depends on"
    )


class Range(BaseModel):
    """Where a latin hypercube draws a factor's levels from."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    from_: float = Field(alias="from", description="the lowest")
    to: float = Field(description="the highest")
    scale: Literal["linear", "log"] = Field(default="linear", description="what is filled evenly")
    is_whole: bool | None = Field(
        default=None, description="whole numbers; by default where both ends are written as such"
    )

    @model_validator(mode="before")
    @classmethod
    def _of_whole_ends(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("is_whole") is None:
            ends = [data.get("from", data.get("from_")), data.get("to")]
            return {**data, "is_whole": all(isinstance(end, int) for end in ends)}
        return data

    @model_validator(mode="after")
    def _has_room(self) -> Range:
        if self.from_ >= self.to:
            raise ValueError(f"from {self.from_:g} has to be less than to {self.to:g}")
        if self.scale == "log" and self.from_ <= 0:
            raise ValueError(f"a logarithmic scale has no {self.from_:g}: from has to be more than 0")
        if self.count is not None and self.count < 1:
            raise ValueError(f"there is no whole number from {self.from_:g} to {self.to:g}")
        return self

    @property
    def count(self) -> int | None:
        """How many levels there are; None for fractions, of which there is no end."""
        return math.floor(self.to) - math.ceil(self.from_) + 1 if self.is_whole else None

    def level(self, share: float) -> float | int:
        """The level at some share of the way, in [0, 1); of whole numbers each has its own stretch of it."""
        first, end = self.from_, self.to
        if self.is_whole:
            first, end = math.ceil(self.from_), math.floor(self.to) + 1
        if self.scale == "log":
            value = math.exp(math.log(first) + share * math.log(end / first))
        else:
            value = first + share * (end - first)
        if self.is_whole:
            return min(max(math.floor(value), int(first)), int(end) - 1)
        return float(f"{value:.{_SIGNIFICANT_DIGITS}g}")


class LatinHypercube(BaseModel):
    """Samples of which each factor's levels are spread evenly (McKay, Beckman & Conover, Technometrics 21, 1979)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int = Field(ge=1, le=_MOST_COMBINATIONS, description="how many combinations")
    seed: int = Field(default=1, ge=0, description="of what is drawn")
    factors: dict[str, Range | Levels] = Field(min_length=1, description="a range, or a list of levels, of each factor")

    @model_validator(mode="after")
    def _has_enough_levels(self) -> LatinHypercube:
        counts = [space.count if isinstance(space, Range) else len(space) for space in self.factors.values()]
        most = math.prod(count for count in counts if count is not None)
        if None not in counts and self.samples > most:
            levels = counted(most, "combination of levels", "combinations of levels")
            raise ValueError(f"samples: its factors have {levels}, which is fewer than {self.samples:,} samples")
        return self

    def repeated(self) -> int:
        """How many samples came out as others did, as those of whole numbers and of lists of levels may."""
        found = self.combinations()
        return len(found) - len({tuple(map(repr, one.values())) for one in found})

    def combinations(self) -> list[Chosen]:
        """The samples, in which some may be there twice."""
        from scipy.stats import qmc  # noqa: PLC0415 - takes a while, and few need it

        sampler = qmc.LatinHypercube(len(self.factors), rng=np.random.default_rng(self.seed))
        return [
            {name: _sampled(space, share) for (name, space), share in zip(self.factors.items(), row, strict=True)}
            for row in sampler.random(self.samples).tolist()
        ]


def _sampled(space: Range | list[Any], share: float) -> Any:
    return space.level(share) if isinstance(space, Range) else space[int(share * len(space))]


class Block(BaseModel):
    """Factors that are combined with each other: its other fields are a full grid, all levels with all others."""

    model_config = ConfigDict(extra="allow", frozen=True, populate_by_name=True)
    __pydantic_extra__: dict[str, Levels | ConditionalLevels] = Field(init=False)

    zip_: dict[str, Levels] = Field(default={}, alias="zip", description="levels side by side: all first ones, …")
    list_: list[Annotated[dict[str, Any], Field(min_length=1)]] = Field(
        default=[], alias="list", description="combinations as they stand"
    )
    latin_hypercube: LatinHypercube | None = Field(default=None, description="samples that fill a space evenly")
    exclude: list[Annotated[dict[str, Any], Field(min_length=1)]] = Field(
        default=[],
        description="a level, or a list of levels, of some factors: what has them is left out",
    )

    @property
    def grid(self) -> dict[str, list[Any] | ConditionalLevels]:
        """Levels of the factors of the grid."""
        return self.__pydantic_extra__

    @model_validator(mode="before")
    @classmethod
    def _has_no_range(cls, data: Any) -> Any:
        for name, levels in data.items() if isinstance(data, dict) else ():
            if isinstance(levels, dict) and "to" in levels:
                raise ValueError(f"{name}: a list of levels is needed: a range is for latin_hypercube, in its factors")
        return data

    @model_validator(mode="after")
    def _makes_sense(self) -> Block:
        lengths = {name: len(levels) for name, levels in self.zip_.items()}
        if len(set(lengths.values())) > 1:
            said = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise ValueError(f"zip needs lists of one length: {said}")
        parts = [set(part) for part in (self.grid, self.zip_, self._listed(), self._sampled())]
        for one, other in itertools.combinations(parts, 2):
            if one & other:
                raise ValueError(f"{min(one & other)} is there twice")
        for name, levels, dependent in self._conditions():
            if name == dependent or name not in set().union(*parts):
                raise ValueError(f"{dependent} depends on {name}, which is no factor beside it")
            self._check_levels(name, levels, dependent)
        self._in_order()
        count = self._most()
        if count > _MOST_COMBINATIONS:
            raise ValueError(
                f"{count:,} combinations are more than {_MOST_COMBINATIONS:,}: a latin hypercube needs fewer"
            )
        return self

    def _check_levels(self, name: str, wanted: Any, dependent: str) -> None:
        """See that levels which others depend on are levels of the factor; those that a range gives are not known."""
        known = self._levels_given(name)
        if known is None or any(_is_level(one, wanted) for one in known):
            return
        for level in wanted if isinstance(wanted, list) else [wanted]:
            if not any(_is_level(one, level) for one in known):
                names = [str(level_label(one)) for one in known]
                raise ValueError(f"{dependent}: {name} has no level {level!r}: {did_you_mean(str(level), names)}")

    def _levels_given(self, name: str) -> list[Any] | None:
        """The levels of a factor as they are given; None if they come from a range."""
        space: Any = self.grid.get(name, self.zip_.get(name))
        if space is None and self.latin_hypercube is not None:
            space = self.latin_hypercube.factors.get(name)
        if space is None:
            return [one[name] for one in self.list_ if name in one]
        if isinstance(space, ConditionalLevels):
            return space.levels
        return None if isinstance(space, Range) else list(space)

    def _in_order(self) -> list[tuple[str, ConditionalLevels]]:
        """Conditional factors, those first that others depend on."""
        left = {name: levels for name, levels in self.grid.items() if isinstance(levels, ConditionalLevels)}
        found: list[tuple[str, ConditionalLevels]] = []
        while left:
            free = [name for name, levels in left.items() if not levels.where.keys() & left.keys()]
            if not free:
                raise ValueError(f"{', '.join(left)} depend on each other")
            found += [(name, left.pop(name)) for name in free]
        return found

    def _most(self) -> int:
        """How many combinations there are at most, all levels of conditional factors counted."""
        lengths = [
            len(levels.levels if isinstance(levels, ConditionalLevels) else levels) for levels in self.grid.values()
        ]
        lengths += [len(levels) for levels in list(self.zip_.values())[:1]]
        lengths += [len(self.list_)] if self.list_ else []
        return math.prod(lengths) * (1 if self.latin_hypercube is None else self.latin_hypercube.samples)

    def _listed(self) -> list[str]:
        return list(dict.fromkeys(name for one in self.list_ for name in one))

    def _sampled(self) -> list[str]:
        return [] if self.latin_hypercube is None else list(self.latin_hypercube.factors)

    def _conditions(self) -> list[tuple[str, Any, str]]:
        """Factors that others depend on, each with the levels that count and what depends on it."""
        found = [
            (name, wanted, factor)
            for factor, levels in self.grid.items()
            if isinstance(levels, ConditionalLevels)
            for name, wanted in levels.where.items()
        ]
        return found + [(name, wanted, "exclude") for one in self.exclude for name, wanted in one.items()]

    def factor_names(self) -> list[str]:
        """Its factors, in order."""
        return list(dict.fromkeys([*self.grid, *self.zip_, *self._listed(), *self._sampled()]))

    def levels_of(self, factor: str) -> list[Level]:
        """The levels of one of its factors as they are written in tables, in order, each once."""
        return list(dict.fromkeys(level_label(one[factor]) for one in self.combinations() if factor in one))

    def combinations(self) -> list[Chosen]:
        """What it runs, in order."""
        plain = {name: levels for name, levels in self.grid.items() if not isinstance(levels, ConditionalLevels)}
        parts: list[list[Chosen]] = [[{name: level} for level in levels] for name, levels in plain.items()]
        if self.zip_:
            parts.append([dict(zip(self.zip_, row, strict=True)) for row in zip(*self.zip_.values(), strict=True)])
        if self.list_:
            parts.append(list(self.list_))
        if self.latin_hypercube is not None:
            parts.append(self.latin_hypercube.combinations())
        found: list[Chosen] = [
            {name: level for part in combination for name, level in part.items()}
            for combination in itertools.product(*parts)
        ]
        for name, levels in self._in_order():
            found = [added for one in found for added in _with_conditional(one, name, levels)]
        return [one for one in found if not any(_has(one, excluded) for excluded in self.exclude)]


def _with_conditional(one: Chosen, name: str, levels: ConditionalLevels) -> list[Chosen]:
    return [{**one, name: level} for level in levels.levels] if _has(one, levels.where) else [one]


def _has(one: Chosen, wanted: dict[str, Any]) -> bool:
    """Whether a combination has one of the wanted levels of each factor."""
    return all(
        name in one and any(_is_level(one[name], level) for level in _alternatives(levels))
        for name, levels in wanted.items()
    )


def _alternatives(levels: Any) -> list[Any]:
    """What is accepted: each of a list, or all of it, where a level is a list itself."""
    return [levels, *(levels if isinstance(levels, list) else [])]


def _is_level(chosen: Any, level: Any) -> bool:
    """Whether a level is the one that is meant: plugins go by their names, too; true is not 1, but 1.0 is."""
    forms = [chosen, chosen.get("name", chosen.get("workload"))] if isinstance(chosen, dict) else [chosen]
    return any(form == level and isinstance(form, bool) == isinstance(level, bool) for form in forms)


def _blocks(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


Factors = Annotated[list[Block], BeforeValidator(_blocks, json_schema_input_type=Block | list[Block])]
"""Blocks whose combinations are run, one block after the other; one may stand by itself."""
