"""Benchmarks report ratios of two things timed in turn in one run; they never fail for being slow."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

Timed = Callable[[], Any]
Compare = Callable[..., None]
REPORTS = pytest.StashKey[list[str]]()


@pytest.fixture
def compare(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> Compare:
    """Time a function against another, in turn, and report how their medians compare."""

    def measure(text: str, one: Timed, other: Timed, rounds: int = 7) -> None:
        seconds: list[float] = []

        def time_the_other() -> None:
            gc.collect()
            start = time.perf_counter()
            other()
            seconds.append(time.perf_counter() - start)
            gc.collect()

        benchmark.pedantic(one, setup=time_the_other, rounds=rounds)
        if benchmark.stats is not None:
            mine, its = float(benchmark.stats.stats.median), statistics.median(seconds)
            ratio = mine / its
            benchmark.extra_info["ratio"] = ratio
            request.config.stash[REPORTS].append(f"{ratio:6.2f} = {mine:.3f} s / {its:.3f} s  {text}")

    return measure


def pytest_configure(config: pytest.Config) -> None:
    """Make room for reports."""
    config.stash[REPORTS] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the ratios."""
    if config.stash[REPORTS]:
        terminalreporter.section("ratios of medians")
        for line in config.stash[REPORTS]:
            terminalreporter.write_line(line)
