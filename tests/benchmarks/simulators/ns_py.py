"""The tandem of ns.py's own generator and ports.

A port serves what it has by a bit rate: packets of as many bytes as the service has nanoseconds, at 8 bit per nanosecond.
Its limit counts the packet in service. Where a packet comes at the instant at which another leaves a full port, the order
is that in which SimPy was told of both, not by packet number. Times are floats, whole here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import simpy
from ns.packet.dist_generator import DistPacketGenerator
from ns.port.port import Port

from kubesim.engine import Int64Array
from tests.benchmarks.tandem import Tandem


class Sink:
    """Notes when packets come; ns.py's own keeps more, and takes longer."""

    def __init__(self, environment: simpy.Environment, packets: int) -> None:
        self.environment = environment
        self.depart_ns = [-1] * packets

    def put(self, packet: Any) -> None:
        """Take a packet."""
        self.depart_ns[packet.packet_id] = int(self.environment.now)


def play(tandem: Tandem, gaps_ns: list[int]) -> list[int]:
    """Play the tandem."""
    environment = simpy.Environment()
    sink = Sink(environment, len(gaps_ns))
    source = DistPacketGenerator(
        environment,
        "source",
        iter(gaps_ns).__next__,
        lambda: tandem.service_ns,
        size=len(gaps_ns) * tandem.service_ns,
    )
    ports = [Port(environment, rate=8, qlimit=tandem.capacity) for _ in range(tandem.stations)]
    for before, after in itertools.pairwise([source, *ports, sink]):
        before.out = after
    environment.run()
    return sink.depart_ns


def prepared(tandem: Tandem) -> Callable[[], Int64Array]:
    """Have the gaps as Python's integers."""
    gaps_ns = np.diff(tandem.release_ns, prepend=0).tolist()
    return lambda: np.array(play(tandem, gaps_ns), np.int64)
