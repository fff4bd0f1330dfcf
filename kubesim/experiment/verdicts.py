"""What became of expectations: verdicts, and what they rest on."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from kubesim.experiment.expectations import Kind
from kubesim.experiment.measures import is_better
from kubesim.units import counted, format_count, format_measure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubesim.experiment.expectations import Bounds
    from kubesim.stats.intervals import Interval


class Verdict(StrEnum):
    """Whether an expectation is met."""

    HOLDS = "holds"
    CANNOT_TELL = "cannot tell"
    FAILS = "fails"


_SEVERITY = tuple(Verdict)
"""From good to bad: of several, the last one found is that of all."""

_ROUNDING = 1e-12
"""What rounding makes of replications that are the same."""

MORE_REPLICATIONS = "one replication cannot say how far runs are apart: give the experiment replications: 5"

BEYOND = "the interval ends beyond all that was seen: it takes more replications, or more transactions in each"


def judge(interval: Interval, bounds: Bounds) -> Verdict:
    """Met if all of an interval is within bounds, missed if none of it is; otherwise the data cannot tell."""
    if bounds.holds(interval.low, interval.high):
        return Verdict.HOLDS
    return Verdict.FAILS if bounds.misses(interval.low, interval.high) else Verdict.CANNOT_TELL


def gravest(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on all of several things together."""
    return max(verdicts, key=_SEVERITY.index, default=Verdict.HOLDS)


@dataclass(frozen=True)
class Finding:
    """One combination of levels, held against an expectation.

    Parameters
    ----------
    measure
        Which one.
    levels
        Of the factors that the expectation leaves open.
    interval
        Of the quantity, in the unit of its measure.
    verdict
        On this combination.
    reason
        Why the data cannot tell; empty if they can.
    """

    measure: str
    levels: dict[str, str]
    interval: Interval
    verdict: Verdict
    reason: str = ""

    @property
    def where(self) -> str:
        """Its levels in words."""
        return ", ".join(f"{factor} = {level}" for factor, level in self.levels.items())


def finding(measure: str, levels: dict[str, str], interval: Interval, bounds: Bounds, reason: str = "") -> Finding:
    """A combination with its verdict, and why there is none if there is none."""
    verdict = judge(interval, bounds)
    if verdict is Verdict.CANNOT_TELL and not reason:
        reason = _why_unsure(interval)
    return Finding(measure, levels, interval, verdict, reason)


def _why_unsure(interval: Interval) -> str:
    """Why an interval is partly within bounds only."""
    if interval.replications < 2:
        return MORE_REPLICATIONS
    return BEYOND if interval.is_open else "the interval reaches over the limit"


def worst(findings: Sequence[Finding], bounds: Bounds) -> Finding:
    """The gravest of several, and of those the one that is farthest out or nearest to the limit."""

    def rank(one: Finding) -> tuple[int, float]:
        margin = bounds.margin(one.interval.estimate)
        return _SEVERITY.index(one.verdict), math.inf if math.isnan(margin) else -margin

    return max(findings, key=rank)


@dataclass(frozen=True)
class Outcome:
    """What became of one expectation.

    Parameters
    ----------
    expectation
        As it is understood.
    kind
        How its quantity is made of the measure; None for a regression, whose quantity is new over old.
    verdict
        On all combinations together.
    worst
        The combination it rests on; None if no run of it is finished.
    counts
        How many combinations there are of each verdict.
    left_out
        Combinations in which one side only, or one level of a slope, was run.
    reason
        Why the data cannot tell.
    notes
        What else a person should know.
    """

    expectation: str
    kind: Kind | None
    verdict: Verdict
    worst: Finding | None
    counts: dict[Verdict, int]
    left_out: int = 0
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def combinations(self) -> int:
        """How many were looked at."""
        return sum(self.counts.values())

    @property
    def estimate_text(self) -> str:
        """The estimate of the worst combination, as people read it."""
        if self.worst is None:
            return "-"
        return self._number(self.worst.interval.estimate) + (" each" if self.kind is Kind.SLOPE else "")

    @property
    def interval_text(self) -> str:
        """Its interval likewise."""
        if self.worst is None:
            return "unknown"
        found = self.worst.interval
        if not math.isfinite(found.low) and not math.isfinite(found.high):
            return "unknown"
        if found.half_width <= _ROUNDING * max(1.0, abs(found.estimate)):
            return "no spread"
        return f"{self._number(found.low)} to {self._number(found.high)}"

    @property
    def over(self) -> str:
        """What it was evaluated over, in words."""
        if self.worst is None:
            return "nothing yet"
        count = 0 if self.verdict is Verdict.HOLDS or self.combinations == 1 else self.counts[self.verdict]
        parts = [(f"{count} of " if count else "") + counted(self.combinations, "combination")]
        if self.left_out:
            parts.append(f"{self.left_out} more {'has' if self.left_out == 1 else 'have'} nothing to compare")
        if self.worst.interval.replications:
            parts.append(counted(self.worst.interval.replications, "replication"))
        named = [self.worst.measure] if self.kind is None else []
        place = ", ".join([*named, *([self.worst.where] if self.worst.levels else [])])
        return "; ".join(parts) + (f"; worst: {place}{self._direction()}" if place else "")

    @property
    def message(self) -> str:
        """All of it in one line."""
        told = f"{self.estimate_text} ({self.interval_text}) over {self.over}"
        return "; ".join(part for part in (told, self.reason, *self.notes) if part)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; what is not known is None."""
        found = self.worst
        return {
            "expectation": self.expectation,
            "verdict": self.verdict.value,
            "measure": found and found.measure,
            "estimate": found and _finite(found.interval.estimate),
            "low": found and _finite(found.interval.low),
            "high": found and _finite(found.interval.high),
            "replications": found.interval.replications if found else 0,
            "worst": found and found.levels,
            "combinations": {verdict.value: count for verdict, count in self.counts.items()},
            "left_out": self.left_out,
            "reason": self.reason,
            "notes": list(self.notes),
        }

    def _number(self, value: float) -> str:
        if not math.isfinite(value):
            return "unknown" if math.isnan(value) else "beyond all bounds"
        if self.kind is None:
            return f"{value - 1:+.2%}"
        rounded = 0.0 if abs(value) < 1e-9 else value  # what rounding leaves of nothing
        if self.kind is Kind.RATIO or self.worst is None:
            return format_count(rounded)
        return format_measure(self.worst.measure, rounded)

    def _direction(self) -> str:
        """Whether a regression's worst is for the better or for the worse."""
        if self.kind is not None or self.worst is None or self.worst.interval.estimate == 1:
            return ""
        good = is_better(self.worst.measure, is_higher=self.worst.interval.estimate > 1)
        return "" if good is None else " (better)" if good else " (worse)"


def outcome(
    expectation: str,
    kind: Kind | None,
    findings: Sequence[Finding],
    bounds: Bounds,
    *,
    missing: str = "",
    left_out: int = 0,
    notes: tuple[str, ...] = (),
) -> Outcome:
    """The outcome of an expectation that has to hold for each of several combinations.

    Parameters
    ----------
    expectation, kind
        What was expected.
    findings
        One per combination; there may be none only if runs are missing.
    bounds
        Between what it has to be.
    missing
        Which runs are missing, in words: they might miss what all others meet.
    left_out, notes
        As in :class:`Outcome`.
    """
    counted_verdicts = Counter(one.verdict for one in findings)
    verdict = gravest([one.verdict for one in findings])
    gravest_finding = worst(findings, bounds) if findings else None
    if missing and verdict is Verdict.HOLDS:
        verdict = Verdict.CANNOT_TELL
    reasons = [gravest_finding.reason if gravest_finding else "", missing if verdict is not Verdict.FAILS else ""]
    return Outcome(
        expectation,
        kind,
        verdict,
        gravest_finding,
        {one: counted_verdicts[one] for one in Verdict},
        left_out,
        "; ".join(filter(None, reasons)),
        notes,
    )


@dataclass(frozen=True)
class CheckReport:
    """What became of all expectations of an experiment.

    Parameters
    ----------
    name
        Of the experiment.
    outcomes
        In the order of the expectations.
    """

    name: str
    outcomes: tuple[Outcome, ...]

    @property
    def verdict(self) -> Verdict:
        """On all of them: fails if one does, cannot tell if that is so of one and none fails."""
        return gravest([one.verdict for one in self.outcomes])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "name": self.name,
            "verdict": self.verdict.value,
            "expectations": [one.to_dict() for one in self.outcomes],
        }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
