"""What a run adds up to: all that its summary says, counted packet by packet or part by part."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kubesim.stats.offered_load import Arrivals, LoadTally, OfferedLoad
from kubesim.stats.visit_totals import Visits, VisitTotals

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.scenario.flow_classes import FlowClasses
    from kubesim.stats.measures import Window
    from kubesim.stats.observations import Observations
    from kubesim.stats.transactions import TransactionTally
    from kubesim.workload import Messages, Sequences

_NEVER = np.iinfo(np.int64).max

HopKey = tuple[int, int, int]
"""Of packets that do the same: their route, kind and opening."""


@dataclass(frozen=True, eq=False)
class Totals:
    """What came out of a run.

    Parameters
    ----------
    window
        The time that is measured.
    latency_ns
        Latencies of the transactions that ended behind the warm-up.
    started, lost
        Transactions that were started at all, and those that were started behind the warm-up and not completed.
    servers : array of int64, shape (s,)
        Of each station, no more than there are packets.
    busy_ns : array of int64, shape (s,)
        How long each station's servers served within the window.
    load
        What stations were offered.
    dropped_packets, first_drop_ns : array of int64, shape (s,)
        Packets that found each station full, and when the first did (−1 if none).
    played
        Packets that were released, by what they do.
    last_ns
        The last departure of all.
    """

    window: Window
    latency_ns: Observations
    started: int
    lost: int
    servers: npt.NDArray[np.int64]
    busy_ns: npt.NDArray[np.int64]
    load: OfferedLoad
    dropped_packets: npt.NDArray[np.int64]
    first_drop_ns: npt.NDArray[np.int64]
    played: dict[HopKey, int]
    last_ns: int


class Played(NamedTuple):
    """Packets that were played, ``m`` of them: where, and when.

    Parameters
    ----------
    station, service_ns, arrive_ns, start_ns, depart_ns : array of int64, shape (m, visits)
        As in a plan and its trace.
    flow, kind, arrival : array of int64, shape (m,)
        The packet's connection, its kind, and which arrival it goes back to.
    """

    station: npt.NDArray[np.int64]
    service_ns: npt.NDArray[np.int64]
    arrive_ns: npt.NDArray[np.int64]
    start_ns: npt.NDArray[np.int64]
    depart_ns: npt.NDArray[np.int64]
    flow: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int64]
    arrival: npt.NDArray[np.int64]


class PacketTally:
    """Counts packets.

    Parameters
    ----------
    messages, classes
        What was sent, and which way.
    servers, capacity : array of int64, shape (s,)
        Of the stations.
    packets, arrivals
        How many packets there are, and chains of them; 0 in a closed loop, where nobody asks what these bring.
    """

    def __init__(
        self,
        messages: Messages | Sequences,
        classes: FlowClasses,
        servers: npt.NDArray[np.int64],
        capacity: npt.NDArray[np.int64],
        packets: int,
        arrivals: int,
    ) -> None:
        self._classes = classes
        self._opens = np.array([kind.opens_here for kind in messages.kinds])
        self._servers = np.minimum(servers, max(1, packets))
        stations = len(servers)
        self._visits = VisitTotals(stations)
        self._load = LoadTally(self._servers, capacity, arrivals)
        self._dropped_packets = np.zeros(stations, np.int64)
        self._first_drop_ns = np.full(stations, _NEVER)
        self._played: Counter[HopKey] = Counter()
        self._last_ns = 0

    def restart(self) -> None:
        """Forget what was before the end of the warm-up, as far as that does not count."""
        self._visits.restart()

    def add(self, played: Played, begin_ns: int, known_ns: int) -> None:
        """Count packets; the measured time begins at ``begin_ns`` and does not end before ``known_ns``."""
        columns = (played.station, played.arrive_ns, played.start_ns, played.depart_ns, played.service_ns)
        visits = Visits(*(column.ravel() for column in columns))
        self._visits.add(visits, begin_ns, known_ns)
        if self._load.is_open:
            made = np.flatnonzero(visits.arrive_ns >= 0)
            arrival = played.arrival.take(made // played.arrive_ns.shape[1])
            self._load.add(arrival, visits.station.take(made), visits.work_ns().take(made))
        refused = np.flatnonzero(visits.start_ns < 0)
        dropped = visits.take(refused[visits.arrive_ns[refused] >= 0])
        np.add.at(self._dropped_packets, dropped.station, 1)
        np.minimum.at(self._first_drop_ns, dropped.station, dropped.arrive_ns)
        self._last_ns = max(self._last_ns, int(played.depart_ns.max(initial=0)))
        self._count_kinds(played)

    def _count_kinds(self, played: Played) -> None:
        """Count packets by what they do."""
        flow, kind = played.flow, played.kind
        released = played.arrive_ns[:, 0] >= 0 if played.arrive_ns.shape[1] else np.zeros(len(flow), np.bool_)
        if not released.all():
            flow, kind = flow[released], kind[released]
        sorts, row = self._classes.sorts(flow, kind, self._opens)
        for key, count in zip(sorts.tolist(), np.bincount(row).tolist(), strict=True):
            self._played[tuple(key)] += count

    def totals(self, transactions: TransactionTally, arrivals: Arrivals) -> Totals:
        """What it all comes to."""
        window = transactions.window
        self._visits.finish(window)
        return Totals(
            window=window,
            latency_ns=transactions.latency_ns,
            started=transactions.started,
            lost=transactions.lost,
            servers=self._servers,
            busy_ns=self._visits.busy_ns,
            load=self._load.result(arrivals, self._visits.joined_ns, window),
            dropped_packets=self._dropped_packets,
            first_drop_ns=np.where(self._dropped_packets > 0, self._first_drop_ns, -1),
            played=dict(sorted(self._played.items())),
            last_ns=self._last_ns,
        )
