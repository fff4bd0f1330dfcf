"""The tandem once more, as somebody would write it by hand in Numba for only that."""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np

from kubesim.engine import Int64Array
from tests.benchmarks.tandem import Tandem


def prepared(tandem: Tandem) -> Callable[[], Int64Array]:
    """Compile it."""
    play_tandem(tandem.release_ns[:1], np.full(1, -1), tandem.stations, tandem.capacity, tandem.service_ns)

    def play() -> Int64Array:
        depart_ns = np.full(len(tandem.release_ns), -1)
        play_tandem(tandem.release_ns, depart_ns, tandem.stations, tandem.capacity, tandem.service_ns)
        return depart_ns

    return play


@numba.njit(cache=True)
def play_tandem(release_ns: Int64Array, depart_ns: Int64Array, stations: int, capacity: int, service_ns: int) -> None:
    """Play it: a heap of at most one event of each station and the next release, ordered by time and packet."""
    places = capacity - 1
    due_ns, due_packet, due_station = np.empty((3, stations + 1), np.int64)
    queues = np.empty((stations, places), np.int64)
    first, waiting = np.zeros((2, stations), np.int64)
    is_busy = np.zeros(stations, np.bool_)
    events = push(due_ns, due_packet, due_station, 0, release_ns[0], 0, -1) if len(release_ns) else 0
    while events:
        now, packet, station = due_ns[0], due_packet[0], due_station[0]
        events = pop(due_ns, due_packet, due_station, events)
        if station < 0:
            if packet + 1 < len(release_ns):
                events = push(due_ns, due_packet, due_station, events, release_ns[packet + 1], packet + 1, -1)
        elif waiting[station]:
            head = queues[station, first[station]]
            first[station] = (first[station] + 1) % places
            waiting[station] -= 1
            events = push(due_ns, due_packet, due_station, events, now + service_ns, head, station)
        else:
            is_busy[station] = False
        station += 1
        if station == stations:
            depart_ns[packet] = now
        elif not is_busy[station]:
            is_busy[station] = True
            events = push(due_ns, due_packet, due_station, events, now + service_ns, packet, station)
        elif waiting[station] < places:
            queues[station, (first[station] + waiting[station]) % places] = packet
            waiting[station] += 1


@numba.njit(cache=True)
def push(
    due_ns: Int64Array,
    due_packet: Int64Array,
    due_station: Int64Array,
    events: int,
    when_ns: int,
    packet: int,
    station: int,
) -> int:
    """Put an event into the heap; how many there are then."""
    place = events
    while place > 0:
        above = (place - 1) // 2
        if when_ns > due_ns[above] or (when_ns == due_ns[above] and packet > due_packet[above]):
            break
        due_ns[place], due_packet[place], due_station[place] = due_ns[above], due_packet[above], due_station[above]
        place = above
    due_ns[place], due_packet[place], due_station[place] = when_ns, packet, station
    return events + 1


@numba.njit(cache=True)
def pop(due_ns: Int64Array, due_packet: Int64Array, due_station: Int64Array, events: int) -> int:
    """Take the first event out of the heap; how many are left."""
    last = events - 1
    place, below = 0, 1
    while below < last:
        other = below + 1
        if other < last and (
            due_ns[other] < due_ns[below] or (due_ns[other] == due_ns[below] and due_packet[other] < due_packet[below])
        ):
            below = other
        if due_ns[below] > due_ns[last] or (due_ns[below] == due_ns[last] and due_packet[below] > due_packet[last]):
            break
        due_ns[place], due_packet[place], due_station[place] = due_ns[below], due_packet[below], due_station[below]
        place, below = below, 2 * below + 1
    due_ns[place], due_packet[place], due_station[place] = due_ns[last], due_packet[last], due_station[last]
    return last
