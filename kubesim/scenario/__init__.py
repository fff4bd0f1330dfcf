"""One scenario: from its file to a plan, and from the trace to results."""

from __future__ import annotations

from kubesim.scenario.result import Result
from kubesim.scenario.simulation import run, summarise
from kubesim.scenario.spec import Scenario, load_scenario
from kubesim.scenario.store import save_result
from kubesim.scenario.summary import Summarised
from kubesim.scenario.tracing import TracedPacket, TraceResult, trace
from kubesim.scenario.used_costs import Evidence, evidence

__all__ = [
    "Evidence",
    "Result",
    "Scenario",
    "Summarised",
    "TraceResult",
    "TracedPacket",
    "evidence",
    "load_scenario",
    "run",
    "save_result",
    "summarise",
    "trace",
]
