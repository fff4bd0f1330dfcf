"""The open tandem that simulators are compared on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kubesim.engine import Int64Array, Plan


@dataclass(frozen=True, eq=False)
class Tandem:
    """Stations in a row, each with one server, a FIFO queue and a fixed service.

    Parameters
    ----------
    release_ns : array of int64, shape (packets,)
        When each packet comes to the first station, never falling.
    stations
        How many of them.
    capacity
        The most packets at a station, the one in service included; one more is dropped.
    service_ns
        How long every service lasts.
    """

    release_ns: Int64Array
    stations: int = 5
    capacity: int = 100
    service_ns: int = 1000

    def plan(self) -> Plan:
        """The same for an engine of this project."""
        packets = len(self.release_ns)
        return Plan(
            release_ns=self.release_ns,
            station=np.tile(np.arange(self.stations), (packets, 1)),
            service_ns=np.full((packets, self.stations), self.service_ns),
            servers=np.ones(self.stations, np.int64),
            capacity=np.full(self.stations, self.capacity),
        )


def draw_tandem(packets: int, stations: int = 5, seed: int = 1) -> Tandem:
    """Draw Poisson arrivals at 0.8 of what a station serves."""
    gaps = np.random.default_rng(seed).exponential(Tandem.service_ns / 0.8, packets)
    return Tandem(np.rint(np.cumsum(gaps)).astype(np.int64), stations)


def tandem_plan(packets: int) -> Plan:
    """Draw the plan of such a tandem."""
    return draw_tandem(packets).plan()
