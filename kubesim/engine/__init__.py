"""Engines play plans: integers in, integers out, nothing known of networks.

>>> from kubesim.engine import ENGINES, Plan
>>> plan = Plan(release_ns=[0, 0], station=[[0], [0]], service_ns=[[5], [5]], servers=[1], capacity=[-1])
>>> ENGINES["simpy"](plan).depart_ns.tolist()
[[5], [10]]
"""

from __future__ import annotations

from kubesim.engine.choice import AUTO, ENGINES, play
from kubesim.engine.integers import Int64Array
from kubesim.engine.plan import NEVER, UNLIMITED, Plan
from kubesim.engine.tables import Tables
from kubesim.engine.trace import Trace

__all__ = ["AUTO", "ENGINES", "NEVER", "UNLIMITED", "Int64Array", "Plan", "Tables", "Trace", "play"]
