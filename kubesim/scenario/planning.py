"""From messages and their ways to a plan: stations and service times of every packet, all chance spent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kubesim.engine import Plan
from kubesim.scenario.conntrack_tables import TablePlanner
from kubesim.scenario.stations import Stations
from kubesim.scenario.visits import Role, Visit, visits
from kubesim.workload import Messages, Part

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.scenario.conntrack_tables import ConntrackLimits
    from kubesim.scenario.flow_classes import FlowClasses, SourceNat
    from kubesim.streams import Streams

_NO_THREAD = -1


@dataclass(frozen=True, eq=False)
class Planned:
    """A plan, and what its packets are.

    Parameters
    ----------
    plan
        For the engine.
    stations
        What its stations are.
    message : array of int64, shape (n,)
        Number of each packet's message; messages that are never sent are left out.
    packet : array of int64, shape (m,)
        Number of each message's packet, −1 for one that is left out.
    is_dead_end : array of bool, shape (n,)
        Whether the packet, when all stations have served it, still gets nowhere.
    refusals
        How many connections end where, by the reason.
    table_hosts
        The node of each conntrack table of the plan: its first tables.
    port_tables
        Whose ports the other tables of the plan are.
    """

    plan: Plan
    stations: Stations
    message: npt.NDArray[np.int64]
    packet: npt.NDArray[np.int64]
    is_dead_end: npt.NDArray[np.bool_]
    refusals: dict[str, int]
    table_hosts: tuple[str, ...] = ()
    port_tables: tuple[SourceNat, ...] = ()


def make_plan(
    messages: Messages,
    classes: FlowClasses,
    stations: Stations,
    streams: Streams,
    conntrack: ConntrackLimits | None = None,
) -> Planned:
    """Assemble the plan of a workload.

    Parameters
    ----------
    messages
        What is sent when.
    classes
        Which way each flow's packets go.
    stations
        Where they are served.
    streams
        Random numbers for service times.
    conntrack
        Of nodes' tables; None for tables in which there is always a place.
    """
    return _Planner(messages, classes, stations).plan(streams, conntrack)


def notice_of_refusal(flows: int, planned: Planned) -> str | None:
    """What to say if not one of the connections gets anywhere."""
    if sum(planned.refusals.values()) < flows:
        return None
    return "not one of the connections gets anywhere: there is nothing to measure"


class _Planner:
    """Fills the plan's columns, route by route and kind by kind."""

    def __init__(self, messages: Messages, classes: FlowClasses, stations: Stations) -> None:
        self._messages = messages
        self._classes = classes
        self._stations = stations
        kinds = len(messages.kinds)
        self._class_of_row = classes.route[messages.flow] * kinds + messages.script.kind
        self._groups = [(divmod(int(key), kinds), rows) for key, rows in _grouped(self._class_of_row)]
        self._core_hash = _mixed(messages.flows.client * 65_536 + messages.flows.source_port)

    def plan(self, streams: Streams, conntrack: ConntrackLimits | None) -> Planned:
        """Do it."""
        kept, is_dead_end, refusals = self._reachable()
        ways = {key: self._way(*key) for key, rows in self._groups if kept[rows].any()}
        width = max((len(way) for way in ways.values()), default=0)
        rows_total = len(self._messages)
        station = np.full((rows_total, width), -1, np.int64)
        mean = np.zeros((rows_total, width))
        deviation = np.zeros((rows_total, width))
        luck = _Luck(streams, (rows_total, width))
        for key, rows in self._groups:
            way = ways.get(key, ())
            for column, visit in enumerate(way):
                station[rows, column] = self._station(visit, key, rows)
                mean[rows, column] = visit.mean_ns
                deviation[rows, column] = visit.deviation_ns
            luck.draw(way, rows)
        self._add_openings_and_work(mean, deviation)
        service = _log_normal(mean, deviation, luck.normal)
        tables = None
        if conntrack is not None:
            tables = TablePlanner(conntrack, self._messages, self._classes, streams).plan(
                self._groups, ways, mean, service
            )
        messages, script = self._messages, self._messages.script
        message = np.flatnonzero(kept)
        packet = np.where(kept, np.cumsum(kept) - 1, -1)
        after = script.after[message]
        plan = Plan(
            release_ns=messages.release_ns[message],
            station=station[message],
            service_ns=np.where(station[message] >= 0, service[message], 0),
            servers=self._stations.servers(),
            capacity=self._stations.capacity(self._socket_places(kept, ways, station)),
            after=np.where(after >= 0, packet[after], -1),
            think_ns=script.think_ns[message],
            timeout_ns=script.timeout_ns[message],
            wake_ns=self._stations.wakes(),
            tables=None if tables is None else tables.tables.of_packets(message),
        )
        owners = () if tables is None else (tables.hosts, tables.ports)
        return Planned(plan, self._stations, message, packet, is_dead_end[message], refusals, *owners)

    def _reachable(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, int]]:
        """Which messages can be sent at all, which of them get nowhere, and why."""
        rows_total = len(self._messages)
        exists, fails = np.zeros(rows_total, bool), np.zeros(rows_total, bool)
        refusals: Counter[str] = Counter()
        for (route, kind), rows in self._groups:
            path = self._classes.routes[route].get(kind)
            if path is None:
                continue
            exists[rows] = True
            if path.reason is not None:
                fails[rows] = True
                refusals[path.reason] += len(np.unique(self._messages.flow[rows]))
        if not fails.any():
            return exists, fails, {}
        # What follows a message that gets nowhere is never sent: pointer doubling along "after".
        after = self._messages.script.after
        is_blocked = np.where(after >= 0, fails[after], False)
        ancestor = after
        for _ in range(max(1, rows_total.bit_length())):
            is_blocked |= np.where(ancestor >= 0, is_blocked[ancestor], False)
            ancestor = np.where(ancestor >= 0, ancestor[ancestor], -1)
        return exists & ~is_blocked, fails, dict(refusals)

    def _way(self, route: int, kind: int) -> tuple[Visit, ...]:
        """The visits of a kind of message along a route, or the part of them that the kind stands for."""
        way = visits(self._classes.routes[route][kind].hops)
        part = self._messages.kinds[kind].part
        if part is Part.WHOLE:
            return way
        leaves = next((number for number, visit in enumerate(way) if visit.role not in (Role.SEND, Role.NIC)), len(way))
        return way[:leaves] if part is Part.DEPARTURE else way[leaves:]

    def _socket_places(
        self,
        kept: npt.NDArray[np.bool_],
        ways: dict[tuple[int, int], tuple[Visit, ...]],
        station: npt.NDArray[np.int64],
    ) -> dict[int, int]:
        """Places in the sockets of cores that only receive: a process that sends too is never refused by itself.

        A daemon has one socket for all; what a tun device holds for it, 500 packets, is taken for a socket too.
        """
        places = self._messages.socket_places
        if places is None:
            return {}
        threads = self._messages.thread
        sockets: set[tuple[int, int]] = set()
        senders: set[int] = set()
        for key, rows in self._groups:
            for column, visit in enumerate(ways.get(key, ())):
                used = rows[kept[rows]]
                if visit.role is Role.RECEIVE:
                    sockets.update(zip(station[used, column].tolist(), threads[used].tolist(), strict=True))
                elif visit.role is Role.DAEMON:
                    sockets.update((core, _NO_THREAD) for core in station[used, column].tolist())
                elif visit.role is Role.SEND:
                    senders.update(station[used, column].tolist())
        held = Counter(core for core, _ in sockets)
        return {core: count * places for core, count in held.items() if core not in senders}

    def _station(self, visit: Visit, key: tuple[int, int], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | int:
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

    def _receiving_core(self, visit: Visit, key: tuple[int, int], rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
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

    def _application_core(
        self, visit: Visit, key: tuple[int, int], rows: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int64] | int:
        """Which of a host's cores does what processes and the kernel's threads do; they are counted round and round."""
        cores = self._stations.application_cores
        match visit.role:
            case Role.DAEMON:
                return cores - 1
            case Role.PEER:
                return _spread(self._hashes(self._classes.routes[key[0]][key[1]].queue_hash, rows), cores)
            case Role.WORKER:
                return np.arange(len(rows))
        is_client = self._messages.kinds[key[1]].is_request is (visit.role is Role.SEND)
        return self._calling_threads(rows, cores) if is_client else self._serving_threads(rows, cores)

    def _serving_threads(self, rows: npt.NDArray[np.int64], cores: int) -> npt.NDArray[np.int64]:
        """The server's thread of some messages; apart from the clients', which may be on the same host."""
        messages = self._messages
        threads = messages.thread if messages.server_thread is None else messages.server_thread
        return threads[rows] + cores // 2

    def _calling_threads(self, rows: npt.NDArray[np.int64], cores: int) -> npt.NDArray[np.int64]:
        """The client's thread of some messages; one that serves others too is where those find it."""
        messages = self._messages
        clients = messages.flows.client[messages.flow[rows]]
        serves = np.isin(clients, sorted(messages.serving_clients))
        return messages.thread[rows] + np.where(serves, cores // 2, 0)

    def _hashes(self, shared: int | None, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
        """What spreads messages over cores: their flows, or the one hash that they share."""
        return self._core_hash[self._messages.flow[rows]] if shared is None else np.full(len(rows), shared, np.uint64)

    def _add_openings_and_work(self, mean: npt.NDArray[np.float64], deviation: npt.NDArray[np.float64]) -> None:
        """Add to first visits what is not the route's: the opening of a connection, and what applications compute."""
        messages, classes = self._messages, self._classes
        if not mean.shape[1]:
            return
        kinds = messages.kinds
        opens = np.array([kind.opens_here for kind in kinds])[messages.script.kind]
        opening = classes.opening[messages.flow[opens]]
        mean[opens, 0] += np.array([one.mean_ns for one in classes.openings])[opening]
        deviation[opens, 0] += np.array([one.deviation_ns for one in classes.openings])[opening]
        mean[:, 0] += np.array([kind.work_ns for kind in kinds])[messages.script.kind]


class _Luck:
    """How far each visit's service time is off: a normal number each, shape (n, visits).

    A visit's numbers are its role's: of alternatives that bring packets to receivers by ways of different lengths, each
    receiver is as quick or slow as in the others.
    """

    def __init__(self, streams: Streams, shape: tuple[int, int]) -> None:
        self._streams = streams
        self._drawn: dict[str, npt.NDArray[np.float64]] = {}
        self.normal = np.zeros(shape)

    def draw(self, way: tuple[Visit, ...], rows: npt.NDArray[np.int64]) -> None:
        """Fill the rows of messages that go one way."""
        met: Counter[Role] = Counter()
        for column, visit in enumerate(way):
            met[visit.role] += 1
            if visit.deviation_ns or column == 0:  # to the first visit, what opens a connection is added
                self.normal[rows, column] = self._numbers(f"service times of {visit.role.value} {met[visit.role]}")[
                    rows
                ]

    def _numbers(self, purpose: str) -> npt.NDArray[np.float64]:
        """The stream of a purpose: one number for each message, whether its way has such a visit or not."""
        if purpose not in self._drawn:
            self._drawn[purpose] = self._streams.generator(purpose).standard_normal(len(self.normal))
        return self._drawn[purpose]


def _log_normal(
    mean: npt.NDArray[np.float64], deviation: npt.NDArray[np.float64], normal: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Service times with these means and deviations, in whole nanoseconds of at least 1, shape as given."""
    relative = np.divide(deviation, mean, out=np.zeros_like(mean), where=mean > 0)
    variance = np.log1p(relative**2)
    factor = np.exp(normal * np.sqrt(variance) - variance / 2)
    return np.asarray(np.maximum(np.rint(mean * factor), 1), np.int64)


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
