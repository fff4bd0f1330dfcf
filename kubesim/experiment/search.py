"""Capacity questions: up to which level of a field an expectation holds.

The level is found by bisection. It is taken for granted that there is one border: on one side of it the expectation
holds, on the other it does not. At each level replications are run until the whole confidence interval lies on one
side of what is expected, or there may be no more. Where they cannot tell, the border is searched for from both sides.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kubesim.errors import InputError, KubesimError
from kubesim.experiment.bisection import Border, Range
from kubesim.experiment.evaluation import check_expectation
from kubesim.experiment.expectations import Expectation, Kind, parse_expectation
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
    from kubesim.stats.intervals import Interval

_GROWTH = 2
"""Times as many replications in each round at a level."""


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
    """

    field: str
    expectation: str
    holds_at: float | None
    fails_at: float | None
    tried: tuple[Tried, ...]
    runs: int


def search(
    scenario: dict[str, Any],
    base: Path,
    field: str,
    until: str,
    where: Range,
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
        If field, expectation or range make no sense, or the measure is never there.
    KubesimError
        If a run makes no sense.
    """
    expectation = parse_expectation(until)
    if not isinstance(expectation, Expectation):
        raise InputError("a search needs an expectation of a measure, not a regression")
    trials = _Trials(scenario, base, field, expectation, place or Place(), replications_at_most, on_tried)
    holds_at, fails_at = Border(trials.verdict, where).find()
    tried = tuple(trials.tried[level] for level in sorted(trials.tried))
    return Found(field, str(expectation), holds_at, fails_at, tried, trials.runs)


def beginning(
    document: YamlDocument, base: Path, field: str, low: float | None, high: float | None
) -> tuple[float, bool]:
    """Where a search of a scenario's field begins, and whether its levels are whole numbers.

    Raises
    ------
    InputError
        If the scenario makes no sense, or the field has no number that a search could begin at.
    """
    given = low if low is not None else high
    data = copy.deepcopy(document.data)
    if given is not None and isinstance(data, dict):
        set_field(data, field, int(given) if given.is_integer() else given)
    value: Any = scenario_from(replace(document, data=data), base)
    for part in field.split("."):
        value = getattr(value, part, None)
    is_whole = isinstance(value, int)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(
            f"--vary {field}: it is {value!r} in the scenario, no number to begin at: give --from and --to"
        )
    return float(value), is_whole


class _Trials:
    """Levels that were tried, each once."""

    def __init__(
        self,
        scenario: dict[str, Any],
        base: Path,
        field: str,
        expectation: Expectation,
        place: Place,
        replications_at_most: int,
        on_tried: Callable[[Tried], None],
    ) -> None:
        self._scenario = scenario
        self._base = base
        self._field = field
        self._expectation = expectation
        self._place = place
        self._at_most = max(replications_at_most, LEAST_REPLICATIONS)
        self._on_tried = on_tried
        self.tried: dict[float, Tried] = {}
        self.runs = 0

    def verdict(self, level: float) -> Verdict:
        """Try a level: whether the expectation holds there."""
        self.tried[level] = self._try(level)
        self._on_tried(self.tried[level])
        return self.tried[level].verdict

    def _try(self, level: float) -> Tried:
        combinations = plan_experiment(self._experiment(level), self._base)
        records: dict[tuple[int, int], Record] = {}
        count = LEAST_REPLICATIONS
        while True:
            self._run(combinations, count, records)
            found = self._judged(level, combinations, records)
            if (
                found.verdict is not Verdict.CANNOT_TELL
                or math.isnan(found.interval.estimate)
                or count >= self._at_most
            ):
                return found
            count = min(count * _GROWTH, self._at_most)

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
        for done in self._place.run(work):
            if done.error is not None:
                raise KubesimError(f"{self._field} = {combinations[done.key[0]].levels[self._field]}: {done.error}")
            records[done.key] = record_of(done.outcome)
            self.runs += 1

    def _judged(self, level: float, combinations: list[Combination], records: dict[tuple[int, int], Record]) -> Tried:
        runs = [
            FinishedRun(number, *key, combinations[key[0]].levels, record)
            for number, (key, record) in enumerate(sorted(records.items()))
        ]
        outcome = check_expectation(self._expectation, results_of_frame(frames_of(runs)["runs"], "the runs"))
        worst = outcome.worst
        if worst is None:
            raise InputError(f"{self._expectation}: no run has what it compares")
        if self._is_beyond_all_bounds(worst.interval, records):
            return Tried(level, Verdict.FAILS, worst.interval, "unstable: the latency grows without end")
        return Tried(level, outcome.verdict, worst.interval, outcome.reason)

    def _is_beyond_all_bounds(self, interval: Interval, records: dict[tuple[int, int], Record]) -> bool:
        """Whether a latency has no value since more is offered than can be done, and should stay below something."""
        quantity = self._expectation.quantity
        is_limited = quantity.kind is Kind.VALUE and math.isfinite(self._expectation.bounds.high)
        if not is_limited or not quantity.measure.startswith("latency_") or not math.isnan(interval.estimate):
            return False
        return all(record.measures().get("offered_load", 0.0) > 1 for record in records.values())


def _value(level: str) -> Any:
    """A level in the language of expectations as a value of the scenario."""
    for kind in (int, float):
        try:
            return kind(level)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(level, level)
