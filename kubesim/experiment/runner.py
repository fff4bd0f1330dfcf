"""Runs the runs of an experiment, on as many cores as wanted, and keeps what is finished."""

from __future__ import annotations

import json
import os
import signal
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import joblib

from kubesim.errors import KubesimError
from kubesim.experiment.store import Store
from kubesim.scenario.simulation import run
from kubesim.scenario.spec import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from kubesim.experiment.spec import Experiment, PlannedRun


@dataclass(frozen=True)
class SweepOutcome:
    """How a sweep ended.

    Parameters
    ----------
    directory
        Where its results are.
    finished, planned
        Runs that are done, and that were to be.
    is_interrupted
        Whether somebody stopped it.
    """

    directory: Path
    finished: int
    planned: int
    is_interrupted: bool


def sweep(
    experiment: Experiment,
    runs: list[PlannedRun],
    directory: Path,
    workers: int | None = None,
    on_finished: Callable[[int], None] = lambda _finished: None,
) -> SweepOutcome:
    """Run an experiment and write its tables.

    Parameters
    ----------
    experiment, runs
        As :func:`load_experiment` gives them.
    directory
        Where results go.
    workers
        Processes; one per core if not given. The results do not depend on it.
    on_finished
        Called with the number of finished runs: 0 before the first, then whenever there is one more.

    Returns
    -------
    SweepOutcome
        If it was interrupted, the tables hold the runs that were finished.

    Raises
    ------
    KubesimError
        If a run makes no sense, or results cannot be written; what was finished is kept.
    """
    store = Store(directory, experiment, runs)
    store.prepare()
    finished = 0
    on_finished(finished)
    is_interrupted = False
    outcomes = _outcomes(runs, min(workers or os.cpu_count() or 1, max(1, len(runs))))
    try:
        for number, outcome in outcomes:
            if "error" in outcome:
                raise KubesimError(f"run {number + 1} ({_levels(runs[number])}): {outcome['error']}")
            store.keep(number, outcome)
            finished += 1
            on_finished(finished)
    except KeyboardInterrupt:
        is_interrupted = True
    finally:
        outcomes.close()
        store.write_tables(is_complete=finished == len(runs))
    return SweepOutcome(directory, finished, len(runs), is_interrupted)


def run_one(number: int, scenario_json: str) -> tuple[int, dict[str, Any]]:
    """Run one scenario, in whichever process; what is kept of it, as plain values."""
    try:
        result = run(Scenario.model_validate_json(scenario_json))
    except KubesimError as error:
        return number, {"error": str(error)}
    breakdown = result.breakdown
    return number, {
        "provenance": result.provenance,
        "summary": {key: float(value) for key, value in result.summary.items()},
        "breakdown": json.loads(breakdown.to_json(orient="records", double_precision=15)),
        "refusals": result.planned.refusals,
        "notices": list(result.notices),
    }


def _outcomes(runs: list[PlannedRun], workers: int) -> Generator[tuple[int, dict[str, Any]]]:
    """Outcomes in the order in which they come."""
    work = [(one.number, one.scenario.model_dump_json(by_alias=True)) for one in runs]
    if workers == 1:
        yield from (run_one(*item) for item in work)
        return
    # A terminal sends Ctrl-C to all processes, but this one alone has to hear of it: it stops the others.
    with joblib.parallel_config("loky", initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)):
        parallel = joblib.Parallel(n_jobs=workers, return_as="generator_unordered", batch_size="auto")
        outcomes = parallel(joblib.delayed(run_one)(*item) for item in work)
    try:
        for outcome in outcomes:  # noqa: UP028 - "yield from" would close what is below where its warning is heard
            yield outcome
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # runs that are cancelled are no news to whoever cancels them
            outcomes.close()


def _levels(one: PlannedRun) -> str:
    return ", ".join(f"{factor} = {level}" for factor, level in one.levels.items())
