"""The tandem in salabim: a component per packet, and a resource per station; its statistics are switched off.

It is played with generators, as everywhere but in programs that install greenlet. Times are floats, whole here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import salabim

from kubesim.engine import Int64Array
from tests.benchmarks.tandem import Tandem


class Packet(salabim.Component):  # type: ignore[misc]  # salabim has no types
    """One packet on its way."""

    def setup(self, number: int, stations: list[Any], tandem: Tandem, depart_ns: list[int]) -> None:
        """Take what salabim hands over."""
        self.number, self.stations, self.tandem, self.depart_ns = number, stations, tandem, depart_ns

    def process(self) -> Generator[Any, Any, None]:
        """Go through all stations."""
        for station in self.stations:
            if len(station.claimers()) + len(station.requesters()) >= self.tandem.capacity:
                return
            yield self.request(station)
            yield self.hold(self.tandem.service_ns)
            self.release(station)
        self.depart_ns[self.number] = int(self.env.now())


class Source(salabim.Component):  # type: ignore[misc]  # salabim has no types
    """Makes packets."""

    def setup(self, release_ns: list[int], stations: list[Any], tandem: Tandem, depart_ns: list[int]) -> None:
        """Take what salabim hands over."""
        self.release_ns, self.rest = release_ns, {"stations": stations, "tandem": tandem, "depart_ns": depart_ns}

    def process(self) -> Generator[Any, Any, None]:
        """Make each when its time has come."""
        for number, due_ns in enumerate(self.release_ns):
            yield self.hold(till=due_ns)
            Packet(number=number, **self.rest)


def play(tandem: Tandem, release_ns: list[int]) -> list[int]:
    """Play the tandem."""
    environment = salabim.Environment(trace=False, yieldless=False)
    depart_ns = [-1] * len(release_ns)
    stations = [salabim.Resource(env=environment, monitor=False) for _ in range(tandem.stations)]
    Source(release_ns=release_ns, stations=stations, tandem=tandem, depart_ns=depart_ns, env=environment)
    environment.run()
    return depart_ns


def prepared(tandem: Tandem) -> Callable[[], Int64Array]:
    """Have the times as Python's integers."""
    release_ns = tandem.release_ns.tolist()
    return lambda: np.array(play(tandem, release_ns), np.int64)
