"""The compiled engine of this project: the loop, without making its arrays and the trace."""

from __future__ import annotations

from collections.abc import Callable

from kubesim.engine import Int64Array, compiled_engine
from tests.benchmarks.tandem import Tandem


def prepared(tandem: Tandem) -> Callable[[], Int64Array]:
    """Compile the loop and make the arrays; what is given works once."""
    compiled_engine.simulate(Tandem(tandem.release_ns[:1]).plan())
    arrays = compiled_engine.arrays_of(tandem.plan())

    def play() -> Int64Array:
        compiled_engine.play(*arrays, until_ns=compiled_engine.FOR_EVER_NS)
        return arrays.depart_ns[:, -1]

    return play
