"""Capacity questions: up to which level of a field an expectation holds.

The level is found by bisection. It is taken for granted that there is one border: on one side of it the expectation
holds, on the other it does not. At each level replications are run until the whole confidence interval lies on one
side of what is expected, until it is foreseeable that it never will, or until there may be no more. Where they cannot
tell, the border is searched for from both sides. All levels meet the same random numbers, so that neighbouring ones
differ by what the level does. An interval that is looked at several times misleads more often than one time in twenty;
it does so next to the border only, where the two sides hardly differ.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kubesim.errors import InputError
from kubesim.experiment.bisection import Border, Span
from kubesim.experiment.evaluation import check_expectation
from kubesim.experiment.expectations import Expectation, Kind, Regression, parse_expectation
from kubesim.experiment.frames import FinishedRun, frames_of
from kubesim.experiment.places import Place, Work
from kubesim.experiment.precision import LEAST_REPLICATIONS
from kubesim.experiment.record import record_of
from kubesim.experiment.results import results_of_frame
from kubesim.experiment.spec import Experiment, plan_experiment
from kubesim.experiment.verdicts import Verdict
from kubesim.scenario.fields import set_field
from kubesim.scenario.spec import scenario_from

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from kubesim.experiment.record import Record
    from kubesim.experiment.spec import Combination
    from kubesim.files import YamlDocument
    from kubesim.scenario.spec import Scenario
    from kubesim.stats.intervals import Interval

_GROWTH = 2
"""Times as many replications in each round at a level."""

_ENOUGH_TO_FORESEE = 12
"""Of so many replications the spread is known well enough to foresee how many it would take."""

_HOPELESS = 2
"""Times as many replications as there may be: if it would take more than that, a level is left undecided."""

_UNSTABLE = "unstable: the latency grows without end"
"""Why a level fails at which there is no latency to hold against the expectation."""


@dataclass(frozen=True)
class Tried:
    """One level that was tried.

    Parameters
    ----------
    level
        Of the field.
    verdict
        Whether the expectation holds there.
    interval
        Of its quantity, in the worst combination.
    reason
        Why the data cannot tell, or what else decided.
    """

    level: float
    verdict: Verdict
    interval: Interval
    reason: str = ""


@dataclass(frozen=True)
class Found:
    """The border.

    Parameters
    ----------
    field, expectation
        What was varied, and until when.
    holds_at, fails_at
        The last level that it surely holds at, and the first that it surely does not; None if there is none in the
        range. Between them the data cannot tell, or nothing was tried.
    tried
        All levels that were tried, in order.
    runs
        How many runs that took.
    refused
        Why it looked no further upwards or downwards, where a level made no sense.
    """

    field: str
    expectation: Expectation
    holds_at: float | None
    fails_at: float | None
    tried: tuple[Tried, ...]
    runs: int
    refused: tuple[str, ...] = ()


def search(
    scenario: dict[str, Any],
    base: Path,
    field: str,
    until: str,
    where: Span,
    *,
    place: Place | None = None,
    replications_at_most: int = 48,
    on_tried: Callable[[Tried], None] = lambda _tried: None,
) -> Found:
    """Find up to which level of a field an expectation holds.

    Parameters
    ----------
    scenario
        As its file has it.
    base
        Where relative paths in it start.
    field
        What is varied: a number of the scenario, by its dotted name.
    until
        The expectation, such as ``p99 < 1 ms`` or ``ratio(cpu, proxy=iptables, proxy=nftables) < 1.1``; levels that it
        compares are set in the scenario.
    where
        The range.
    place
        Where runs are run.
    replications_at_most
        At one level.
    on_tried
        Called with each level when it is known what it is.

    Raises
    ------
    InputError
        If field, expectation or range make no sense, a run between tried levels does not, or the measure is never
        there.
    """
    expectation = _expectation(until, field)
    trials = _Trials(scenario, base, field, expectation, replications_at_most, on_tried)
    for end in (where.low, where.high):
        if end is not None:
            trials.combinations(end)  # an end that makes no sense is refused before anything is run
    border = Border(trials.verdict, where)
    with (place or Place()).opened() as trials.place:
        holds_at, fails_at = border.find()
    tried = tuple(trials.tried[level] for level in sorted(trials.tried))
    return Found(field, expectation, holds_at, fails_at, tried, trials.runs, tuple(border.refused.values()))


def range_of(
    document: YamlDocument,
    base: Path,
    field: str,
    low: float | None = None,
    high: float | None = None,
    within: float = 0.01,
) -> Span:
    """Where to search for a border along a scenario's field.

    Parameters
    ----------
    document, base
        The scenario as its file has it, and where relative paths in it start.
    field
        What is varied, by its dotted name.
    low, high
        The ends; without them it begins at what the scenario says.
    within
        How close the two sides are to be, as a share.

    Raises
    ------
    InputError
        If the scenario makes no sense, the field has no number that a search could begin at, or the ends make no sense.
    """
    given = [end for end in (low, high) if end is not None]
    for name, end in (("--from", low), ("--to", high)):
        if end is not None and not math.isfinite(end):
            raise InputError(f"{name} {end:g}: a number is needed")
    if low is not None and high is not None and low >= high:
        raise InputError(f"--from {low:g} has to be less than --to {high:g}")
    value = _number(document, base, field, given[0] if given else None)
    is_whole = isinstance(value, int)
    for end in given:
        if is_whole and not end.is_integer():
            raise InputError(f"--vary {field}: its levels are whole numbers, and {end:g} is none")
    low, high = ((int(end) if is_whole and end is not None else end) for end in (low, high))
    return Span(value, low, high, is_whole=is_whole, within=within)


def _number(document: YamlDocument, base: Path, field: str, given: float | None) -> float:
    """The value of a field, with this value or with what the scenario says."""
    value: Any = _with_field(document, base, field, given)
    for part in field.split("."):
        if part not in getattr(type(value), "model_fields", {}):
            _with_field(document, base, field, 1)  # says what is wrong with its name
            value = None
            break
        value = getattr(value, part)
    if value is None:
        raise InputError(f"--vary {field}: the scenario does not say it: give --from and --to")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"--vary {field}: this is no number: a search needs one, such as cluster.services")
    return value


def _with_field(document: YamlDocument, base: Path, field: str, value: float | None) -> Scenario:
    """The scenario, with a field changed if there is a value for it."""
    data = copy.deepcopy(document.data)
    if value is None or not isinstance(data, dict):
        return scenario_from(document, base)
    try:
        set_field(data, field, int(value) if float(value).is_integer() else value)
    except InputError as error:
        raise InputError(f"--vary {error}") from None
    places = {**document.settings, field: f"--vary {field}"}
    return scenario_from(replace(document, data=data, settings=places), base)


def _expectation(until: str, field: str) -> Expectation:
    """What is to hold along a field."""
    try:
        found = parse_expectation(until)
        problem = _problem(found, field)
    except InputError as error:
        problem = str(error)
    if problem is not None:
        raise InputError(f"--until: {problem}")
    assert isinstance(found, Expectation)  # noqa: S101 - nothing else is without a problem
    return found


def _problem(found: Expectation | Regression, field: str) -> str | None:
    """Why an expectation cannot be held against one level of a field at a time, None if it can."""
    if not isinstance(found, Expectation):
        return "a search needs an expectation of a measure, not a regression"
    if found.quantity.kind is Kind.SLOPE:
        return "a search looks at one level at a time, and a slope needs several"
    for selector in (*found.quantity.sides, *found.quantity.where):
        if selector.factor == field or field.endswith(f".{selector.factor}"):
            return f"at '{selector}': {field} is what is varied"
    return None


class _Trials:
    """Levels that were tried, each once."""

    def __init__(
        self,
        scenario: dict[str, Any],
        base: Path,
        field: str,
        expectation: Expectation,
        replications_at_most: int,
        on_tried: Callable[[Tried], None],
    ) -> None:
        self._scenario = scenario
        self._base = base
        self._field = field
        self._expectation = expectation
        self.place = Place()
        self._at_most = max(replications_at_most, LEAST_REPLICATIONS)
        self._on_tried = on_tried
        self.tried: dict[float, Tried] = {}
        self.runs = 0

    def verdict(self, level: float) -> Verdict:
        """Try a level: whether the expectation holds there."""
        self.tried[level] = self._try(level)
        self._on_tried(self.tried[level])
        return self.tried[level].verdict

    def combinations(self, level: float) -> list[Combination]:
        """What is run at a level."""
        return plan_experiment(self._experiment(level), self._base)

    def _try(self, level: float) -> Tried:
        combinations = self.combinations(level)
        records: dict[tuple[int, int], Record] = {}
        count = LEAST_REPLICATIONS
        while True:
            self._run(combinations, count, records)
            found = self._judged(level, combinations, records)
            if found.verdict is not Verdict.CANNOT_TELL or count >= self._at_most or self._is_hopeless(found.interval):
                return found
            count = min(count * _GROWTH, self._at_most)

    def _is_hopeless(self, interval: Interval) -> bool:
        """Whether more replications would not tell either; the half-width falls with the root of their number."""
        if math.isnan(interval.estimate):
            return True
        if not math.isfinite(interval.half_width):
            return False  # an end that is open closes with more replications
        margin = abs(self._expectation.bounds.margin(interval.estimate))
        share = interval.half_width / margin if margin else math.inf
        return (
            interval.replications >= _ENOUGH_TO_FORESEE and interval.replications * share**2 > _HOPELESS * self._at_most
        )

    def _experiment(self, level: float) -> Experiment:
        """The level, and every combination of those that the expectation names."""
        quantity = self._expectation.quantity
        factors: dict[str, list[Any]] = {self._field: [level]}
        for selector in (*quantity.sides, *quantity.where):
            factors.setdefault(selector.factor, [])
            factors[selector.factor].append(_value(selector.level))
        return Experiment.model_validate({"name": "search", "scenario": self._scenario, "factors": factors})

    def _run(self, combinations: list[Combination], count: int, records: dict[tuple[int, int], Record]) -> None:
        work = [
            Work((one.number, replication), one.scenario_json(replication))
            for one in combinations
            for replication in range(count)
            if (one.number, replication) not in records
        ]
        for done in self.place.run(work):
            if done.error is not None:
                raise InputError(f"{self._field} = {combinations[done.key[0]].levels[self._field]}: {done.error}")
            records[done.key] = record_of(done.outcome)
            self.runs += 1

    def _judged(self, level: float, combinations: list[Combination], records: dict[tuple[int, int], Record]) -> Tried:
        runs = [
            FinishedRun(number, *key, combinations[key[0]].levels, record)
            for number, (key, record) in enumerate(sorted(records.items()))
        ]
        kept = {one.number: one.record.latencies for one in runs if one.record.latencies is not None}
        results = results_of_frame(frames_of(runs)["runs"], "the runs", latencies=kept)
        try:
            outcome = check_expectation(self._expectation, results)
        except InputError as error:
            raise InputError(f"--until: {error}") from None
        worst = outcome.worst
        if worst is None:
            raise InputError(f"--until: no run has what {self._expectation} compares")
        unstable = self._unstable_runs(records)
        if unstable == len(records):
            return Tried(level, Verdict.FAILS, worst.interval, _UNSTABLE)
        reason = f"unstable in {unstable} of {len(records)} replications" if unstable else outcome.reason
        return Tried(level, outcome.verdict, worst.interval, reason)

    def _unstable_runs(self, records: dict[tuple[int, int], Record]) -> int:
        """Runs without a latency, which should stay below something, since more is offered than can be done."""
        quantity = self._expectation.quantity
        is_limited = quantity.kind is Kind.VALUE and math.isfinite(self._expectation.bounds.high)
        if not is_limited or not quantity.measure.startswith("latency_"):
            return 0
        runs = [record.measures() for record in records.values()]
        return sum(math.isnan(one[quantity.measure]) and one["offered_load"] > 1 for one in runs)


def _value(level: str) -> Any:
    """A level in the language of expectations as a value of the scenario."""
    for kind in (int, float):
        try:
            return kind(level)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(level, level)
