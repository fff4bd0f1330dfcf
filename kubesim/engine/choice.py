"""Which engine plays a plan."""

from __future__ import annotations

import sys
from collections.abc import Callable

from kubesim.engine import simpy_engine
from kubesim.engine.integers import too_late
from kubesim.engine.plan import Plan
from kubesim.engine.trace import Trace

AUTO = "auto"
"""The name that leaves the choice to :func:`play`."""

_WORTH_AN_IMPORT_VISITS = 500_000
"""SimPy plays as many in the time that it takes to import Numba and load compiled code: half a second, or one."""


class _WithoutNumba:
    """What this process has played so far without importing Numba."""

    visits = 0


def _compiled(plan: Plan) -> Trace:
    """Play with the compiled engine, which is imported by the first who does: Numba takes a while."""
    from kubesim.engine import compiled_engine  # noqa: PLC0415

    return compiled_engine.simulate(plan)


ENGINES: dict[str, Callable[[Plan], Trace]] = {"compiled": _compiled, "simpy": simpy_engine.simulate}
"""Every engine by its name; each gives the same trace for the same plan."""


def play(name: str, plan: Plan) -> tuple[Trace, str | None]:
    """Play a plan with an engine, or with whichever is fastest.

    Parameters
    ----------
    name
        One of :data:`ENGINES`, or :data:`AUTO`: the compiled engine where Numba is installed and there is
        enough to play to be worth its import, SimPy else.
    plan
        Any plan.

    Returns
    -------
    tuple of Trace and str or None
        The trace, the same on every machine; and what to say, the same likewise, if the compiled engine would have
        been the one to play but cannot.

    Raises
    ------
    PlanError
        If the engine that was asked for cannot play the plan.
    """
    if name != AUTO:
        return ENGINES[name](plan), None
    why_not = too_late(plan.latest_ns())
    if why_not is not None:
        return ENGINES["simpy"](plan), f"engine: {why_not}: SimPy plays"
    return ENGINES["compiled" if _is_compiled_faster(plan) else "simpy"](plan), None


def _is_compiled_faster(plan: Plan) -> bool:
    """Whether Numba is there, and imported by now or worth it.

    It is imported once SimPy has played for as long as that takes: never much too early, nor much too late, whatever
    is played after it.
    """
    if "numba" not in sys.modules:
        _WithoutNumba.visits += int(plan.visit_counts().sum())
        if _WithoutNumba.visits < _WORTH_AN_IMPORT_VISITS:
            return False
    from kubesim.engine import compiled_engine  # noqa: PLC0415

    return compiled_engine.IS_COMPILED
