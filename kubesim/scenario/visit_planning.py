"""Which stations messages visit, and for how long: the part of a plan that is told from a message alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from kubesim.scenario.rows import Rows
from kubesim.scenario.stations import Stations
from kubesim.scenario.visit_times import VisitTimes
from kubesim.scenario.visits import Role, Visit, visits
from kubesim.streams import hashed
from kubesim.workload import Messages, Part

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from kubesim.scenario.flow_classes import FlowClasses
    from kubesim.scenario.rows import Key
    from kubesim.scenario.visit_times import Times
    from kubesim.streams import Streams
    from kubesim.workload import Sequences

_NO_THREAD = -1

_FEW = 65_536
"""Up to so many pairs of a connection and a kind of message, stations and times are worked out once, and kept."""


@dataclass(frozen=True, eq=False)
class Visited:
    """Where some messages go; ``m`` of them.

    Parameters
    ----------
    station : array of int64, shape (m, width)
        −1 behind the last visit.
    service_ns : array of int64, shape (m, width)
        0 there.
    """

    station: npt.NDArray[np.int64]
    service_ns: npt.NDArray[np.int64]


class VisitPlanner:
    """Finds stations and service times, for any messages of a workload in any order.

    Parameters
    ----------
    messages, classes
        What is sent, and which way.
    stations
        Where it is served; hosts are entered in the order of the ways.
    streams
        Random numbers for service times.
    used
        The routes and kinds that there are packets of.
    """

    def __init__(
        self,
        messages: Messages | Sequences,
        classes: FlowClasses,
        stations: Stations,
        streams: Streams,
        used: Iterable[Key],
    ) -> None:
        self._messages = messages
        self._classes = classes
        self._stations = stations
        self.ways = {key: self._way(*key) for key in sorted(used)}
        self.width = max((len(way) for way in self.ways.values()), default=0)
        self._times = VisitTimes(messages, classes, self.ways, self.width, streams)
        for way in self.ways.values():
            for visit in way:
                if visit.role is not Role.WIRE:
                    stations.first(visit.host, "nic")

    @cached_property
    def _core_hash(self) -> npt.NDArray[np.uint64]:
        flows = self._messages.flows
        return hashed(flows.client * 65_536 + flows.source_port)

    @property
    def has_workers(self) -> bool:
        """Whether threads of the kernel take packets in turn: then their order says where each is served."""
        return any(visit.role is Role.WORKER for way in self.ways.values() for visit in way)

    def plan(self, rows: Rows) -> Visited:
        """Stations and service times of messages."""
        station, times, row = self._visits_of(rows)
        return Visited(station, self._times.drawn_ns(times, row, rows.number))

    def mean_ns(self, rows: Rows) -> npt.NDArray[np.float64]:
        """What services of messages take on average, shape (m, width)."""
        _, times, row = self._visits_of(rows)
        return times.mean_ns[row]

    def groups(self, rows: Rows) -> list[tuple[Key, npt.NDArray[np.int64]]]:
        """Positions of messages by their routes and kinds."""
        kinds = len(self._messages.kinds)
        return [(divmod(key, kinds), here) for key, here in _grouped(self._key_numbers(rows))]

    def deal_to_workers(self, rows: Rows, station: npt.NDArray[np.int64]) -> None:
        """Let threads of the kernel take the packets of each way in turn, as they are numbered."""
        for key, here in self.groups(rows):
            for column, visit in enumerate(self.ways.get(key, ())):
                if visit.role is Role.WORKER:
                    first = self._stations.first(visit.host, "application core")
                    station[here, column] = first + np.arange(len(here)) % self._stations.application_cores

    def _key_numbers(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Route and kind of messages as one number, ``route · kinds + kind``, shape (m,)."""
        return self._classes.route[rows.flow] * len(self._messages.kinds) + rows.kind

    def socket_places(self, rows: Rows) -> dict[int, int]:
        """Places in the sockets of cores that only receive: a process that sends too is never refused by itself.

        A daemon has one socket for all; what a tun device holds for it, 500 packets, is taken for a socket too.
        """
        places = self._messages.socket_places
        if places is None:
            return {}
        sockets: set[tuple[int, int]] = set()
        senders: set[int] = set()
        station, *_ = self._visits_of(rows)
        for key, here in self.groups(rows):
            for column, visit in enumerate(self.ways.get(key, ())):
                cores = station[here, column].tolist()
                if visit.role is Role.RECEIVE:
                    sockets.update(zip(cores, rows.thread[here].tolist(), strict=True))
                elif visit.role is Role.DAEMON:
                    sockets.update((core, _NO_THREAD) for core in cores)
                elif visit.role is Role.SEND:
                    senders.update(cores)
        held = Counter(core for core, _ in sockets)
        return {core: count * places for core, count in held.items() if core not in senders}

    def _visits_of(self, rows: Rows) -> tuple[npt.NDArray[np.int64], Times, npt.NDArray[np.int64]]:
        """Stations of messages, shape (m, width), the times of their visits, and which of these each has, shape (m,).

        Messages of the same connection and kind have the same.
        """
        if self._of_all is not None:
            row = rows.flow * len(self._messages.kinds)
            row += rows.kind
            station, times, of = self._of_all
            return station.take(row, axis=0), times, of.take(row)
        some, row = _representatives(rows, len(self._messages.kinds))
        if len(some) == len(row):
            return self._stations_of(rows), *self._times.of(rows)
        chosen = rows.take(some)
        times, of = self._times.of(chosen)
        return self._stations_of(chosen).take(row, axis=0), times, of.take(row)

    @cached_property
    def _of_all(self) -> tuple[npt.NDArray[np.int64], Times, npt.NDArray[np.int64]] | None:
        """What there is for each connection and kind, as :meth:`_visits_of` has it, if these are few."""
        kinds = len(self._messages.kinds)
        if isinstance(self._messages, Messages) or len(self._messages.flows) * kinds > _FEW:
            return None
        rows = Rows.of_connections(self._messages)
        times, of = self._times.of(rows)
        return self._stations_of(rows), times.tabled(), of

    def _stations_of(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Stations of messages, shape (m, width)."""
        station = np.full((len(rows.flow), self.width), -1)
        for key, here in self.groups(rows):
            some = rows.take(here)
            for column, visit in enumerate(self.ways.get(key, ())):
                station[here, column] = self._station(visit, key, some)
        return station

    def _way(self, route: int, kind: int) -> tuple[Visit, ...]:
        """The visits of a kind of message along a route, or the part of them that the kind stands for."""
        way = visits(self._classes.routes[route][kind].hops)
        part = self._messages.kinds[kind].part
        if part is Part.WHOLE:
            return way
        leaves = next((number for number, visit in enumerate(way) if visit.role not in (Role.SEND, Role.NIC)), len(way))
        return way[:leaves] if part is Part.DEPARTURE else way[leaves:]

    def _station(self, visit: Visit, key: Key, rows: Rows) -> npt.NDArray[np.int64] | int:
        """The station of a visit for each of some messages, which go one route and are of one kind."""
        if visit.role is Role.WIRE:
            return Stations.WIRE
        if visit.role in (Role.NIC, Role.PORT):
            return self._stations.first(visit.host, visit.role.value)
        kind = self._messages.kinds[key[1]]
        if visit.role in (Role.SOFTIRQ, Role.STEERED) or (visit.role is Role.SEND and kind.send_call is None):
            return self._receiving_core(visit, key, rows)
        first, cores = self._stations.first(visit.host, "application core"), self._stations.application_cores
        return first + self._application_core(visit, key, rows) % cores

    def _receiving_core(self, visit: Visit, key: Key, rows: Rows) -> npt.NDArray[np.int64]:
        """The core of a receive queue, or that of RPS.

        Packets of one direction of a flow are received on one core; what the kernel answers by itself, it sends from
        the core where it received what it answers.
        """
        stations, hardware = self._stations, self._stations.hardware
        answers = visit.role is Role.SEND
        which = np.uint64(self._messages.kinds[key[1]].is_request is not answers)
        path = self._classes.routes[key[0]][key[1]]
        if visit.role is Role.STEERED or (answers and hardware.rps_cores):
            hashes = self._hashes(path.steering_hash, rows) + which
            return stations.first(visit.host, "rps core") + _scaled(hashes, hardware.rps_cores)
        hashes = self._hashes(path.queue_hash, rows) + which
        return stations.first(visit.host, "softirq core") + _spread(hashes, hardware.softirq_cores)

    def _application_core(self, visit: Visit, key: Key, rows: Rows) -> npt.NDArray[np.int64] | int:
        """Which of a host's cores does what processes and the kernel's threads do; they are counted round and round."""
        cores = self._stations.application_cores
        match visit.role:
            case Role.DAEMON:
                return cores - 1
            case Role.PEER:
                return _spread(self._hashes(self._classes.routes[key[0]][key[1]].queue_hash, rows), cores)
            case Role.WORKER:
                return 0  # until they are dealt
        is_client = self._messages.kinds[key[1]].is_request is (visit.role is Role.SEND)
        # Servers' threads are apart from the clients', which may be on the same host.
        return self._calling_threads(rows, cores) if is_client else rows.server_thread + cores // 2

    def _calling_threads(self, rows: Rows, cores: int) -> npt.NDArray[np.int64]:
        """The client's thread of some messages; one that serves others too is where those find it."""
        serves = np.isin(self._messages.flows.client[rows.flow], sorted(self._messages.serving_clients))
        return rows.thread + np.where(serves, cores // 2, 0)

    def _hashes(self, shared: int | None, rows: Rows) -> npt.NDArray[np.uint64]:
        """What spreads messages over cores: their flows, or the one hash that they share."""
        return self._core_hash[rows.flow] if shared is None else np.full(len(rows.flow), shared, np.uint64)


def _representatives(rows: Rows, kinds: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """One message for each connection and kind, and which of them stands for each message, shape (m,).

    Each stands for itself where connections are many, or where their messages are sent by different threads.
    """
    every = np.arange(len(rows.flow))
    if not len(every):
        return every, every
    lowest = int(rows.flow.min())
    span = (int(rows.flow.max()) - lowest + 1) * kinds
    if span > len(every):
        return every, every
    key = rows.flow * kinds
    key += rows.kind
    key -= lowest * kinds
    found = np.full(span, -1)
    found[key] = every
    for threads in (rows.thread, rows.server_thread):
        if threads is not rows.flow and not np.array_equal(threads.take(found.take(key)), threads):
            return every, every
    return found[found >= 0], (np.cumsum(found >= 0) - 1).take(key)


def _grouped(keys: npt.NDArray[np.int64]) -> list[tuple[int, npt.NDArray[np.int64]]]:
    """Positions of each numbers key."""
    order = np.argsort(keys, kind="stable")
    numbers, starts = np.unique(keys[order], return_index=True)
    return list(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True)) if len(keys) else []


def _spread(hashes: npt.NDArray[np.uint64], cores: int) -> npt.NDArray[np.int64]:
    """Which core each hash falls on."""
    return (hashed(hashes) % np.uint64(cores)).astype(np.int64)


def _scaled(hashes: npt.NDArray[np.uint64], cores: int) -> npt.NDArray[np.int64]:
    """Which core each hash falls on by its upper bits (``reciprocal_scale`` in ``get_rps_cpu``), whatever its queue."""
    upper = hashed(hashes) >> np.uint64(32)
    return ((upper * np.uint64(cores)) >> np.uint64(32)).astype(np.int64)
