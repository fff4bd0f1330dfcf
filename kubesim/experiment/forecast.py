"""What a sweep would run, and how long that may take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubesim.errors import KubesimError
from kubesim.experiment.environment import earlier_run_seconds
from kubesim.experiment.places import run_one
from kubesim.experiment.spec import levels_text
from kubesim.experiment.store import Store
from kubesim.scenario.provenance import run_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kubesim.experiment.shard import Shard
    from kubesim.experiment.spec import Combination, Experiment

_SAMPLES, _SAMPLE_SECONDS = 5, 10.0


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


def forecast(
    experiment: Experiment, combinations: Sequence[Combination], directory: Path, shard: Shard | None = None
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

    Raises
    ------
    KubesimError
        If a run that is tried makes no sense.
    """
    store = Store(directory, experiment, [one.levels for one in combinations])
    wanted = planned_keys(experiment, first_replications(experiment, combinations), shard)
    names = {key: run_id(combinations[key[0]].scenario(key[1])) for key in wanted}
    missing = [key for key in wanted if store.find(names[key]) is None]
    counts: dict[int, int] = {}
    for number, _ in missing:
        counts[number] = counts.get(number, 0) + 1
    earlier = earlier_run_seconds(directory)
    tried = {} if earlier else _tried(combinations, sorted(counts))
    samples = list(earlier.values()) or list(tried.values())
    mean = sum(samples) / len(samples) if samples else 0.0
    seconds = sum(count * tried.get(number, mean) for number, count in counts.items())
    return Forecast(counts, len(wanted) - len(missing), seconds, len(samples))


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
    """How long the first replication of some combinations takes, by combination."""
    spread = {numbers[len(numbers) * place // _SAMPLES] for place in range(_SAMPLES)} if numbers else set()
    found: dict[int, float] = {}
    began = time.monotonic()
    for number in sorted(spread):
        if found and time.monotonic() - began > _SAMPLE_SECONDS:
            break
        done = run_one((number, 0), combinations[number].scenario_json(0))
        if done.error is not None:
            raise KubesimError(f"the run of {levels_text(combinations[number].levels)}: {done.error}")
        found[number] = done.seconds
    return found
