"""The tandem in Ciw.

It drops what comes from outside to a full station; between stations it blocks the one before instead of dropping. With one
fixed service everywhere, only the first station has a queue, so that nothing is blocked here. Times are floats, whole here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import ciw
import numpy as np

from kubesim.engine import Int64Array
from tests.benchmarks.tandem import Tandem


def play(tandem: Tandem, gaps_ns: list[float]) -> Int64Array:
    """Play the tandem."""
    stations = tandem.stations
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Sequential([*gaps_ns, math.inf]), *[None] * (stations - 1)],
        service_distributions=[ciw.dists.Deterministic(tandem.service_ns)] * stations,
        routing=np.eye(stations, k=1).tolist(),
        number_of_servers=[1] * stations,
        queue_capacities=[tandem.capacity - 1] * stations,
    )
    simulation = ciw.Simulation(network)
    simulation.simulate_until_max_time(sum(gaps_ns) + tandem.service_ns * (len(gaps_ns) + stations))
    depart_ns = np.full(len(gaps_ns), -1)
    for individual in simulation.nodes[-1].all_individuals:
        last = individual.data_records[-1]
        if last.record_type == "service" and last.node == stations:
            depart_ns[individual.id_number - 1] = last.exit_date
    return depart_ns


def prepared(tandem: Tandem) -> Callable[[], Int64Array]:
    """Have the gaps as Python's integers."""
    gaps_ns = np.diff(tandem.release_ns, prepend=0).tolist()
    return lambda: play(tandem, gaps_ns)
