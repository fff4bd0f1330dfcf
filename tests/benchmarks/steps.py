"""What the steps of a whole run take: ``python -m tests.benchmarks.steps SERVICES TRANSACTIONS``.

``python -m tests.benchmarks`` starts one process for each, so that each has its own peak of memory.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

from kubesim.engine import compiled_engine
from kubesim.scenario import Scenario, simulation, streaming, summarise
from tests.benchmarks.peak import peak_mib
from tests.scenarios import scenario

Taken = dict[str, float]
PLAN, LOOP, BOTH = "plan", "engine's loop", "plan and engine's loop"
PARTS, WHOLE = "plan, engine and counting", "whole run"


def timed(function: Callable[..., Any], name: str, taken: Taken) -> Callable[..., Any]:
    """The function, whose seconds are added up."""

    def call(*arguments: Any, **named: Any) -> Any:
        start = time.process_time()
        try:
            return function(*arguments, **named)
        finally:
            taken[name] = taken.get(name, 0.0) + time.process_time() - start

    return call


def seconds_of(run: Scenario) -> Taken:
    """What the steps of a run take."""
    taken: Taken = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaming, "play_in_parts", timed(streaming.play_in_parts, PARTS, taken))
        patch.setattr(streaming._Feed, "next", timed(streaming._Feed.next, PLAN, taken))
        patch.setattr(streaming, "planned", timed(streaming.planned, PLAN, taken))
        patch.setattr(compiled_engine, "play", timed(compiled_engine.play, LOOP, taken))
        patch.setattr(simulation, "WORTH_IT", 0)
        timed(summarise, WHOLE, taken)(run)
    assert set(taken) == {PARTS, PLAN, LOOP, WHOLE}, "it is not played in parts"
    return {**taken, BOTH: taken[PLAN] + taken[LOOP]}


def requests(services: int, transactions: int, connections: int = 1) -> Scenario:
    """Requests through a ClusterIP across VXLAN, among other Services."""
    traffic = {"transactions": transactions // connections, "connections": connections}
    return scenario(cluster={"services": services}, traffic=traffic)


if __name__ == "__main__":
    services, transactions = (int(one) for one in sys.argv[1:])
    seconds_of(requests(services, 10))  # compiles
    found: dict[str, float] = seconds_of(requests(services, transactions))
    found["peak_mib"] = peak_mib()
    sys.stdout.write(json.dumps(found))
