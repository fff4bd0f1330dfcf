"""Which engine plays a plan."""

from __future__ import annotations

from collections.abc import Callable

from kubesim.engine import simpy_engine
from kubesim.engine.plan import Plan
from kubesim.engine.trace import Trace

AUTO = "auto"
"""The name that leaves the choice to :func:`play`."""


def _compiled(plan: Plan) -> Trace:
    """Play with the compiled engine; Numba takes a while to import, so who does not play does without."""
    from kubesim.engine import compiled_engine  # noqa: PLC0415

    return compiled_engine.simulate(plan)


ENGINES: dict[str, Callable[[Plan], Trace]] = {"compiled": _compiled, "simpy": simpy_engine.simulate}
"""Every engine by its name; each gives the same trace for the same plan."""
