"""What somebody would write by hand for only the tandem with callbacks of SimPy's events."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import simpy

from kubesim.engine import Int64Array
from tests.benchmarks.tandem import Tandem


class Station:
    """One FIFO server with a bounded queue."""

    def __init__(self, environment: simpy.Environment, tandem: Tandem, depart_ns: list[int]) -> None:
        self.environment = environment
        self.service_ns = tandem.service_ns
        self.places = tandem.capacity - 1
        self.depart_ns = depart_ns
        self.next: Station | None = None
        self.queue: deque[int] = deque()
        self.is_busy = False

    def join(self, packet: int) -> None:
        """Start to serve the packet, queue it, or drop it."""
        if not self.is_busy:
            self.is_busy = True
            self.serve(packet)
        elif len(self.queue) < self.places:
            self.queue.append(packet)

    def serve(self, packet: int) -> None:
        """Let SimPy call back when the service is over."""
        timeout = self.environment.timeout(self.service_ns)
        timeout.callbacks.append(lambda _event: self.depart(packet))

    def depart(self, packet: int) -> None:
        """Start the head of the queue and hand the packet on."""
        if self.queue:
            self.serve(self.queue.popleft())
        else:
            self.is_busy = False
        if self.next is not None:
            self.next.join(packet)
        else:
            self.depart_ns[packet] = int(self.environment.now)


def play(tandem: Tandem, release_ns: list[int]) -> list[int]:
    """Play the tandem."""
    environment = simpy.Environment()
    depart_ns = [-1] * len(release_ns)
    stations = [Station(environment, tandem, depart_ns) for _ in range(tandem.stations)]
    for before, after in itertools.pairwise(stations):
        before.next = after

    def release(packet: int) -> None:
        stations[0].join(packet)
        schedule_release(packet + 1)

    def schedule_release(packet: int) -> None:
        if packet < len(release_ns):
            timeout: Any = environment.timeout(release_ns[packet] - int(environment.now))
            timeout.callbacks.append(lambda _event: release(packet))

    schedule_release(0)
    environment.run()
    return depart_ns


def prepared(tandem: Tandem) -> Callable[[], Int64Array]:
    """Have the times as Python's integers."""
    release_ns = tandem.release_ns.tolist()
    return lambda: np.array(play(tandem, release_ns), np.int64)
