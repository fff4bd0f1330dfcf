"""What a whole run takes besides the engine's loop, as ratios: ``pytest tests/benchmarks/test_whole_runs.py --benchmark-enable``.

By hand, which takes minutes. Without ``--benchmark-enable`` runs are small, and nothing is timed.
"""

from __future__ import annotations

import statistics

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.benchmarks.conftest import REPORTS
from tests.benchmarks.steps import BOTH, LOOP, PARTS, WHOLE, Taken, requests, seconds_of

pytest.importorskip("numba")

ROUNDS = 5


def median_s(runs: list[Taken], step: str) -> float:
    """The median of a step."""
    return statistics.median(one[step] for one in runs)


@pytest.mark.parametrize("connections", [1, 32])
def test_planning_and_playing_against_the_loop(
    benchmark: BenchmarkFixture, request: pytest.FixtureRequest, connections: int
) -> None:
    """With one connection the engine has one packet at a time, and is as fast as it ever is."""
    rounds, transactions = (ROUNDS, 1_000_000) if benchmark.enabled else (1, 10 * connections)
    run = requests(10, transactions, connections)
    seconds_of(requests(10, 10))  # compiles
    found: list[Taken] = []
    benchmark.pedantic(lambda: found.append(seconds_of(run)), rounds=rounds)
    assert all(one[LOOP] < one[PARTS] < one[WHOLE] for one in found)
    if benchmark.enabled:
        loop_s = median_s(found, LOOP)
        for step in (BOTH, PARTS, WHOLE):
            ratio = median_s(found, step) / loop_s
            text = f"tcp_rr, {transactions:,} transactions, {connections} at a time: {step} / {LOOP}"
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
    if benchmark.enabled:
        of_few, of_many = ([pair[side] for pair in pairs] for side in (0, 1))
        few_s, many_s = median_s(of_few, PARTS), median_s(of_many, PARTS)
        set_up_s = median_s(of_many, WHOLE) - many_s
        text = f"tcp_rr, {transactions:,} transactions: {PARTS}, {many:,} Services / {few}; set-up {set_up_s:.1f} s"
        request.config.stash[REPORTS].append(f"{many_s / few_s:6.2f} = {many_s:.3f} s / {few_s:.3f} s  {text}")
