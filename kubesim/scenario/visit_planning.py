"""Which stations messages visit, and for how long: the part of a plan that is told from a message alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kubesim.scenario.service_times import Normals, lognormal, runs_of, whole_ns
from kubesim.scenario.stations import Stations
from kubesim.scenario.visits import Role, Visit, visits
from kubesim.workload import Part

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from kubesim.scenario.flow_classes import FlowClasses
    from kubesim.streams import Streams
    from kubesim.workload import Messages, MessagesPart, Sequences

    _Bools = npt.NDArray[np.bool_]
    _Floats = npt.NDArray[np.float64]

_NO_THREAD = -1
_NO_PURPOSE = -1

Key = tuple[int, int]
"""Of what packets have in common on their way: a route, and a kind of message."""


class Rows(NamedTuple):
    """Messages, in the order of their numbers; ``m`` of them. Arrays are as in :class:`Messages`."""

    number: npt.NDArray[np.int64]
    flow: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int64]
    thread: npt.NDArray[np.int64]
    server_thread: npt.NDArray[np.int64]

    @classmethod
    def of_messages(cls, messages: Messages) -> Rows:
        """All messages of a workload."""
        threads = messages.thread if messages.server_thread is None else messages.server_thread
        return cls(np.arange(len(messages)), messages.flow, messages.script.kind, messages.thread, threads)

    @classmethod
    def of_part(cls, part: MessagesPart) -> Rows:
        """Some messages."""
        return cls(part.number, part.flow, part.kind, part.thread, part.thread)

    @classmethod
    def of_connections(cls, messages: Sequences) -> Rows:
        """One message of each kind of each connection, as if they were numbered so."""
        kinds = np.array(list(messages.script.kinds()), np.int64)
        flow = np.repeat(np.arange(len(messages.flows)), len(kinds))
        thread = flow // messages.script.connections
        return cls(np.arange(len(flow)), flow, np.tile(kinds, len(messages.flows)), thread, thread)

    def take(self, rows: npt.NDArray[np.int64] | slice) -> Rows:
        """Some of them."""
        return Rows(*(column[rows] for column in self))

    def does_as(self, others: Rows) -> bool:
        """Whether all others go the same ways, one by one."""
        return all(np.array_equal(*pair) for pair in zip(self[1:], others[1:], strict=True))


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


class _Draws(NamedTuple):
    """Visits whose times are random, in one column of a pattern, shape (r,) each: whether the row's is, and of what."""

    column: int
    is_drawn: npt.NDArray[np.bool_]
    log_mean: npt.NDArray[np.float64]
    log_deviation: npt.NDArray[np.float64]

    @classmethod
    def of_column(cls, column: int, is_drawn: _Bools, log_mean: _Floats, log_deviation: _Floats) -> _Draws:
        """Those of one column of the pattern, whose arrays these are, shape (r, width)."""
        some = slice(None), column
        return cls(column, is_drawn[some].copy(), log_mean[some].copy(), log_deviation[some].copy())

    @property
    def is_of_all(self) -> bool:
        """Whether all rows' times are random."""
        return bool(self.is_drawn.all())


class _Pattern(NamedTuple):
    """What is told of messages by their connection and kind, shape (r, width) each.

    ``steady_ns`` is the time of visits that always take the same, 0 behind the last one; the others are in ``draws``,
    by what their random numbers are drawn for.
    """

    station: npt.NDArray[np.int64]
    mean_ns: npt.NDArray[np.float64]
    steady_ns: npt.NDArray[np.int64]
    draws: list[tuple[str, list[_Draws]]]


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
        self._normals = Normals(streams)
        self._purposes: dict[str, int] = {}
        self._last: tuple[Rows, _Pattern] | None = None
        self.ways = {key: self._way(*key) for key in sorted(used)}
        self.width = max((len(way) for way in self.ways.values()), default=0)
        for way in self.ways.values():
            for visit in way:
                if visit.role is not Role.WIRE:
                    stations.first(visit.host, "nic")

    @cached_property
    def _core_hash(self) -> npt.NDArray[np.uint64]:
        flows = self._messages.flows
        return _mixed(flows.client * 65_536 + flows.source_port)

    @property
    def has_workers(self) -> bool:
        """Whether threads of the kernel take packets in turn: then their order says where each is served."""
        return any(visit.role is Role.WORKER for way in self.ways.values() for visit in way)

    def plan(self, rows: Rows) -> Visited:
        """Stations and service times of messages."""
        pattern, row = self._patterns(rows)
        # Whole rows are taken at the speed of memory, other than columns.
        station, service_ns = pattern.station.take(row, axis=0), pattern.steady_ns.take(row, axis=0)
        runs = runs_of(rows.number)
        for purpose, draws in pattern.draws:
            normal = self._normals.of(purpose, runs)
            for draw in draws:
                here = slice(None) if draw.is_of_all else np.flatnonzero(draw.is_drawn.take(row))
                of = row[here]
                log_ns = draw.log_deviation.take(of)
                log_ns *= normal[here]
                log_ns += draw.log_mean.take(of)
                service_ns[here, draw.column] = whole_ns(np.exp(log_ns, out=log_ns))
        return Visited(station, service_ns)

    def mean_ns(self, rows: Rows) -> npt.NDArray[np.float64]:
        """What services of messages take on average, shape (m, width)."""
        pattern, row = self._patterns(rows)
        return pattern.mean_ns[row]

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
        pattern, row = self._patterns(rows)
        for key, here in self.groups(rows):
            for column, visit in enumerate(self.ways.get(key, ())):
                cores = pattern.station[row[here], column].tolist()
                if visit.role is Role.RECEIVE:
                    sockets.update(zip(cores, rows.thread[here].tolist(), strict=True))
                elif visit.role is Role.DAEMON:
                    sockets.update((core, _NO_THREAD) for core in cores)
                elif visit.role is Role.SEND:
                    senders.update(cores)
        held = Counter(core for core, _ in sockets)
        return {core: count * places for core, count in held.items() if core not in senders}

    def _patterns(self, rows: Rows) -> tuple[_Pattern, npt.NDArray[np.int64]]:
        """What messages have by their connections and kinds, and which of these each message has, shape (m,)."""
        some, row = _representatives(rows, len(self._messages.kinds))
        chosen = rows.take(some)
        if self._last is None or not self._last[0].does_as(chosen):
            self._last = chosen, self._pattern(chosen)
        return self._last[1], row

    def _pattern(self, rows: Rows) -> _Pattern:
        """Work it out, way by way."""
        shape = (len(rows.flow), self.width)
        station, mean_ns, deviation_ns = np.full(shape, -1, np.int64), np.zeros(shape), np.zeros(shape)
        purpose = np.full(shape, _NO_PURPOSE)
        for key, here in self.groups(rows):
            met: Counter[Role] = Counter()
            for column, visit in enumerate(self.ways.get(key, ())):
                met[visit.role] += 1
                station[here, column] = self._station(visit, key, rows.take(here))
                mean_ns[here, column], deviation_ns[here, column] = visit.mean_ns, visit.deviation_ns
                name = f"service times of {visit.role.value} {met[visit.role]}"
                purpose[here, column] = self._purposes.setdefault(name, len(self._purposes))
        self._add_openings_and_work(rows, mean_ns, deviation_ns)
        steady_ns = np.where(station >= 0, whole_ns(mean_ns), 0)
        return _Pattern(station, mean_ns, steady_ns, self._draws(purpose, mean_ns, deviation_ns))

    def _draws(
        self, purpose: npt.NDArray[np.int64], mean_ns: npt.NDArray[np.float64], deviation_ns: npt.NDArray[np.float64]
    ) -> list[tuple[str, list[_Draws]]]:
        """What is drawn, by purposes."""
        log_mean, log_deviation = lognormal(mean_ns, deviation_ns)
        purpose[log_deviation == 0] = _NO_PURPOSE
        drawn: list[tuple[str, list[_Draws]]] = []
        for number, name in enumerate(self._purposes):
            is_drawn = purpose == number
            columns = np.flatnonzero(is_drawn.any(axis=0)).tolist()
            if columns:
                drawn.append((name, [_Draws.of_column(one, is_drawn, log_mean, log_deviation) for one in columns]))
        return drawn

    def _add_openings_and_work(
        self, rows: Rows, mean_ns: npt.NDArray[np.float64], deviation_ns: npt.NDArray[np.float64]
    ) -> None:
        """Add to first visits what is not the route's: the opening of a connection, and what applications compute."""
        if not self.width:
            return
        kinds, openings = self._messages.kinds, self._classes.openings
        opens = np.flatnonzero(np.array([kind.opens_here for kind in kinds])[rows.kind])
        opening = self._classes.opening[rows.flow[opens]]
        mean_ns[opens, 0] += np.array([one.mean_ns for one in openings])[opening]
        deviation_ns[opens, 0] += np.array([one.deviation_ns for one in openings])[opening]
        mean_ns[:, 0] += np.array([kind.work_ns for kind in kinds])[rows.kind]

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
    """Positions of each distinct key."""
    order = np.argsort(keys, kind="stable")
    distinct, starts = np.unique(keys[order], return_index=True)
    return list(zip(distinct.tolist(), np.split(order, starts[1:]), strict=True)) if len(keys) else []


def _spread(hashes: npt.NDArray[np.uint64], cores: int) -> npt.NDArray[np.int64]:
    """Which core each hash falls on."""
    return (_mixed(hashes) % np.uint64(cores)).astype(np.int64)


def _scaled(hashes: npt.NDArray[np.uint64], cores: int) -> npt.NDArray[np.int64]:
    """Which core each hash falls on by its upper bits (``reciprocal_scale`` in ``get_rps_cpu``), whatever its queue."""
    upper = _mixed(hashes) >> np.uint64(32)
    return ((upper * np.uint64(cores)) >> np.uint64(32)).astype(np.int64)


def _mixed(keys: npt.NDArray[np.int64] | npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A hash of each key that is the same everywhere (splitmix64), for the choice of a receive queue."""
    mixed = keys.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
