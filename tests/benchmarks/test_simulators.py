"""Each simulator that is compared gives the same answers on the same input; none is timed here."""

from __future__ import annotations

import numpy as np
import pytest

from kubesim.engine import Int64Array, simpy_engine
from tests.benchmarks.simulators import NAMES, prepared
from tests.benchmarks.tandem import Tandem, draw_tandem

EACH = pytest.mark.parametrize("name", NAMES)


def played(name: str, tandem: Tandem) -> Int64Array:
    """Play a tandem, if the simulator is installed."""
    try:
        ready = prepared(name, tandem)
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")
    return ready()


@EACH
@pytest.mark.parametrize("stations", [1, 5])
def test_departures_are_the_same(name: str, stations: int) -> None:
    tandem = draw_tandem(400, stations)
    assert np.array_equal(played(name, tandem), simpy_engine.simulate(tandem.plan()).depart_ns[:, -1])


@EACH
def test_the_same_packets_are_dropped(name: str) -> None:
    """No packet comes at the instant at which another leaves: there the simulators differ."""
    late = draw_tandem(400)
    apart_ns = np.random.default_rng(1).permutation(400)
    release_ns = np.sort(late.release_ns * 2 // 3 // late.service_ns * late.service_ns + apart_ns)
    tandem = Tandem(release_ns, stations=3, capacity=5)
    expected = simpy_engine.simulate(tandem.plan()).depart_ns[:, -1]
    assert 20 < np.count_nonzero(expected < 0) < 200
    assert np.array_equal(played(name, tandem), expected)
