"""The tandem as SimPy's documentation teaches it: a process per packet, and a resource per station."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import simpy

from kubesim.engine import Int64Array
from tests.benchmarks.tandem import Tandem


def play(tandem: Tandem, release_ns: list[int]) -> list[int]:
    """Play the tandem."""
    environment = simpy.Environment()
    stations = [simpy.Resource(environment) for _ in range(tandem.stations)]
    depart_ns = [-1] * len(release_ns)

    def packet_process(packet: int) -> Generator[Any, Any, None]:
        for station in stations:
            if len(station.queue) + station.count >= tandem.capacity:
                return
            with station.request() as request:
                yield request
                yield environment.timeout(tandem.service_ns)
        depart_ns[packet] = int(environment.now)

    def source() -> Generator[Any, Any, None]:
        for packet, due_ns in enumerate(release_ns):
            yield environment.timeout(due_ns - environment.now)
            environment.process(packet_process(packet))

    environment.process(source())
    environment.run()
    return depart_ns


def prepared(tandem: Tandem) -> Callable[[], Int64Array]:
    """Have the times as Python's integers."""
    release_ns = tandem.release_ns.tolist()
    return lambda: np.array(play(tandem, release_ns), np.int64)
