"""The SimPy engine of this project, from the plan to the trace."""

from __future__ import annotations

from collections.abc import Callable

from kubesim.engine import Int64Array, simpy_engine
from tests.benchmarks.tandem import Tandem


def prepared(tandem: Tandem) -> Callable[[], Int64Array]:
    """Make the plan."""
    plan = tandem.plan()
    return lambda: simpy_engine.simulate(plan).depart_ns[:, -1]
