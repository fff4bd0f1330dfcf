"""The compiled engine of this project, from the plan to the trace."""

from __future__ import annotations

from collections.abc import Callable

from kubesim.engine import Int64Array, compiled_engine
from tests.benchmarks.tandem import Tandem


def prepared(tandem: Tandem) -> Callable[[], Int64Array]:
    """Compile the loop and make the plan."""
    compiled_engine.simulate(Tandem(tandem.release_ns[:1]).plan())
    plan = tandem.plan()
    return lambda: compiled_engine.simulate(plan).depart_ns[:, -1]
