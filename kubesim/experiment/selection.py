"""Which runs an expectation is about: its names held against the factors, its selectors against the runs.

Factors that an expectation does not name and that vary are kept apart: each combination of their levels is looked at by
itself. A combination in which only one side of a comparison was run has nothing to compare, and is left out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubesim.errors import InputError, did_you_mean
from kubesim.experiment.expectations import Expectation, Kind, parse_expectation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from kubesim.experiment.expectations import Quantity, Selector
    from kubesim.figure import Level
    from kubesim.files import YamlDocument

REPLICATION = "replication"
"""The one column of levels that is no factor."""

NO_LEVEL = "null"
"""How the level of a factor is written that a scenario does not have."""


def level_key(level: Level) -> str:
    """A level as text, the same for 10 and 10.0, which a table's column makes of it beside missing levels."""
    if level is None or (isinstance(level, float) and math.isnan(level)):
        return NO_LEVEL
    if isinstance(level, bool):
        return str(level).lower()
    if isinstance(level, float) and level.is_integer():
        return str(int(level))
    return str(level)


@dataclass(frozen=True)
class Runs:
    """The levels of runs, as text, in the order of a table.

    Parameters
    ----------
    levels
        Of each run, by factor.
    replications
        Of each run.
    known
        All levels of each factor, of runs that are missing too.
    """

    levels: tuple[dict[str, str], ...]
    replications: tuple[int, ...]
    known: dict[str, tuple[str, ...]]

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, Any]], known: Mapping[str, Sequence[Level]] | None = None) -> Runs:
        """From the levels of runs, as a plan or a table has them.

        Parameters
        ----------
        rows
            Level of each factor and the number of the replication, one mapping per run.
        known
            All levels of each factor; those of the runs if not given.
        """
        rows = list(rows)
        factors = [name for name in (known if known is not None else rows[0] if rows else {}) if name != REPLICATION]
        typed = {name: {str(level): level_key(level) for level in (known or {}).get(name, ())} for name in factors}
        levels = tuple(
            # A column that holds truths beside texts has "True" for true.
            {name: typed[name].get(row[name], row[name]) if isinstance(row[name], str) else level_key(row[name])
             for name in factors}
            for row in rows
        )  # fmt: skip
        replications = tuple(int(row[REPLICATION]) for row in rows)
        all_levels = {
            name: tuple(dict.fromkeys([*typed[name].values(), *(one[name] for one in levels)])) for name in factors
        }
        return cls(levels, replications, all_levels)


@dataclass(frozen=True)
class Compared:
    """Runs that are looked at together.

    Parameters
    ----------
    levels
        Of the factors that vary and that the expectation does not name.
    sides
        What is compared: for each side, the row of each replication. A value has one side, a slope one per level.
    along
        Of a slope, the level of each side.
    """

    levels: dict[str, str]
    sides: tuple[dict[int, int], ...]
    along: tuple[float, ...] = ()

    @property
    def replications(self) -> list[int]:
        """Those that all sides have, in order."""
        return sorted(set.intersection(*(set(side) for side in self.sides)))


@dataclass(frozen=True)
class Selection:
    """All that an expectation is about.

    Parameters
    ----------
    combinations
        Those that can be looked at; none if nothing fits.
    left_out
        How many have one side only.
    """

    combinations: tuple[Compared, ...]
    left_out: int


def select(quantity: Quantity, runs: Runs) -> Selection:
    """The runs that a quantity is about.

    Raises
    ------
    InputError
        If it names a factor or level that there is not, or names that do not go together.
    """
    named = _named(quantity, runs)
    groups = _groups(runs, named.where, named.compared)
    made = [_combination(levels, sides, named.sides, is_slope=quantity.kind is Kind.SLOPE) for levels, sides in groups]
    found = [one for one in made if one is not None]
    varying = [name for name in runs.known if len({one.levels.get(name) for one in found}) > 1]
    shown = tuple(Compared({name: one.levels[name] for name in varying}, one.sides, one.along) for one in found)
    return Selection(shown, len(made) - len(found))


def nothing_selected(quantity: Quantity, runs: Runs) -> InputError:
    """Why nothing can be looked at, though all names are known."""
    named = _named(quantity, runs)
    rows = _matching(runs, named.where)
    if not rows:
        return InputError(f"no run has {_written(named.where)}")
    if quantity.kind is Kind.VALUE or named.compared is None:
        return InputError("there is no run to look at")
    return InputError(f"no two runs differ in {named.compared} alone{_also_differing(runs, rows, named)}")


def check_expectations(
    document: YamlDocument, expect: Sequence[str | dict[str, Any]], rows: Iterable[Mapping[str, Level]]
) -> None:
    """Refuse expectations of an experiment file that make no sense, or that no run of its plan is about.

    Parameters
    ----------
    document
        The file.
    expect
        As in the file.
    rows
        Levels of each planned run.

    Raises
    ------
    InputError
        With file, line and what is known.
    """
    runs = Runs.of(rows)
    for number, written in enumerate(expect):
        try:
            expectation = parse_expectation(written)
            if isinstance(expectation, Expectation) and not select(expectation.quantity, runs).combinations:
                raise nothing_selected(expectation.quantity, runs)
        except InputError as error:
            raise document.error(("expect", number), str(error)) from None


@dataclass(frozen=True)
class _Named:
    """A quantity's names, in full."""

    where: dict[str, str]
    compared: str | None
    sides: tuple[str, ...]


def _named(quantity: Quantity, runs: Runs) -> _Named:
    where: dict[str, str] = {}
    for selector in quantity.where:
        factor, level = _resolved(selector, runs)
        if factor in where:
            raise InputError(f"at '{selector}': {factor} has a level already")
        where[factor] = level
    sides = [_resolved(selector, runs) for selector in quantity.sides]
    compared = sides[0][0] if sides else None
    if quantity.along is not None:
        compared = _factor(quantity.along, runs)
        _refuse_texts(compared, runs)
    for selector, (factor, _) in zip(quantity.sides, sides, strict=True):
        if factor != compared:
            raise InputError(f"at '{selector}': a {quantity.kind} is between two levels of one factor, here {compared}")
    if sides and sides[0] == sides[1]:
        raise InputError(f"at '{quantity.sides[1]}': this is compared with itself")
    if compared in where:
        raise InputError(f"{compared} is compared, and cannot have one level only")
    return _Named(where, compared, tuple(level for _, level in sides))


def _resolved(selector: Selector, runs: Runs) -> tuple[str, str]:
    """The factor and level that a selector means."""
    factor = _factor(selector.factor, runs)
    known = runs.known[factor]
    for text in _spellings(selector.level):
        if text in known:
            return factor, text
    raise InputError(
        f"at '{selector}': {selector.level!r} is no level of {factor}: {did_you_mean(selector.level, known)}"
    )


def _spellings(level: str) -> list[str]:
    """How a level may be written in tables: 10 for 10.0 and 1e1, True for true in a column that holds texts, too."""
    number = [level_key(float(level))] if _is_number(level) else []
    return [level, *number, *([level.lower(), level.capitalize()] if level.lower() in ("true", "false") else [])]


def _factor(name: str, runs: Runs) -> str:
    """A factor by its full name, or by the end of its name where that is of one only."""
    if name in runs.known:
        return name
    found = [factor for factor in runs.known if factor.endswith(f".{name}")]
    if len(found) > 1:
        raise InputError(f"at {name!r}: this may be {' or '.join(found)}: give the full name")
    if not found:
        ends = [factor.rpartition(".")[2] for factor in runs.known]
        raise InputError(f"at {name!r}: there is no such factor: {did_you_mean(name, [*ends, *runs.known])}")
    return found[0]


def _refuse_texts(factor: str, runs: Runs) -> None:
    for level in runs.known[factor]:
        if level != NO_LEVEL and not _is_number(level):
            raise InputError(f"at {factor!r}: a slope needs numbers, and {level!r} is none")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _matching(runs: Runs, where: Mapping[str, str]) -> list[int]:
    """Rows that have these levels."""
    wanted = where.items()
    return [row for row, levels in enumerate(runs.levels) if wanted <= levels.items()]


def _groups(
    runs: Runs, where: Mapping[str, str], compared: str | None
) -> list[tuple[dict[str, str], dict[str, dict[int, int]]]]:
    """Rows by the levels of all factors but the one that is compared, then by that, then by replication."""
    rest = [name for name in runs.known if name != compared and name not in where]
    groups: dict[tuple[str, ...], dict[str, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for row in _matching(runs, where):
        levels = runs.levels[row]
        side = groups[tuple(levels[name] for name in rest)]["" if compared is None else levels[compared]]
        if runs.replications[row] in side:
            raise InputError(f"two rows are replication {runs.replications[row]} of {_written(levels)}")
        side[runs.replications[row]] = row
    return [(dict(zip(rest, key, strict=True)), sides) for key, sides in groups.items()]


def _combination(
    levels: dict[str, str], found: dict[str, dict[int, int]], wanted: tuple[str, ...], *, is_slope: bool
) -> Compared | None:
    """The sides of one combination, None if one of them is not there."""
    if is_slope:
        keys = sorted((level for level in found if level != NO_LEVEL), key=float)
        along = tuple(map(float, keys))
        return Compared(levels, tuple(found[key] for key in keys), along) if len(set(along)) > 1 else None
    sides = tuple(found[level] for level in wanted or ("",) if level in found)
    return Compared(levels, sides) if len(sides) == len(wanted or ("",)) else None


def _also_differing(runs: Runs, rows: Sequence[int], named: _Named) -> str:
    """Other factors of whose levels each goes with one level of the factor that is compared only."""
    compared = str(named.compared)
    rows = [row for row in rows if not named.sides or runs.levels[row][compared] in named.sides]
    together = []
    for name in runs.known:
        seen: dict[str, set[str]] = defaultdict(set)
        for row in rows:
            seen[runs.levels[row][name]].add(runs.levels[row][compared])
        if name != compared and all(len(levels) == 1 for levels in seen.values()):
            together.append(name)
    if not together:
        return ""
    return f": {', '.join(together)} {'changes' if len(together) == 1 else 'change'} with it"


def _written(levels: Mapping[str, str]) -> str:
    return ", ".join(f"{name} = {level}" for name, level in levels.items()) or "these levels"
