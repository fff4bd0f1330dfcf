"""How precise an experiment is to be, and how many more replications that takes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from kubesim.experiment.measures import full_name
from kubesim.stats.replications import replications_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubesim.stats.intervals import Interval
    from kubesim.stats.latencies import Latencies

LEAST_REPLICATIONS = 3
"""Of fewer, an interval says next to nothing: Student's t of one degree of freedom is 12.7."""

_GROWTH = 3
"""Times as many replications as there are, at most, in one round: a first estimate of the spread may be far off."""


def parse_ratio(text: str) -> float | None:
    """A share as it is written, such as ``2 %`` or ``0.02``; None if it is none between 0 and 1."""
    number, percent, rest = text.strip().partition("%")
    try:
        found = float(number) / (100 if percent else 1)
    except ValueError:
        return None
    return found if 0 < found < 1 and not rest else None


def _ratio(value: Any) -> Any:
    """A ratio, or a text that says one, as a ratio; anything else is refused by whoever asks."""
    found = parse_ratio(value) if isinstance(value, str) else None
    return value if found is None else found


Ratio = Annotated[
    float, BeforeValidator(_ratio, json_schema_input_type=float | str), Field(gt=0, lt=1, allow_inf_nan=False)
]


class Precision(BaseModel):
    """How narrow the 95 % confidence intervals are to be."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    within: Ratio = Field(description="half of an interval's width, as a share of the estimate, such as 2 %")
    of: list[str] = Field(
        default=[], description="measures it is about; by default those that tables and figures show, or the latency"
    )
    replications_at_most: int = Field(default=100, ge=LEAST_REPLICATIONS, le=10_000, description="when to give up")

    @field_validator("of")
    @classmethod
    def _are_measures(cls, of: list[str]) -> list[str]:
        return [full_name(name) for name in of]


def _bare(value: Any) -> Any:
    return {"within": value} if isinstance(value, int | float | str) and not isinstance(value, bool) else value


WrittenPrecision = Annotated[Precision, BeforeValidator(_bare, json_schema_input_type=Precision | float | str)]


def widest(
    summaries: Sequence[dict[str, float]], measures: Sequence[str], latencies: Sequence[Latencies | None] = ()
) -> tuple[str, Interval] | None:
    """The measure whose interval is the widest for its estimate, over the replications of one combination.

    Measures that a combination does not have, or that are the same nothing in all replications, are left out; None if
    none is left. Latencies are what is kept of them in each replication.
    """
    found: tuple[str, Interval] | None = None
    for measure in measures:
        values = [summary.get(measure, math.nan) for summary in summaries]
        interval = replications_interval(measure, values, latencies)
        if math.isnan(interval.estimate):
            continue
        if found is None or interval.relative_half_width > found[1].relative_half_width:
            found = measure, interval
    return found


def replications_wanted(interval: Interval, precision: Precision) -> int:
    """How many replications there are to be, judging by the interval of those there are.

    The half-width falls with the square root of their number (Law, Simulation Modeling and Analysis, 5th ed.,
    § 9.4.1).
    """
    count, share = interval.replications, interval.relative_half_width / precision.within
    if share <= 1 or count >= precision.replications_at_most:
        return count
    grown = count * min(share**2, _GROWTH) if np.isfinite(share) else count * _GROWTH
    return min(max(count + 1, math.ceil(grown)), precision.replications_at_most)
