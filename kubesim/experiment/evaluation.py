"""Holds the results of a sweep against what its experiment expects."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kubesim.errors import InputError, did_you_mean
from kubesim.experiment.environment import remembered_experiment
from kubesim.experiment.expectations import Expectation, Kind, Regression, parse_expectation
from kubesim.experiment.measures import SHORT_NAMES
from kubesim.experiment.regression import check_regression
from kubesim.experiment.results import RUN, Results, read_results, results_of_frame
from kubesim.experiment.selection import nothing_selected, select
from kubesim.experiment.verdicts import CheckReport, Finding, Outcome, finding, outcome
from kubesim.stats.intervals import (
    Interval,
    difference_interval,
    ratio_interval,
    slope_interval,
)
from kubesim.stats.replications import is_latency_percentile, replications_interval

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    import pandas as pd

    from kubesim.experiment.expectations import Quantity
    from kubesim.experiment.selection import Compared
    from kubesim.experiment.spec import Experiment
    from kubesim.stats.latencies import Latencies

_USUAL_MEASURES = ("latency_p50_ns", "latency_p90_ns", "latency_p99_ns", "latency_p999_ns", "throughput_per_s")

WITHOUT_LATENCIES = (
    "no latencies are kept beside these runs: the percentile is the mean of the replications' own, and its interval, "
    "Student's t, misses the true one more often than it should"
)


def check(
    results: Path | str | pd.DataFrame,
    experiment: Experiment | None = None,
    *,
    expect: Sequence[str | dict[str, Any]] | None = None,
    relative_to: Path | None = None,
) -> CheckReport:
    """Hold results against expectations.

    An expectation is about every combination of the levels that it leaves open. It holds if the 95 % confidence
    interval of its quantity meets it as a whole, for each combination; it fails if for one the interval misses it as a
    whole. Otherwise the data cannot tell, and neither can they where runs are missing.

    Parameters
    ----------
    results
        The directory of a sweep, or a table like its ``runs.parquet``: factors between the columns ``run`` and
        ``replication``.
    experiment
        Whose expectations; those of the sweep itself if not given.
    expect
        Expectations, instead of an experiment's.
    relative_to
        The directory of the experiment file, which baselines are looked for in; then in that of the results. If not
        given, where the file was when the sweep was run, if it is there still.

    Returns
    -------
    CheckReport

    Raises
    ------
    InputError
        If there is nothing to check, an expectation makes no sense, or nothing to evaluate it over.
    """
    if isinstance(results, str | Path):
        found = read_results(Path(results))
        beside = relative_to or _beside_experiment(Path(results))
        places = [*([beside] if beside else []), Path(results)]
    else:
        found, places = results_of_frame(results, "the table"), [relative_to or Path()]
    asked = experiment or found.experiment
    written = expect if expect is not None else asked.expect if asked is not None else ()
    if not written:
        raise InputError(f"nothing to check: {asked.name if asked else found.name} expects nothing (field expect)")
    expectations = [_parsed(number, one) for number, one in enumerate(written)]
    shown = _shown_measures(asked, expectations)
    outcomes = []
    for number, one in enumerate(expectations):
        try:
            if isinstance(one, Regression):
                outcomes.append(check_regression(one, found, places, shown))
            else:
                outcomes.append(check_expectation(one, found))
        except InputError as error:
            raise InputError(f"{expect_place(number)}: {error}") from None
    return CheckReport(asked.name if asked else found.name, tuple(outcomes))


def _beside_experiment(directory: Path) -> Path | None:
    """The directory of the experiment file that results were made from, as far as it is known."""
    file = remembered_experiment([directory])
    return None if file is None else file.parent


def expect_place(number: int) -> str:
    """What an expectation is called, by its place in the list: as errors about the experiment file name it."""
    return f"expect.{number}"


def check_expectation(expectation: Expectation, results: Results) -> Outcome:
    """Hold results against one expectation.

    Raises
    ------
    InputError
        If it names what there is not, or there is nothing to evaluate it over.
    """
    quantity = expectation.quantity
    if quantity.measure not in results.measures:
        known = [*SHORT_NAMES, *results.measures]
        raise InputError(f"the results have no {quantity.measure!r}: {did_you_mean(quantity.measure, known)}")
    selection = select(quantity, results.runs)
    if not selection.combinations and not results.missing:
        raise nothing_selected(quantity, results.runs)
    findings = [_finding(expectation, one, results) for one in selection.combinations]
    return outcome(
        str(expectation),
        quantity.kind,
        findings,
        expectation.bounds,
        missing=results.what_is_missing,
        left_out=selection.left_out,
        notes=_notes(quantity, results),
    )


def _parsed(number: int, written: str | dict[str, Any]) -> Expectation | Regression:
    try:
        return parse_expectation(written)
    except InputError as error:
        raise InputError(f"{expect_place(number)}: {error}") from None


def _notes(quantity: Quantity, results: Results) -> tuple[str, ...]:
    """What else to know: whether a percentile is a mean over replications for lack of their latencies."""
    is_of_all = quantity.kind is Kind.VALUE and is_latency_percentile(quantity.measure)
    return (WITHOUT_LATENCIES,) if is_of_all and not results.latencies else ()


def _finding(expectation: Expectation, combination: Compared, results: Results) -> Finding:
    """One combination, judged."""
    quantity, replications = expectation.quantity, combination.replications
    values = results.frame[quantity.measure].to_numpy(float)
    found = np.array([[values[side[one]] for one in replications] for side in combination.sides])
    holes = [one for one, column in zip(replications, found.T, strict=True) if not np.isfinite(column).all()]
    reason = ""
    if holes:
        shown = ", ".join(map(str, holes[:5])) + (" …" if len(holes) > 5 else "")
        reason = f"{quantity.measure} is not a number in replication {shown}: nothing was there to measure"
    elif not replications:
        reason = "no replication has all sides"
    numbers = results.frame[RUN].to_numpy()
    latencies = [results.latencies.get(int(numbers[combination.sides[0][one]])) for one in replications]
    interval = _interval(quantity, found, combination.along, latencies)
    return finding(quantity.measure, combination.levels, interval, expectation.bounds, reason)


def _interval(
    quantity: Quantity,
    sides: npt.NDArray[np.float64],
    along: tuple[float, ...],
    latencies: Sequence[Latencies | None],
) -> Interval:
    """The interval of a quantity; measures by side and replication, shape (s, r), and latencies of the first side."""
    if not sides.size or not np.isfinite(sides).all():
        return Interval(float("nan"), float("-inf"), float("inf"), sides.shape[-1])
    kind = quantity.kind
    if kind is Kind.SLOPE:
        return slope_interval(along, sides.T)
    if kind is Kind.VALUE:
        return replications_interval(quantity.measure, sides[0], latencies)
    return (ratio_interval if kind is Kind.RATIO else difference_interval)(sides[0], sides[1])


def _shown_measures(experiment: Experiment | None, expectations: Sequence[Expectation | Regression]) -> list[str]:
    """What a regression looks at: what figures, tables and other expectations show, or the usual measures."""
    shown = [one.quantity.measure for one in expectations if isinstance(one, Expectation)]
    if experiment is not None:
        shown += [name for figure in experiment.figures for name in (figure.y, *(figure.band or ())) if name]
        shown += [table.value for table in experiment.tables]
    return list(dict.fromkeys(shown or _USUAL_MEASURES))
