"""The readable engine: SimPy plays a plan, one pending event per packet.

A generator process per packet costs 4 to 6 times more than scheduling events directly, so each packet owns one small
event that is scheduled again and again. SimPy orders its heap by ``(time, priority, …)``; the priority slot carries
the packet number, which makes ties come out in the order the contract asks for.
"""

from __future__ import annotations

import sys
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import simpy

from kubesim.engine.integers import Int64Array
from kubesim.engine.plan import NEVER, UNLIMITED, Plan
from kubesim.engine.tables import NO_ENTRY, Occupancy
from kubesim.engine.trace import Trace
from kubesim.errors import PlanError


class _PacketEvent:
    """What SimPy asks of an event, and where its packet is: the visit it makes, the station, the time it is due."""

    __slots__ = ("_ok", "callbacks", "due_ns", "packet", "station", "visit")

    def __init__(self, packet: int, visit: int, due_ns: int, callbacks: tuple[Callable[[Any], None]]) -> None:
        self._ok = True
        self.callbacks = callbacks
        self.due_ns = due_ns
        self.packet = packet
        self.visit = visit
        self.station = -1


def simulate(plan: Plan) -> Trace:
    """Play ``plan`` with SimPy.

    Parameters
    ----------
    plan
        Any plan; this engine honours the whole contract.

    Returns
    -------
    Trace
        Times of the same shape as ``plan.station``.

    Raises
    ------
    PlanError
        If a time does not fit into 64 bits.
    """
    environment = simpy.Environment()
    source = _Source(plan, environment)
    depart_ns = array("q", [-1]) * (plan.packets * (plan.visits + 1))
    occupancy = None if plan.tables is None else Occupancy(plan.tables)
    refused: dict[int, tuple[int, int]] = {}
    try:
        source.start(_packet_handler(plan, environment, source, depart_ns, occupancy, refused))
        environment.run()
    except OverflowError:
        raise PlanError("plan: its times come to more nanoseconds than fit into 64 bits") from None
    depart = np.array(depart_ns, np.int64).reshape(plan.packets, plan.visits + 1)[:, 1:]
    refused_visit, refused_place = np.full((2, plan.packets), -1, np.int64)
    if refused:
        refused_visit[list(refused)], refused_place[list(refused)] = np.array(list(refused.values())).T
    highest = np.array([] if occupancy is None else occupancy.highest, np.int64)
    released_ns = np.array(source.released_ns, np.int64)
    return Trace.of_departures(plan, released_ns, np.ascontiguousarray(depart), refused_visit, refused_place, highest)


class _Source:
    """Releases packets: the planned ones one by one, so that the heap stays small, and those that others release."""

    def __init__(self, plan: Plan, environment: simpy.Environment) -> None:
        self.released_ns = array("q", [-1]) * plan.packets
        self._schedule: Any = environment.schedule
        self._width = plan.visits + 1
        self._release_ns: list[int] = plan.release_ns.tolist()
        self._think_ns: list[int] = plan.think_ns.tolist()
        self._timeout_ns: list[int] = plan.timeout_ns.tolist()
        self._followers: dict[int, list[int]] = {}
        waiting = np.flatnonzero(plan.after != NEVER)
        for packet, releaser in zip(waiting.tolist(), plan.after[waiting].tolist(), strict=True):
            self._followers.setdefault(releaser, []).append(packet)
        planned = np.flatnonzero(plan.after == NEVER)
        order = planned[np.argsort(plan.release_ns[planned], kind="stable")]
        self._planned = iter(order.tolist())

    def start(self, handle: Callable[[Any], None]) -> None:
        """Schedule the first release; ``handle`` takes the packets from there on."""
        self._handle = handle
        self._schedule_next(now=0)

    def _release(self, packet: int, due_ns: int, now: int, callback: Callable[[Any], None]) -> None:
        event = _PacketEvent(packet, packet * self._width, due_ns, (callback,))
        self.released_ns[packet] = due_ns
        self._schedule(event, packet, due_ns - now)

    def _schedule_next(self, now: int) -> None:
        packet = next(self._planned, None)
        if packet is not None:
            self._release(packet, self._release_ns[packet], now, self._release_planned)

    def _release_planned(self, event: Any) -> None:
        self._schedule_next(event.due_ns)
        self._handle(event)

    def end(self, packet: int, now: int, *, is_lost: bool) -> None:
        """Release who waits for this packet's end; pass a loss on along those that have no time-out."""
        if not self._followers:
            return
        ended = [packet]
        while ended:
            for follower in self._followers.get(ended.pop(), ()):
                delay_ns = self._timeout_ns[follower] if is_lost else self._think_ns[follower]
                if delay_ns == NEVER:
                    ended.append(follower)
                else:
                    due_ns = max(now + delay_ns, self._release_ns[follower])
                    self._release(follower, due_ns, now, self._handle)


def _padded(visits: Int64Array, pad: int) -> list[int]:
    """Flatten (n, visits, …) to a list with one more column in front, for the moment before the first visit."""
    return [*np.insert(visits, 0, pad, axis=1).ravel().tolist(), pad]


def _packet_handler(
    plan: Plan,
    environment: simpy.Environment,
    source: _Source,
    depart_ns: array[int],
    occupancy: Occupancy | None,
    refused: dict[int, tuple[int, int]],
) -> Callable[[_PacketEvent], None]:
    """Build the function that does all the work, over local lists: they index several times faster than NumPy.

    Visits are numbered through all packets; each packet has one number more than visits, the first for its release.
    ``refused`` takes the packets that are refused, each with its visit, where its way ends, and which of the entries
    that it needs there has no place.
    """
    schedule: Any = environment.schedule
    station_of = _padded(plan.station, pad=-1)
    service_ns = _padded(plan.service_ns, pad=0)
    idle: list[int] = plan.servers.tolist()
    wake_ns: list[int] = plan.wake_ns.tolist()
    waiting_places: list[int] = np.where(plan.capacity == UNLIMITED, sys.maxsize, plan.capacity - plan.servers).tolist()
    queues: list[deque[_PacketEvent]] = [deque() for _ in idle]
    has_tables = occupancy is not None
    check_entry = _entry_check(plan, occupancy, refused, station_of, service_ns)
    warm_at_ns = [-1] * len(idle)  # the instant at which servers last became idle, and how many of them did:
    warm = [0] * len(idle)  # at that instant they have not fallen asleep yet

    def handle(event: _PacketEvent) -> None:
        now = event.due_ns
        station = event.station
        if station >= 0:  # leave
            queue = queues[station]
            if queue:
                head = queue.popleft()
                visit = head.visit
                depart_ns[visit] = head.due_ns = now + service_ns[visit]
                head.callbacks = callbacks
                schedule(head, head.packet, service_ns[visit])
            else:
                idle[station] += 1
                if wake_ns[station]:
                    warm[station] = warm[station] + 1 if warm_at_ns[station] == now else 1
                    warm_at_ns[station] = now
        event.visit = visit = event.visit + 1
        event.station = station = station_of[visit]
        if has_tables and station >= 0 and (idle[station] or len(queues[station]) < waiting_places[station]):
            check_entry(event)
        if station < 0:
            source.end(event.packet, now, is_lost=event.packet in refused)
        elif idle[station]:
            idle[station] -= 1
            delay_ns = service_ns[visit]
            if wake_ns[station]:
                if warm_at_ns[station] == now and warm[station]:
                    warm[station] -= 1
                else:
                    delay_ns += wake_ns[station]
            depart_ns[visit] = event.due_ns = now + delay_ns
            event.callbacks = callbacks
            schedule(event, event.packet, delay_ns)
        elif len(queues[station]) < waiting_places[station]:
            queues[station].append(event)
        else:
            source.end(event.packet, now, is_lost=True)

    callbacks = (handle,)
    return handle


def _entry_check(
    plan: Plan,
    occupancy: Occupancy | None,
    refused: dict[int, tuple[int, int]],
    station_of: list[int],
    service_ns: list[int],
) -> Callable[[_PacketEvent], None]:
    """Build what a packet that joins a station passes where there are tables: who is refused goes no further."""
    if plan.tables is None or occupancy is None:
        return lambda _event: None
    refuses, width, kinds = occupancy.refuses, plan.visits + 1, plan.tables.entry.shape[2]
    has_needs = _padded(np.any(plan.tables.entry != NO_ENTRY, axis=2), pad=0)
    entry_of = _padded(plan.tables.entry, pad=NO_ENTRY)
    refused_ns = _padded(plan.tables.refused_ns, pad=0)
    limits: list[list[int]] = plan.tables.limit.tolist()
    keep_ns: list[list[int]] = plan.tables.keep_ns.tolist()

    def check(event: _PacketEvent) -> None:
        visit = event.visit
        if not has_needs[visit]:
            return
        first, packet = visit * kinds, event.packet
        place = refuses(entry_of[first : first + kinds], limits[packet], keep_ns[packet], event.due_ns)
        if place >= 0:
            refused[packet] = visit - packet * width - 1, place
            service_ns[visit] = refused_ns[first + place]
            station_of[visit + 1] = -1

    return check
