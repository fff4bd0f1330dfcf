"""What an engine gives back: when each packet arrived, started and departed at each visit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kubesim.engine.integers import Int64Array
from kubesim.engine.plan import Plan


@dataclass(frozen=True, eq=False)
class Trace:
    """The times of a played plan, in nanoseconds; −1 where it did not happen.

    A packet that found its station full has an arrival there and no start. A packet that was refused for lack of a
    place in a table has a departure there, and no arrival behind it. A packet that was never released, because the one
    before it was lost, has no arrival at all.

    Parameters
    ----------
    arrive_ns, start_ns, depart_ns : array of int64, shape (n, visits)
        Joining the queue, begin of service, end of service.
    refused_visit : array of int64, shape (n,)
        The visit at which the packet was refused, −1 if it was not.
    refused_entry : array of int64, shape (n,)
        The entry for which there was no place then, −1 likewise.
    highest_occupancy : array of int64, shape (t,)
        The most places of each table that were taken at any time.
    """

    arrive_ns: Int64Array
    start_ns: Int64Array
    depart_ns: Int64Array
    refused_visit: Int64Array
    refused_entry: Int64Array
    highest_occupancy: Int64Array

    @classmethod
    def of_departures(
        cls,
        plan: Plan,
        released_ns: Int64Array,
        depart_ns: Int64Array,
        refused_visit: Int64Array,
        refused_place: Int64Array,
        highest_occupancy: Int64Array,
    ) -> Trace:
        """Work out the rest: a packet joins a station the instant it is released or leaves the one before.

        Parameters
        ----------
        plan
            What was played.
        released_ns : array of int64, shape (n,)
            When each packet was released, −1 if it was not.
        depart_ns : array of int64, shape (n, visits)
            End of service, −1 where there was none.
        refused_visit, refused_place : array of int64, shape (n,)
            The visit at which the packet was refused, and which of the entries that it needs there had no place; −1
            if it was not.
        highest_occupancy : array of int64, shape (t,)
            As the trace has it.
        """
        arrive_ns, start_ns = joined_and_started(plan.station, plan.service_ns, released_ns, depart_ns)
        refused_entry = np.full(plan.packets, -1, np.int64)
        packet = np.flatnonzero(refused_visit >= 0)
        if plan.tables is not None and len(packet):
            visit, place = refused_visit[packet], refused_place[packet]
            refused_entry[packet] = plan.tables.entry[packet, visit, place]
            start_ns[packet, visit] = depart_ns[packet, visit] - plan.tables.refused_ns[packet, visit, place]
            goes_on = visit + 1 < plan.visits
            arrive_ns[packet[goes_on], visit[goes_on] + 1] = -1
        return cls(arrive_ns, start_ns, depart_ns, refused_visit, refused_entry, highest_occupancy)

    def waiting_ns(self) -> Int64Array:
        """Waiting time at each visit, start − arrive, shape (n, visits); −1 where no service began."""
        return np.where(self.start_ns >= 0, self.start_ns - self.arrive_ns, -1)

    def sojourn_ns(self) -> Int64Array:
        """Waiting and service at each visit, depart − arrive, shape (n, visits); −1 where it did not end."""
        return np.where(self.depart_ns >= 0, self.depart_ns - self.arrive_ns, -1)

    def is_dropped(self) -> npt.NDArray[np.bool_]:
        """Whether the packet found a station full, shape (n,)."""
        return np.asarray(np.any((self.arrive_ns >= 0) & (self.start_ns < 0), axis=1), np.bool_)

    def is_refused(self) -> npt.NDArray[np.bool_]:
        """Whether a table had no place for the packet, shape (n,)."""
        return self.refused_visit >= 0

    def is_delivered(self, plan: Plan) -> npt.NDArray[np.bool_]:
        """Whether the packet finished its last visit, shape (n,)."""
        visits = plan.visit_counts()
        if not self.depart_ns.size:
            return np.zeros(len(visits), dtype=bool)
        last = np.maximum(visits - 1, 0)
        return (visits > 0) & ~self.is_refused() & (self.depart_ns[np.arange(len(last)), last] >= 0)

    def end_ns(self) -> Int64Array:
        """When the packet's last visit ended or it was dropped, shape (n,); −1 if it was never released."""
        if not self.depart_ns.size:
            return np.full(len(self.depart_ns), -1, np.int64)
        return np.asarray(np.maximum(self.depart_ns.max(axis=1), self.arrive_ns.max(axis=1)), np.int64)


def joined_and_started(
    station: Int64Array, service_ns: Int64Array, released_ns: Int64Array, depart_ns: Int64Array
) -> tuple[Int64Array, Int64Array]:
    """When packets arrive and start, shape (n, visits) each, from when they are released and depart.

    A packet joins a station the instant it is released or leaves the one before.
    """
    arrive_ns = np.empty_like(depart_ns)
    if arrive_ns.shape[1]:
        arrive_ns[:, 0], arrive_ns[:, 1:] = released_ns, depart_ns[:, :-1]
    arrive_ns[station < 0] = -1
    start_ns = depart_ns - service_ns
    start_ns[depart_ns < 0] = -1
    return arrive_ns, start_ns
