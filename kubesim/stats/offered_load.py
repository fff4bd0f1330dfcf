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
from kubesim.stats.visit_totals import sums

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.engine import Plan
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


class Arrivals(NamedTuple):
    """What comes from outside: chains of packets, of which each but the first is released by another.

    Parameters
    ----------
    release_ns : array of int64, shape (c,)
        When the first packet of each chain is released, rising.
    longest_ns
        How long the longest chain takes if it is alone.
    """

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

    @property
    def group_begins(self) -> npt.NDArray[np.int64]:
        """Where groups of arrivals begin, whose number does not depend on how many there are; the last is in none.

        The last arrival is left out, since the time of the arrivals ends with it.
        """
        return np.unique(np.linspace(0, max(0, len(self.release_ns) - 1), _BATCHES, endpoint=False).astype(np.int64))


class LoadTally:
    """Adds up the work that is brought to stations, by groups of arrivals.

    Parameters
    ----------
    servers, capacity : array of int64, shape (s,)
        Of the stations.
    arrivals : int
        How many chains there are; 0 in a closed loop.
    """

    def __init__(self, servers: npt.NDArray[np.int64], capacity: npt.NDArray[np.int64], arrivals: int) -> None:
        self._servers = servers
        self._capacity = capacity
        self._arrivals = arrivals
        self._begins = Arrivals(np.zeros(arrivals, np.int64), 0).group_begins
        self._brought = np.zeros((len(self._begins), len(servers)), np.int64)

    @property
    def is_open(self) -> bool:
        """Whether it matters what arrivals bring."""
        return self._arrivals > 1

    def add(
        self, arrival: npt.NDArray[np.int64], station: npt.NDArray[np.int64], work_ns: npt.NDArray[np.int64]
    ) -> None:
        """Count visits, shape (v,) each: which arrival brought them in the order of time, where, and how much work."""
        counted = np.flatnonzero((work_ns > 0) & (arrival < self._arrivals - 1))
        group = np.searchsorted(self._begins, arrival[counted], side="right") - 1
        cell = group * len(self._servers) + station[counted]
        self._brought += sums(cell, work_ns[counted], self._brought.size).reshape(self._brought.shape)

    def result(self, arrivals: Arrivals, joined_ns: npt.NDArray[np.int64], window: Window) -> OfferedLoad:
        """What each station was offered.

        In an open loop it is the work that arrivals bring, whenever they get to do it, over the time in which they
        arrive: however much is waiting, that is what an hour of them would bring. Whether it is above 1 is asked with
        the uncertainty of few arrivals in mind, and is asserted only if it would be wrong in one of 100 runs at most
        (:data:`FALSE_ALARMS`, shared by all stations after Bonferroni): the interval of a ratio across groups of
        successive arrivals. In a closed loop it is the work of the packets that joined within the window, over its
        length.

        Parameters
        ----------
        arrivals
            Of all chains.
        joined_ns : array of int64, shape (s,)
            The work of packets that joined each station within the window.
        window
            The time that is measured.
        """
        if not arrivals.is_open:
            return OfferedLoad(joined_ns / (window.length_ns * self._servers.astype(float)), is_open=False)
        offered = self._brought.sum(axis=0)
        ratio = offered / (arrivals.lasting_ns * self._servers.astype(float))
        above = [int(one) for one in np.argsort(-ratio, kind="stable") if ratio[one] > 1]
        confidence = 1 - 2 * FALSE_ALARMS / max(1, int(np.count_nonzero(offered)))
        overloaded = tuple(one for one in above if self._lowest(one, arrivals, confidence) > 1)
        endless = [one for one in above if self._capacity[one] == UNLIMITED]
        return OfferedLoad(
            ratio,
            is_open=True,
            overloaded=overloaded,
            unstable=tuple(one for one in endless if one in overloaded),
            suspected=tuple(one for one in endless if one not in overloaded),
        )

    def _lowest(self, station: int, arrivals: Arrivals, confidence: float) -> float:
        """The lower end of the interval of a station's offered load."""
        ends = np.append(self._begins[1:], len(arrivals.release_ns) - 1)
        lasting_ns = arrivals.release_ns[ends] - arrivals.release_ns[self._begins]
        servers = float(self._servers[station])
        return ratio_interval(self._brought[:, station].astype(float), lasting_ns * servers, confidence).low


def chains(plan: Plan) -> tuple[Arrivals, npt.NDArray[np.int64]]:
    """Find the chains of a plan, and which of them each packet is of, in the order of their releases, shape (n,).

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
    rank = np.zeros(plan.packets, np.int64)
    rank[order] = np.arange(len(order))
    longest_ns = int((earliest - plan.release_ns[first]).max(initial=0))
    return Arrivals(plan.release_ns[order], longest_ns), rank[first]
