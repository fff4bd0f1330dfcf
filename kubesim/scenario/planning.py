"""From messages and their ways to a plan: stations and service times of every packet, all chance spent."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kubesim.engine import Plan
from kubesim.scenario.conntrack_tables import TablePlanner
from kubesim.scenario.rows import Key, Rows
from kubesim.scenario.visit_planning import VisitPlanner

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.scenario.conntrack_tables import ConntrackLimits, PlannedTables
    from kubesim.scenario.flow_classes import FlowClasses, SourceNat
    from kubesim.scenario.stations import Stations
    from kubesim.streams import Streams
    from kubesim.workload import Messages

AT_ONCE = 65_536
"""Messages that are planned at a time."""


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


def notice_of_refusal(flows: int, refusals: dict[str, int]) -> str | None:
    """What to say if not one of the connections gets anywhere."""
    if sum(refusals.values()) < flows:
        return None
    return "not one of the connections gets anywhere: there is nothing to measure"


class _Planner:
    """Fills the plan's columns, so many messages at a time."""

    def __init__(self, messages: Messages, classes: FlowClasses, stations: Stations) -> None:
        self._messages = messages
        self._classes = classes
        self._stations = stations
        self._rows = Rows.of_messages(messages)

    def plan(self, streams: Streams, conntrack: ConntrackLimits | None) -> Planned:
        """Do it."""
        kept, is_dead_end, refusals = reachable(self._messages, self._classes)
        message = np.flatnonzero(kept)
        rows = self._rows.take(message)
        planner = VisitPlanner(self._messages, self._classes, self._stations, streams, self._used(rows))
        station, service_ns = self._visited(planner, rows)
        tables = None
        if conntrack is not None:
            tables = self._tables(conntrack, planner, streams, message, service_ns)
        script = self._messages.script
        packet = np.where(kept, np.cumsum(kept) - 1, -1)
        after = script.after[message]
        plan = Plan(
            release_ns=self._messages.release_ns[message],
            station=station,
            service_ns=service_ns,
            servers=self._stations.servers(),
            capacity=self._stations.capacity(planner.socket_places(rows)),
            after=np.where(after >= 0, packet[after], -1),
            think_ns=script.think_ns[message],
            timeout_ns=script.timeout_ns[message],
            wake_ns=self._stations.wakes(),
            tables=None if tables is None else tables.tables.of_packets(message),
        )
        owners = () if tables is None else (tables.hosts, tables.ports)
        return Planned(plan, self._stations, message, packet, is_dead_end[message], refusals, *owners)

    def _used(self, rows: Rows) -> list[Key]:
        """The routes and kinds of these messages."""
        kinds = len(self._messages.kinds)
        counts = np.bincount(self._classes.route[rows.flow] * kinds + rows.kind)
        return [divmod(int(key), kinds) for key in np.flatnonzero(counts)]

    def _visited(self, planner: VisitPlanner, rows: Rows) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Stations and service times of messages, as many at a time as a processor's cache holds."""
        shape = (len(rows.flow), planner.width)
        station, service_ns = np.empty(shape, np.int64), np.empty(shape, np.int64)
        for begin in range(0, len(rows.flow), AT_ONCE):
            part = slice(begin, begin + AT_ONCE)
            visited = planner.plan(rows.take(part))
            station[part], service_ns[part] = visited.station, visited.service_ns
        if planner.has_workers:
            planner.deal_to_workers(rows, station)
        return station, service_ns

    def _tables(
        self,
        limits: ConntrackLimits,
        planner: VisitPlanner,
        streams: Streams,
        message: npt.NDArray[np.int64],
        service_ns: npt.NDArray[np.int64],
    ) -> PlannedTables:
        """Tables for all messages, those that are never sent included."""
        shape = (len(self._messages), planner.width)
        mean, service = np.zeros(shape), np.ones(shape, np.int64)
        mean[message] = planner.mean_ns(self._rows.take(message))
        service[message] = service_ns
        return TablePlanner(limits, self._messages, self._classes, streams).plan(
            planner.groups(self._rows), planner.ways, mean, service
        )


def reachable(
    messages: Messages, classes: FlowClasses
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], dict[str, int]]:
    """Which messages can be sent at all, which of them get nowhere, shape (n,) each, and why."""
    kinds, routes = len(messages.kinds), classes.routes
    exists, fails = np.zeros((2, len(routes), kinds), bool)
    reasons: dict[Key, str] = {}
    for number, paths in enumerate(routes):
        for one, path in paths.items():
            exists[number, one], fails[number, one] = True, path.reason is not None
            if path.reason is not None:
                reasons[number, one] = path.reason
    route, kind = classes.route[messages.flow], messages.script.kind
    is_sent = exists[route, kind]
    if not reasons or not (is_failing := fails[route, kind]).any():
        return is_sent, np.zeros(len(messages), bool), {}
    refusals: Counter[str] = Counter()
    for key, reason in sorted(reasons.items()):
        flows = messages.flow[is_failing & (route == key[0]) & (kind == key[1])]
        refusals[reason] += len(np.unique(flows))
    # What follows a message that gets nowhere is never sent: pointer doubling along "after".
    after = messages.script.after
    is_blocked = np.where(after >= 0, is_failing[after], False)
    ancestor = after
    for _ in range(max(1, len(messages).bit_length())):
        is_blocked |= np.where(ancestor >= 0, is_blocked[ancestor], False)
        ancestor = np.where(ancestor >= 0, ancestor[ancestor], -1)
    return is_sent & ~is_blocked, is_failing, {reason: flows for reason, flows in refusals.items() if flows}
