"""Holds a sweep's measures against those of an earlier one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kubesim.errors import InputError, did_you_mean
from kubesim.experiment.results import SEED, Results, results_of_frame
from kubesim.experiment.verdicts import Finding, Outcome, finding, outcome
from kubesim.stats.intervals import Interval, independent_ratio_interval, mean_interval, ratio_interval
from kubesim.tables import read_parquet
from kubesim.units import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from kubesim.experiment.expectations import Regression

_Rows = dict[tuple[str, ...], dict[int, int]]
"""Rows by levels, then by replication."""

_NAMED = 3


def check_regression(regression: Regression, results: Results, places: Sequence[Path], shown: Sequence[str]) -> Outcome:
    """Hold every measure of every combination that both sweeps have against the earlier one.

    Parameters
    ----------
    regression
        What is expected.
    results
        The later sweep.
    places
        Directories that the earlier one's file may be relative to, the first that has it.
    shown
        Measures to look at if the expectation names none; those that both sweeps have.

    Raises
    ------
    InputError
        If the earlier sweep's table cannot be read, or has nothing in common with the later one.
    """
    baseline = _read(regression.baseline, places, results)
    factors = _common_factors(results, baseline)
    new, old = _rows(results, factors), _rows(baseline, factors)
    both = [key for key in new if key in old]
    if not both:
        raise InputError(f"{baseline.name} has no combination of levels in common with these results")
    measures = _measures(regression, results, baseline, shown)
    varying = [place for place in range(len(factors)) if len({key[place] for key in both}) > 1]
    findings: list[Finding] = []
    unpaired = 0
    for key in both:
        levels = {factors[place]: key[place] for place in varying}
        is_paired = _have_common_numbers(results, baseline, new[key], old[key])
        unpaired += not is_paired
        for measure in measures:
            one = _interval(results, baseline, measure, new[key], old[key], is_paired=is_paired)
            if one is not None:
                findings.append(finding(measure, levels, one[0], regression.bounds, one[1]))
    if not findings:
        raise InputError(f"{', '.join(measures)}: neither sweep has a number for it")
    notes = (_pairing(unpaired, len(both)), *_left_out(new, old, factors))
    return outcome(str(regression), None, findings, regression.bounds, missing=results.what_is_missing, notes=notes)


def _read(file: str, places: Sequence[Path], results: Results) -> Results:
    """The earlier sweep."""
    candidates = [place / file for place in places]
    path = next((one for one in candidates if one.is_file()), None)
    if path is None:
        raise InputError(f"regression: there is no {' and no '.join(map(str, dict.fromkeys(candidates))) or file}")
    return results_of_frame(read_parquet(path), str(path), results.levels)


def _common_factors(results: Results, baseline: Results) -> list[str]:
    """Factors of both; one that only one sweep has must not vary there, or its runs could not be told apart."""
    for here, there in ((results, baseline), (baseline, results)):
        for name, levels in here.runs.known.items():
            if name not in there.runs.known and len(levels) > 1:
                raise InputError(f"regression: {name} is a factor of {here.name}, but not of {there.name}")
    return [name for name in results.runs.known if name in baseline.runs.known]


def _rows(results: Results, factors: Sequence[str]) -> _Rows:
    found: _Rows = {}
    runs = results.runs
    for row, (levels, replication) in enumerate(zip(runs.levels, runs.replications, strict=True)):
        side = found.setdefault(tuple(levels[name] for name in factors), {})
        if replication in side:
            raise InputError(f"{results.name}: two rows have the same levels and replication")
        side[replication] = row
    return found


def _measures(regression: Regression, results: Results, baseline: Results, shown: Sequence[str]) -> list[str]:
    """What to compare."""
    known = [name for name in results.measures if name in set(baseline.measures)]
    for name in regression.measures:
        if name not in known:
            raise InputError(f"regression: {name!r} is no measure of both sweeps: {did_you_mean(name, known)}")
    found = list(regression.measures) or [name for name in dict.fromkeys(shown) if name in known]
    if not found:
        raise InputError(f"regression: {baseline.name} has none of these measures: {', '.join(shown)}")
    return found


def _have_common_numbers(results: Results, baseline: Results, new: Mapping[int, int], old: Mapping[int, int]) -> bool:
    """Whether replications met the same random numbers: their seed and number are the same."""
    common = sorted(set(new) & set(old))
    if not common or any(SEED not in one.frame.columns for one in (results, baseline)):
        return False
    ours = results.frame[SEED].to_numpy()[[new[one] for one in common]]
    theirs = baseline.frame[SEED].to_numpy()[[old[one] for one in common]]
    return bool((ours == theirs).all())


def _interval(
    results: Results,
    baseline: Results,
    measure: str,
    new: Mapping[int, int],
    old: Mapping[int, int],
    *,
    is_paired: bool,
) -> tuple[Interval, str] | None:
    """New over old, and why it is unknown; None where neither sweep has this measure."""
    common = sorted(set(new) & set(old))
    new_rows = [new[r] for r in (common if is_paired else sorted(new))]
    old_rows = [old[r] for r in (common if is_paired else sorted(old))]
    above = results.frame[measure].to_numpy(float)[new_rows]
    below = baseline.frame[measure].to_numpy(float)[old_rows]
    if np.isnan(above).all() and np.isnan(below).all():
        return None
    if not (np.isfinite(above).all() and np.isfinite(below).all()):
        unknown = Interval(float("nan"), float("-inf"), float("inf"), min(len(above), len(below)))
        return unknown, f"{measure} is not a number in some replication"
    if not below.any():
        return _from_nothing(above), ""
    return (ratio_interval if is_paired else independent_ratio_interval)(above, below), ""


def _from_nothing(above: npt.NDArray[np.float64]) -> Interval:
    """The ratio to a measure that was nothing: 1 if it still is, infinite if it surely is something."""
    infinite, count = float("inf"), len(above)
    if above.any():
        now = mean_interval(above)
        is_something = now.low > 0 or now.high < 0
        return Interval(infinite, infinite if is_something else 1.0, infinite, count)
    return Interval(1.0, 1.0, 1.0, count) if count > 1 else Interval(1.0, -infinite, infinite, count)


def _pairing(unpaired: int, combinations: int) -> str:
    if not unpaired:
        return "paired by replication: the same random numbers"
    return f"{unpaired} of {counted(combinations, 'combination')} not paired: other seeds or replications"


def _left_out(new: _Rows, old: _Rows, factors: Sequence[str]) -> list[str]:
    """Combinations of one sweep only, by name."""
    notes = []
    for where, here, there in (("these results", new, old), ("the baseline", old, new)):
        alone = [key for key in here if key not in there]
        names = ["; ".join(f"{name} = {level}" for name, level in zip(factors, key, strict=True)) for key in alone]
        if alone:
            more = f" and {len(alone) - _NAMED} more" if len(alone) > _NAMED else ""
            notes.append(f"only in {where}: {' | '.join(names[:_NAMED])}{more}")
    return notes
