"""What a run has to say about itself: whether it was in a steady state, and behind its warm-up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.units import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubesim.scenario.stations import Station
    from kubesim.stats.measures import Window
    from kubesim.stats.offered_load import OfferedLoad


def notices_of_steadiness(load: OfferedLoad, stations: list[Station], window: Window) -> Iterator[str]:
    """What a person should know before believing the means of a run.

    Parameters
    ----------
    load
        What its stations were offered.
    stations
        These.
    window
        The time that was measured.
    """
    if load.unstable:
        yield (
            f"unstable: {_offered(load, load.unstable, stations)}: what waits there grows as long as others arrive, so "
            "that latency has no mean and no percentiles; it takes fewer arrivals per second, or more cores"
        )
    elif load.suspected:
        yield (
            f"perhaps unstable: {_offered(load, load.suspected, stations)}, by too few arrivals to be sure; with more, "
            "latency may turn out to have no mean"
        )
    elif load.overloaded:
        yield (
            f"overloaded: {_offered(load, load.overloaded, stations)}: the queue is finite and loses packets, see "
            "loss_ratio; latency is of what gets through"
        )
    if not window.is_settled and not load.unstable:
        yield (
            "the warm-up does not end within the run, as far as MSER-5 can tell: more transactions are needed; "
            f"{window.skipped:,} are left out"
        )


def _offered(load: OfferedLoad, chosen: tuple[int, ...], stations: list[Station]) -> str:
    """The first of some stations with its load, and how many more there are."""
    first = f"offered load {load.ratio[chosen[0]]:.3g} of {stations[chosen[0]].name}"
    return f"{first} (and more than 1 of {counted(len(chosen) - 1, 'other')})" if len(chosen) > 1 else first
