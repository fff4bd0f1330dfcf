"""Runs the runs of an experiment, wherever wanted, and keeps what is finished."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kubesim.errors import KubesimError
from kubesim.experiment.environment import earlier_run_seconds, environment
from kubesim.experiment.forecast import first_replications, planned_keys
from kubesim.experiment.frames import FinishedRun
from kubesim.experiment.places import Place, Work
from kubesim.experiment.precision import replications_wanted, widest
from kubesim.experiment.record import record_of
from kubesim.experiment.selection import REPLICATION
from kubesim.experiment.spec import levels_text
from kubesim.experiment.store import Store
from kubesim.scenario.provenance import run_id
from kubesim.units import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubesim.experiment.record import Record
    from kubesim.experiment.shard import Shard
    from kubesim.experiment.spec import Combination, Experiment
    from kubesim.experiment.store import PlannedRuns
    from kubesim.figure import Level
    from kubesim.stats.intervals import Interval

Key = tuple[int, int]
"""A combination and a replication."""


class Progress(NamedTuple):
    """How far a sweep is.

    Parameters
    ----------
    finished, planned
        Runs that are done, those that were there included, and that are to be, as far as is known.
    reused
        How many were there.
    """

    finished: int
    planned: int
    reused: int


@dataclass(frozen=True)
class SweepOutcome:
    """How a sweep ended.

    Parameters
    ----------
    directory
        Where its results are.
    finished, planned, reused
        Runs that are done, that were to be, and that were there already.
    is_interrupted
        Whether somebody stopped it.
    shortfalls
        Combinations that are not as precise as wanted, in words.
    damaged
        Files of runs that were there, but not as they were written; these were run again.
    """

    directory: Path
    finished: int
    planned: int
    reused: int
    is_interrupted: bool
    shortfalls: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()


def sweep(
    experiment: Experiment,
    combinations: Sequence[Combination],
    directory: Path | str,
    workers: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _progress: None,
    *,
    dask: str | None = None,
    shard: Shard | None = None,
    is_fresh: bool = False,
    with_csv: bool = False,
) -> SweepOutcome:
    """Run an experiment and write its tables; runs that are in the directory are not run again.

    Parameters
    ----------
    experiment, combinations
        As :func:`load_experiment` gives them.
    directory
        Where results go.
    workers
        Processes; one per core if not given. The results do not depend on it.
    on_progress
        Called before the first run and whenever there is one more.
    dask
        Address of a Dask scheduler to run on, such as ``tcp://host:8786``; ``local`` for one of its own.
    shard
        Run this part only.
    is_fresh
        Run everything again.
    with_csv
        Write tables as CSV, too.

    Returns
    -------
    SweepOutcome
        If it was interrupted, the tables hold the runs that were finished.

    Raises
    ------
    KubesimError
        If a run makes no sense, or results cannot be written; what was finished is kept.
    """
    store = Store(Path(directory), experiment, [one.levels for one in combinations], shard, with_csv=with_csv)
    with Place(workers, dask).opened() as place, store.opened(is_fresh=is_fresh):
        return _Sweep(experiment, combinations, store, place, shard, on_progress).run()


class _Sweep:
    """One sweep while it runs."""

    def __init__(
        self,
        experiment: Experiment,
        combinations: Sequence[Combination],
        store: Store,
        place: Place,
        shard: Shard | None,
        on_progress: Callable[[Progress], None],
    ) -> None:
        self._experiment = experiment
        self._combinations = combinations
        self._store = store
        self._place = place
        self._shard = shard
        self._on_progress = on_progress
        self._planned: PlannedRuns = {}
        self._finished: dict[Key, Record] = {}
        self._reused = 0
        self._seconds = earlier_run_seconds(store.directory)

    def run(self) -> SweepOutcome:
        """Do it all, and write down what there is however it ends."""
        started = datetime.now(UTC)
        is_interrupted = False
        try:
            self._run_rounds()
        except KeyboardInterrupt:
            is_interrupted = True
        except BaseException:
            with contextlib.suppress(Exception):  # what went wrong first is what there is to say
                self._write_down(started, is_complete=False)
            raise
        missed = self._write_down(started, is_complete=not is_interrupted)
        finished, planned = len(self._finished), len(self._planned)
        damaged = tuple(self._store.damaged)
        return SweepOutcome(self._store.directory, finished, planned, self._reused, is_interrupted, missed, damaged)

    def _write_down(self, started: datetime, *, is_complete: bool) -> tuple[str, ...]:
        """Write the tables of what is finished; what is not as precise as wanted, in words."""
        levels = [one.levels for one in self._combinations]
        missed = shortfalls(self._experiment, levels, self._finished)
        runs = finished_runs(levels, sorted(self._planned), self._finished)
        self._store.write_tables(runs, len(self._planned), missed, is_complete=is_complete)
        known = {run_id: self._seconds[run_id] for run_id in self._planned.values() if run_id in self._seconds}
        self._store.write_environment(environment(started, str(self._place), known))
        return missed

    def _run_rounds(self) -> None:
        """Run all replications that are wanted, and as many more as precision needs."""
        wanted = first_replications(self._experiment, self._combinations)
        while True:
            self._plan(wanted)
            self._run_missing()
            grown = self._grown(wanted)
            if grown == wanted:
                return
            wanted = grown

    def _plan(self, wanted: dict[int, int]) -> None:
        """Take in the runs of this part that are wanted; what is there is finished."""
        for key in planned_keys(self._experiment, wanted, self._shard):
            if key not in self._planned:
                self._planned[key] = run_id(self._combinations[key[0]].scenario(key[1]))
        self._store.write_plan(self._planned)
        for key, identity in self._planned.items():
            record = None if key in self._finished else self._store.find(identity)
            if record is not None:
                self._finished[key] = record
                self._reused += 1

    def _run_missing(self) -> None:
        work = [
            Work(key, self._combinations[key[0]].scenario_json(key[1]))
            for key in sorted(self._planned)
            if key not in self._finished
        ]
        self._say()
        outcomes = self._place.run(work)
        try:
            for done in outcomes:
                if done.error is not None:
                    raise KubesimError(f"{_run_text(self._combinations[done.key[0]], done.key[1])}: {done.error}")
                record = record_of(done.outcome)
                self._store.keep(record)
                self._finished[done.key] = record
                self._seconds[record.id] = done.seconds
                self._say()
        finally:
            outcomes.close()

    def _grown(self, wanted: dict[int, int]) -> dict[int, int]:
        """How many replications of each combination there are to be, now that it is known how far they are apart."""
        precision = self._experiment.precision
        if precision is None:
            return wanted
        measures = self._experiment.precise_measures()
        grown = dict(wanted)
        for number, records in _by_combination(self._finished).items():
            found = _widest(records, measures)
            if found is not None:
                grown[number] = max(wanted[number], replications_wanted(found[1], precision))
        return grown

    def _say(self) -> None:
        self._on_progress(Progress(len(self._finished), len(self._planned), self._reused))


def finished_runs(
    levels: Sequence[dict[str, Level]], planned: Sequence[Key], finished: dict[Key, Record]
) -> list[FinishedRun]:
    """Finished runs of those that are planned, in their order; combinations have these levels."""
    return [
        FinishedRun(number, *key, levels[key[0]], finished[key])
        for number, key in enumerate(planned)
        if key in finished
    ]


def shortfalls(
    experiment: Experiment, levels: Sequence[dict[str, Level]], finished: dict[Key, Record]
) -> tuple[str, ...]:
    """What is not as precise as wanted after all replications that there may be, in words."""
    precision = experiment.precision
    if precision is None:
        return ()
    said = []
    for number, records in _by_combination(finished).items():
        found = _widest(records, experiment.precise_measures())
        if found is not None and found[1].relative_half_width > precision.within:
            name, interval = found
            share = interval.relative_half_width
            within = f"known within {share:.1%}" if isfinite(share) else "not bounded"
            said.append(
                f"{levels_text(levels[number]) or 'the scenario'}: {name} is {within} after "
                f"{counted(len(records), 'replication')}, not within {precision.within:.2%}"
            )
    return tuple(said)


def _by_combination(finished: dict[Key, Record]) -> dict[int, list[Record]]:
    """The replications of each combination."""
    found: dict[int, list[Record]] = {}
    for key in sorted(finished):
        found.setdefault(key[0], []).append(finished[key])
    return found


def _widest(records: Sequence[Record], measures: Sequence[str]) -> tuple[str, Interval] | None:
    """The measure that is known worst, over the replications of one combination."""
    return widest([one.measures() for one in records], measures, [one.latencies for one in records])


def _run_text(combination: Combination, replication: int) -> str:
    return f"the run of {levels_text({**combination.levels, REPLICATION: replication})}"
