"""What a whole run takes besides the engine's loop, as ratios: ``pytest tests/benchmarks/test_whole_runs.py --benchmark-enable``.

By hand, which takes minutes. Without ``--benchmark-enable`` runs are small, and nothing is timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from kubesim.engine import compiled_engine
from kubesim.scenario import Scenario, simulation, summarise
from tests.benchmarks.conftest import REPORTS
from tests.scenarios import scenario

Taken = dict[str, float]
PARTS, LOOP, WHOLE = "plan, engine and counting", "engine's loop", "whole run"
ROUNDS = 5


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
        patch.setattr(simulation, "play_in_parts", timed(simulation.play_in_parts, PARTS, taken))
        patch.setattr(compiled_engine, "play", timed(compiled_engine.play, LOOP, taken))
        patch.setattr(simulation, "WORTH_IT", 0)
        timed(summarise, WHOLE, taken)(run)
    assert set(taken) == {PARTS, LOOP, WHOLE}, "it is not played in parts"
    return taken


def requests(services: int, transactions: int) -> Scenario:
    """Requests through a ClusterIP across VXLAN, among other Services."""
    return scenario(cluster={"services": services}, traffic={"transactions": transactions})


def median_s(runs: list[Taken], step: str) -> float:
    """The median of a step."""
    return statistics.median(one[step] for one in runs)


def test_planning_and_playing_against_the_loop(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> None:
    rounds, transactions = (ROUNDS, 1_000_000) if benchmark.enabled else (1, 10)
    run = requests(10, transactions)
    seconds_of(requests(10, 10))  # compiles
    found: list[Taken] = []
    benchmark.pedantic(lambda: found.append(seconds_of(run)), rounds=rounds)
    assert all(one[LOOP] < one[PARTS] < one[WHOLE] for one in found)
    if benchmark.enabled:
        loop_s = median_s(found, LOOP)
        for step in (PARTS, WHOLE):
            ratio = median_s(found, step) / loop_s
            text = f"tcp_rr, {transactions:,} transactions: {step} / {LOOP}"
            request.config.stash[REPORTS].append(f"{ratio:6.2f} = {ratio * loop_s:.3f} s / {loop_s:.3f} s  {text}")


def test_a_packet_costs_the_same_among_all_services(
    benchmark: BenchmarkFixture, request: pytest.FixtureRequest
) -> None:
    """Bringing the cluster up is told apart: it comes before the first part is planned."""
    rounds, few, many, transactions = (ROUNDS, 10, 100_000, 1_000_000) if benchmark.enabled else (1, 5, 10, 10)
    among_few, among_many = requests(few, transactions), requests(many, transactions)
    seconds_of(requests(few, 10))  # compiles
    pairs: list[tuple[Taken, Taken]] = []
    benchmark.pedantic(lambda: pairs.append((seconds_of(among_few), seconds_of(among_many))), rounds=rounds)
    assert len(pairs) == rounds
    if benchmark.enabled:
        of_few, of_many = ([pair[side] for pair in pairs] for side in (0, 1))
        few_s, many_s = median_s(of_few, PARTS), median_s(of_many, PARTS)
        set_up_s = median_s(of_many, WHOLE) - many_s
        text = f"tcp_rr, {transactions:,} transactions: {PARTS}, {many:,} Services / {few}; set-up {set_up_s:.1f} s"
        request.config.stash[REPORTS].append(f"{many_s / few_s:6.2f} = {many_s:.3f} s / {few_s:.3f} s  {text}")
