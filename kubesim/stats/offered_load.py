"""Whether there is a steady state: the load that stations are offered.

Nobody waits in an open loop: who comes at a given time comes however long the queues are. If a station without a
limit is brought more work than its servers do, its queue grows as long as they come, and a mean waiting time says how
long the simulation ran and nothing else. In a closed loop each waits for the one before, and a finite queue turns away
what it cannot hold: both have a steady state at any load.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kubesim.engine import UNLIMITED
from kubesim.stats.intervals import ratio_interval

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.engine import Plan, Trace
    from kubesim.stats.measures import Window

FALSE_ALARMS = 0.01
"""How often, at most, a network that is just not overloaded is taken for one that is."""

_BATCHES = 50
"""Arrivals are taken together in so many groups: what neighbours have in common (one server chosen in turn, work of one
kind) then counts as one observation, and Student's t has enough of them."""


@dataclass(frozen=True, eq=False)
class OfferedLoad:
    """What stations are asked to do, and what they cannot.

    Parameters
    ----------
    ratio : array of float, shape (s,)
        Offered load of each station: work brought to it over what its servers can do in that time.
    is_open
        Whether work comes at given times (open loop).
    overloaded
        Stations that are surely offered more than 1 in an open loop, the highest load first.
    unstable
        Those of them whose queues have no limit.
    suspected
        Stations without a limit that seem to be offered more than 1, but of too few arrivals to be sure.
    """

    ratio: npt.NDArray[np.float64]
    is_open: bool
    overloaded: tuple[int, ...] = ()
    unstable: tuple[int, ...] = ()
    suspected: tuple[int, ...] = ()

    @property
    def highest(self) -> float:
        """Of the station that is offered most; 0 if there is none."""
        return float(self.ratio.max(initial=0))


def offered_load(plan: Plan, trace: Trace, window: Window) -> OfferedLoad:
    """What each station is offered.

    In an open loop it is the work that arrivals bring, whenever they get to do it, over the time in which they arrive:
    however much is waiting, that is what an hour of them would bring. Whether it is above 1 is asked with the
    uncertainty of few arrivals in mind, and is asserted only if it would be wrong in one of 100 runs at most
    (:data:`FALSE_ALARMS`, shared by all stations after Bonferroni): the interval of a ratio across groups of successive
    arrivals. In a closed loop it is the work of the packets that joined within the window, over its length.

    Parameters
    ----------
    plan, trace
        What was played, and what came of it.
    window
        The time that is measured.
    """
    work = _work_ns(plan, trace)
    servers: npt.NDArray[np.float64] = np.minimum(plan.servers, max(1, plan.packets)).astype(float)
    chains = _chains(plan)
    if not chains.is_open:
        joined = (trace.arrive_ns >= window.begin_ns) & (trace.arrive_ns < window.end_ns)
        offered = np.bincount(plan.station[joined], weights=work[joined], minlength=plan.stations)
        return OfferedLoad(offered / (window.length_ns * servers), is_open=False)
    is_counted = (work > 0) & (chains.of_packet != chains.order[-1])[:, None]  # the last one's time ends with it
    offered = np.bincount(plan.station[is_counted], weights=work[is_counted], minlength=plan.stations)
    ratio = offered / (chains.lasting_ns * servers)
    above = [int(one) for one in np.argsort(-ratio, kind="stable") if ratio[one] > 1]
    confidence = 1 - 2 * FALSE_ALARMS / max(1, int(np.count_nonzero(offered)))
    overloaded = tuple(one for one in above if _lowest_load(one, plan, chains, work, confidence) > 1)
    endless = [one for one in above if plan.capacity[one] == UNLIMITED]
    return OfferedLoad(
        ratio,
        is_open=True,
        overloaded=overloaded,
        unstable=tuple(one for one in endless if one in overloaded),
        suspected=tuple(one for one in endless if one not in overloaded),
    )


def _work_ns(plan: Plan, trace: Trace) -> npt.NDArray[np.int64]:
    """The service that each packet asked for where it came, whether it was let in or not, shape (n, visits)."""
    served = np.where(trace.start_ns >= 0, trace.depart_ns - trace.start_ns, plan.service_ns)
    return np.where(trace.arrive_ns >= 0, served, 0)


class _Chains(NamedTuple):
    """Packets by the one with which it began: a chain is what one arrival leads to.

    Parameters
    ----------
    of_packet : array of int64, shape (n,)
        The first packet of each packet's chain.
    order : array of int64, shape (c,)
        First packets, in the order of their releases.
    release_ns : array of int64, shape (c,)
        These.
    longest_ns
        How long the longest chain takes if it is alone.
    """

    of_packet: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]
    release_ns: npt.NDArray[np.int64]
    longest_ns: int

    @property
    def lasting_ns(self) -> int:
        """From the first arrival to the last."""
        return int(self.release_ns[-1] - self.release_ns[0]) if len(self.release_ns) else 0

    @property
    def is_open(self) -> bool:
        """Whether arrivals go on for longer than any of them stays.

        If not, the first is still there when the last comes, and their number is what is given, not their rate: each
        packet but the first ones is released by another, as in a closed loop.
        """
        return self.lasting_ns > self.longest_ns


def _chains(plan: Plan) -> _Chains:
    """Find the chains of a plan.

    A packet ends at ``max(end before + a, b)``, if nobody is in its way. Such functions put one in another are of the
    same form, so that pointer doubling along ``after`` finds ends, too.
    """
    first = np.where(plan.after >= 0, plan.after, np.arange(plan.packets))
    own_ns = np.where(plan.station >= 0, plan.service_ns, 0).sum(axis=1)
    later, earliest = np.where(plan.after >= 0, plan.think_ns + own_ns, 0), plan.release_ns + own_ns
    while not np.array_equal(first[first], first):
        earliest = np.maximum(earliest[first] + later, earliest)
        later, first = later + later[first], first[first]
    earliest = np.maximum(earliest[first] + later, earliest)
    begins = np.flatnonzero(plan.after < 0)
    order = begins[np.argsort(plan.release_ns[begins], kind="stable")]
    longest_ns = int((earliest - plan.release_ns[first]).max(initial=0))
    return _Chains(first, order, plan.release_ns[order], longest_ns)


def _lowest_load(station: int, plan: Plan, chains: _Chains, work: npt.NDArray[np.int64], confidence: float) -> float:
    """The lower end of the interval of a station's offered load."""
    here = np.where(plan.station == station, work, 0).sum(axis=1)
    brought = np.bincount(chains.of_packet, weights=here, minlength=plan.packets)[chains.order[:-1]]
    gaps = np.diff(chains.release_ns) * float(plan.servers[station])
    begins = np.unique(np.linspace(0, len(gaps), _BATCHES, endpoint=False).astype(int))
    return ratio_interval(np.add.reduceat(brought, begins), np.add.reduceat(gaps, begins), confidence).low
