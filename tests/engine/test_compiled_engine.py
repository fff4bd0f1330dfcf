"""The compiled engine and SimPy give the same trace, integer for integer."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis.errors import NoSuchExample

from kubesim.engine import AUTO, ENGINES, UNLIMITED, Plan, Tables, Trace, choice, compiled_engine, play, simpy_engine
from kubesim.errors import PlanError
from tests.benchmarks.tandem import tandem_plan
from tests.engine.plans import busy_plan, plans


def is_same(one: Trace, other: Trace) -> bool:
    """Whether two traces hold the same integers, of the same type and shape."""
    pairs = [(getattr(one, field.name), getattr(other, field.name)) for field in fields(Trace)]
    return all(a.dtype == b.dtype == np.int64 and np.array_equal(a, b) for a, b in pairs)


@settings(max_examples=300, deadline=None)
@given(plan=plans())
def test_traces_are_the_same(plan: Plan) -> None:
    assert is_same(compiled_engine.simulate(plan), simpy_engine.simulate(plan))


@pytest.mark.slow
@settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))  # 20 000 take three minutes
@given(plan=plans())
def test_traces_of_many_plans_are_the_same(plan: Plan) -> None:
    assert is_same(compiled_engine.simulate(plan), simpy_engine.simulate(plan))


@pytest.mark.slow
def test_traces_of_many_busy_plans_are_the_same() -> None:
    """Twenty thousand drawn by NumPy, with more packets each."""
    for seed in range(20_000):
        random = np.random.default_rng(seed)
        plan = busy_plan(random, packets=int(random.integers(1, 60)), grain_ns=int(random.integers(1, 40)))
        assert is_same(compiled_engine.simulate(plan), simpy_engine.simulate(plan)), seed


@pytest.mark.parametrize("grain_ns", [1, 10])
@pytest.mark.parametrize("seed", range(4))
def test_traces_of_long_plans_are_the_same(seed: int, grain_ns: int) -> None:
    """Thousands of packets: heaps that are deep, queues that are long, tables that fill and empty again."""
    plan = busy_plan(np.random.default_rng(seed), 3000, grain_ns)
    trace = compiled_engine.simulate(plan)
    assert is_same(trace, simpy_engine.simulate(plan))
    assert trace.is_dropped().sum() > 30
    assert trace.is_refused().sum() > 30
    assert trace.is_delivered(plan).sum() > 500


def load_engine() -> ModuleType:
    """The engine's module, once more."""
    spec = importlib.util.spec_from_file_location("plain_engine", compiled_engine.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plain_module() -> ModuleType:
    """The engine as it is where Numba is not installed: its functions are Python's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "numba", None)
        module = load_engine()
    assert not module.IS_COMPILED
    return module


PLAIN = plain_module()
KEEP, LET_LEAVE = PLAIN._keep, PLAIN._let_leave


@settings(max_examples=100, deadline=None)
@given(plan=plans())
def test_without_numba_it_is_the_same_again(plan: Plan) -> None:
    assert is_same(PLAIN.simulate(plan), simpy_engine.simulate(plan))


def _is_before_reversed(due_ns: int, packet: int, other_due_ns: int, other_packet: int) -> bool:
    return due_ns < other_due_ns or (due_ns == other_due_ns and packet > other_packet)


def _keep_always_renewed(entries: Any, leaving: Any, tables: Any, entry: int, leaves_ns: int) -> None:
    """Forget that a time that is set anew may be an earlier one."""
    KEEP(entries, leaving, tables, entry, max(leaves_ns, int(entries[entry, 1])))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("_is_before", _is_before_reversed),
        ("_is_first", lambda events, due_ns, _packet: events[0, 0] == 0 or due_ns <= events[1, 0]),
        ("_has_room", lambda stations, station: stations[station, 0] > 0 or stations[station, 6] <= stations[station, 7]),
        ("_keep", _keep_always_renewed),
        ("_let_leave", lambda entries, leaving, tables, now: LET_LEAVE(entries, leaving, tables, now - 1)),
    ],
)  # fmt: skip
def test_a_rule_that_is_broken_is_noticed(name: str, wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PLAIN, name, wrong)
    quick = settings(max_examples=3000, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
    try:
        find(plans(), lambda plan: not is_same(PLAIN.simulate(plan), simpy_engine.simulate(plan)), settings=quick)
    except NoSuchExample:
        pytest.fail(f"no plan shows that {name} is wrong")


def one_packet(release_ns: int, service_ns: int, **more: Any) -> Plan:
    """A packet that is served once."""
    return Plan([release_ns], [[0]], [[service_ns]], [1], [UNLIMITED], **more)


LARGE = 1 << 62


def table(**times: int) -> Tables:
    """A table for one packet."""
    lasts = {"keep_ns": 5, "refused_ns": 5, **times}
    return Tables([1], [0], [0], [[[0]]], [[lasts["keep_ns"]]], [[[lasts["refused_ns"]]]])


@pytest.mark.parametrize(
    "plan",
    [
        one_packet(LARGE, 1),
        one_packet(1, LARGE),
        one_packet(1, 1, wake_ns=[LARGE]),
        one_packet(1, 1, think_ns=[LARGE]),
        one_packet(1, 1, timeout_ns=[LARGE]),
        one_packet(1, 1, tables=table(keep_ns=LARGE)),
        one_packet(1, 1, tables=table(refused_ns=LARGE)),
    ],
)
def test_times_that_might_overflow_are_refused_and_simpy_steps_in(plan: Plan) -> None:
    with pytest.raises(PlanError, match=r"plan: times may come to 4\.6e\+18 ns; the compiled engine counts to"):
        ENGINES["compiled"](plan)
    trace, notice = play(AUTO, plan)
    assert is_same(trace, simpy_engine.simulate(plan))
    assert notice is not None
    assert notice.startswith("engine: times may come to 4.6e+18 ns")
    assert notice.endswith("SimPy plays")


def test_times_that_are_not_read_are_not_too_large() -> None:
    plan = Plan([0, 0], [[0, -1], [-1, -1]], [[5, LARGE], [LARGE, LARGE]], [1], [UNLIMITED])
    assert ENGINES["compiled"](plan).depart_ns.tolist() == [[5, -1], [-1, -1]]


@given(plan=plans())
@settings(max_examples=200, deadline=None)
def test_no_time_is_later_than_a_plan_says(plan: Plan) -> None:
    assert simpy_engine.simulate(plan).depart_ns.max(initial=-1) <= plan.latest_ns()


@pytest.mark.parametrize("engine", ["simpy", AUTO])
def test_simpy_says_when_a_time_does_not_fit(engine: str) -> None:
    with pytest.raises(PlanError, match="plan: its times come to more nanoseconds than fit into 64 bits"):
        play(engine, one_packet(LARGE, LARGE, wake_ns=[LARGE]))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the engines that play, as they do; all plays are SimPy's."""
    names: list[str] = []

    def noting(name: str) -> Callable[[Plan], Trace]:
        def simulate(plan: Plan) -> Trace:
            names.append(name)
            return simpy_engine.simulate(plan)

        return simulate

    for name in ("compiled", "simpy"):
        monkeypatch.setitem(choice.ENGINES, name, noting(name))
    return names


def test_the_engine_that_is_asked_for_plays(played: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plan = one_packet(0, 1)
    monkeypatch.setattr(compiled_engine, "IS_COMPILED", True)
    play("simpy", plan)
    play("compiled", plan)
    play(AUTO, plan)
    monkeypatch.setattr(compiled_engine, "IS_COMPILED", False)
    play(AUTO, plan)
    assert played == ["simpy", "compiled", "compiled", "simpy"]


def test_numba_is_imported_when_there_is_enough_to_play(played: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_WORTH_AN_IMPORT_VISITS", 25)
    monkeypatch.setattr(choice._WithoutNumba, "visits", 0)
    monkeypatch.setattr(compiled_engine, "IS_COMPILED", True)
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    for _ in range(4):
        play(AUTO, tandem_plan(2))
    assert played == ["simpy", "simpy", "compiled", "compiled"]


def test_where_nothing_can_be_kept_it_is_compiled_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr("numba.core.caching.CompileResultCacheImpl._locator_classes", [])
    assert load_engine().IS_COMPILED


def test_who_does_not_play_does_not_import_numba() -> None:
    code = "import sys, kubesim.cli.commands, kubesim.engine; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
