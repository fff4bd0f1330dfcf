"""The tandem that engines are compared on, and what somebody would write by hand in SimPy for only that."""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any

import numpy as np
import simpy

from kubesim.engine import Plan

STATIONS = 5
CAPACITY = 100
LOAD = 0.8
SERVICE_NS = 1000


def tandem_plan(packets: int, seed: int = 1) -> Plan:
    """Draw an open tandem: Poisson arrivals at 0.8 of what a station serves, fixed service, 100 places each."""
    gaps = np.random.default_rng(seed).exponential(SERVICE_NS / LOAD, packets)
    return Plan(
        release_ns=np.rint(np.cumsum(gaps)).astype(np.int64),
        station=np.tile(np.arange(STATIONS), (packets, 1)),
        service_ns=np.full((packets, STATIONS), SERVICE_NS),
        servers=np.ones(STATIONS, np.int64),
        capacity=np.full(STATIONS, CAPACITY),
    )


class HandWrittenStation:
    """One FIFO server with a bounded queue, written straight against SimPy's callbacks."""

    def __init__(self, environment: simpy.Environment, depart_ns: list[int]) -> None:
        self.environment = environment
        self.depart_ns = depart_ns
        self.next: HandWrittenStation | None = None
        self.queue: deque[int] = deque()
        self.is_busy = False

    def join(self, packet: int) -> None:
        """Start to serve the packet, queue it, or drop it."""
        if not self.is_busy:
            self.is_busy = True
            self.serve(packet)
        elif len(self.queue) < CAPACITY - 1:
            self.queue.append(packet)

    def serve(self, packet: int) -> None:
        """Let SimPy call back when the service is over."""
        timeout = self.environment.timeout(SERVICE_NS)
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


def hand_written_tandem(release_ns: list[int]) -> list[int]:
    """Play the tandem; the time each packet leaves the last station, −1 if it was dropped."""
    environment = simpy.Environment()
    depart_ns = [-1] * len(release_ns)
    stations = [HandWrittenStation(environment, depart_ns) for _ in range(STATIONS)]
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
