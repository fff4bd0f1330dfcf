"""What a sweep would run, and how long that may take."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubesim.errors import KubesimError
from kubesim.experiment.environment import earlier_run_seconds
from kubesim.experiment.places import run_one
from kubesim.experiment.run_times import estimated_seconds, worth_trying
from kubesim.experiment.spec import levels_text
from kubesim.experiment.store import Store
from kubesim.scenario.provenance import run_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kubesim.experiment.shard import Shard
    from kubesim.experiment.spec import Combination, Experiment

_SAMPLES, _SAMPLE_SECONDS = 40, 8.0

_START_SECONDS = 5.0
"""What worker processes take to start, import and warm up.

Measured: on a quiet machine of two cores (an EPYC's, Linux 6.18, Python 3.11), experiments/what-services-cost.yaml took
62 s with two processes, and its runs 114 s together. Of CPU time, 3.5 s of each process went into starting, and 0.6 s
into what its first run does once only.
"""


@dataclass(frozen=True)
class Forecast:
    """What a sweep would do.

    Parameters
    ----------
    missing
        Runs to do: the number of each combination's replications that are not there yet.
    reused
        Runs that are there.
    seconds
        How long all missing runs take one after the other, judging by some of them; 0 if there are none.
    samples
        How many runs that is judged by.
    """

    missing: dict[int, int]
    reused: int
    seconds: float
    samples: int

    @property
    def runs(self) -> int:
        """Runs to do."""
        return sum(self.missing.values())

    def lasting(self, processes: int) -> float:
        """Seconds until all missing runs are done, by some processes on this machine's cores.

        One process is this one. Others have to start first, as many at a time as there are cores.
        """
        at_once = min(processes, os.cpu_count() or 1)
        start = _START_SECONDS * processes / at_once if processes > 1 and self.runs else 0.0
        return start + self.seconds / at_once


def forecast(
    experiment: Experiment,
    combinations: Sequence[Combination],
    directory: Path,
    shard: Shard | None = None,
    *,
    is_fresh: bool = False,
) -> Forecast:
    """Work out what a sweep would run, and try a few runs to see how long it may take; nothing is written.

    Parameters
    ----------
    experiment, combinations
        As :func:`load_experiment` gives them.
    directory
        Where results would go.
    shard
        The part that would be run.
    is_fresh
        Whether everything would be run again.

    Raises
    ------
    KubesimError
        If a run that is tried makes no sense.
    """
    store = Store(directory, experiment, [one.levels for one in combinations])
    wanted = planned_keys(experiment, first_replications(experiment, combinations), shard)
    names = {key: run_id(combinations[key[0]].scenario(key[1])) for key in wanted}
    missing = [key for key in wanted if is_fresh or store.find(names[key]) is None]
    counts = Counter(number for number, _ in missing)
    earlier = earlier_run_seconds(directory)
    known = {key[0]: earlier[names[key]] for key in wanted if names[key] in earlier}
    if not known and not earlier:
        known = _tried(combinations, sorted(counts))
    if known:
        each = estimated_seconds([one.levels for one in combinations], known)
    else:  # what is there is of an earlier version, or of other scenarios
        each = [sum(earlier.values()) / max(1, len(earlier))] * len(combinations)
    seconds = sum(count * each[number] for number, count in counts.items())
    return Forecast(dict(counts), len(wanted) - len(missing), seconds, len(known or earlier))


def first_replications(experiment: Experiment, combinations: Sequence[Combination]) -> dict[int, int]:
    """How many replications of each combination are run whatever they say."""
    return {one.number: experiment.first_replications() for one in combinations}


def planned_keys(experiment: Experiment, wanted: dict[int, int], shard: Shard | None) -> list[tuple[int, int]]:
    """Combination and replication of the runs of a part, where so many replications of each combination are wanted."""
    keys = [(number, replication) for number, count in wanted.items() for replication in range(count)]
    return keys if shard is None else [key for key in keys if _is_of(shard, experiment, *key)]


def _is_of(shard: Shard, experiment: Experiment, combination: int, replication: int) -> bool:
    """Whether a run is of a part: replications of one combination stay together where precision counts them."""
    is_counted = experiment.precision is not None
    return shard.has(combination if is_counted else combination * experiment.replications + replication)


def _tried(combinations: Sequence[Combination], numbers: list[int]) -> dict[int, float]:
    """How long the first replication of some combinations takes, by combination.

    The first run of a process is dearer than those that follow, so it is made twice if it is short.
    """
    found: dict[int, float] = {}
    began = time.monotonic()
    for place in itertools.islice(worth_trying([combinations[number].levels for number in numbers]), _SAMPLES):
        number = numbers[place]
        if found and time.monotonic() - began > _SAMPLE_SECONDS:
            break
        seconds = _seconds(combinations[number])
        is_cold = not found and seconds < _SAMPLE_SECONDS / 4
        found[number] = min(seconds, _seconds(combinations[number])) if is_cold else seconds
    return found


def _seconds(combination: Combination) -> float:
    """How long the first replication of a combination takes."""
    done = run_one((combination.number, 0), combination.scenario_json(0))
    if done.error is not None:
        raise KubesimError(f"the run of {levels_text(combination.levels)}: {done.error}")
    return done.seconds
