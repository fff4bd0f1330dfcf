"""The tables of ``python -m tests.benchmarks``: with ``--benchmark-enable`` whole, else of small cases."""

from __future__ import annotations

import io

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from rich.console import Console

from tests.benchmarks import steps, table
from tests.benchmarks.conftest import REPORTS
from tests.benchmarks.simulators import NAMES
from tests.benchmarks.table import SERVICES, TRANSACTIONS, Case, Run, cases, check, installed, show, show_runs

pytest.importorskip("numba")

ROUNDS = 2


def test_simulators_and_services(benchmark: BenchmarkFixture, request: pytest.FixtureRequest) -> None:
    console = Console(file=io.StringIO(), width=120)
    played = [Case("kubesim_loop", 400, 5), Case("simpy_callbacks", 400, 5)]
    runs = [Run(services, 100) for services in (2, 5)]
    if benchmark.enabled:
        played = list(cases(installed(list(NAMES), console)))
        runs = [Run(services, TRANSACTIONS) for services in SERVICES]

    def measure() -> None:
        for one in played:
            one.measure()
        for run in runs:
            run.measure()

    benchmark.pedantic(measure, rounds=ROUNDS if benchmark.enabled else 1)
    check(played)
    show(played, console)
    show_runs(runs, console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert NAMES["simpy_callbacks"] in text
    if benchmark.enabled:
        request.config.stash[REPORTS].extend(text.splitlines())


def test_different_answers_are_not_printed() -> None:
    one, other = Case("kubesim_loop", 400, 5, [1.0], 1.0, {"a"}), Case("ciw", 400, 5, [1.0], 1.0, {"b"})
    with pytest.raises(SystemExit, match=r"different departure times .*\(400, 5\)"):
        check([one, other])


def test_steps_have_the_same_names() -> None:
    assert (table.LOOP_STEP, table.BOTH, table.PARTS, table.WHOLE) == (steps.LOOP, steps.BOTH, steps.PARTS, steps.WHOLE)
