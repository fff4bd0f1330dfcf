"""The tandem in one simulator each: a module whose ``prepared`` makes it ready, and gives what plays it once.

What is played gives the time at which each packet leaves the last station, −1 if it was dropped.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubesim.engine import Int64Array
    from tests.benchmarks.tandem import Tandem

NAMES = {
    "kubesim_loop": "kubesim, compiled loop only",
    "kubesim_compiled": "kubesim, compiled, plan to trace",
    "kubesim_simpy": "kubesim, SimPy engine",
    "numba_loop": "Numba, written by hand",
    "simpy_callbacks": "SimPy, callbacks by hand",
    "simpy_processes": "SimPy, process per packet",
    "ns_py": "ns.py",
    "salabim": "salabim",
    "ciw": "Ciw",
}
"""Modules of this package, and what they are called in tables."""


def prepared(name: str, tandem: Tandem) -> Callable[[], Int64Array]:
    """Make a tandem ready in a simulator.

    Raises
    ------
    ModuleNotFoundError
        If that simulator is not installed.
    """
    ready: Callable[[], Int64Array] = import_module(f"{__name__}.{name}").prepared(tandem)
    return ready
