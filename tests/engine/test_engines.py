"""Every engine keeps the contract; the tests run once per engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from kubesim.engine import ENGINES, UNLIMITED, Plan, Tables, Trace
from tests.engine.plans import ReferenceEngine, plans

Engine = Callable[[Plan], Trace]


@pytest.fixture(params=sorted(ENGINES), scope="session")
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine in turn."""
    return ENGINES[request.param]


def one_station(release_ns: list[int], service_ns: list[int], **kind: Any) -> Plan:
    """A plan with a single station."""
    return Plan(
        release_ns=release_ns,
        station=np.zeros((len(release_ns), 1), np.int64),
        service_ns=np.array(service_ns)[:, None],
        **{"servers": [1], "capacity": [UNLIMITED], **kind},
    )


@settings(max_examples=1500, deadline=None)
@given(plan=plans())
def test_a_trace_is_what_the_contract_says(engine: Engine, plan: Plan) -> None:
    trace, expected = engine(plan), ReferenceEngine(plan)
    assert trace.arrive_ns.tolist() == expected.times("arrive")
    assert trace.start_ns.tolist() == expected.times("start")
    assert trace.depart_ns.tolist() == expected.times("depart")
    assert (trace.refused_visit.tolist(), trace.refused_entry.tolist()) == expected.refusals()
    assert trace.highest_occupancy.tolist() == expected.highest


@settings(max_examples=300, deadline=None)
@given(plan=plans(loops=False))
def test_packets_are_conserved_and_none_is_left_behind(engine: Engine, plan: Plan) -> None:
    trace = engine(plan)
    has_visits = plan.visit_counts() > 0
    ends = [trace.is_delivered(plan), trace.is_dropped(), trace.is_refused()]
    assert (np.sum(ends, axis=0) == has_visits).all()


@settings(max_examples=300, deadline=None)
@given(plan=plans())
def test_first_in_first_out(engine: Engine, plan: Plan) -> None:
    trace = engine(plan)
    for station in range(plan.stations):
        here = (plan.station == station) & (trace.start_ns >= 0)
        order = np.lexsort((trace.start_ns[here], trace.arrive_ns[here]))
        if not plan.wake_ns[station]:
            assert (np.diff(trace.start_ns[here][order]) >= 0).all()


def test_ties_go_to_the_lower_packet_number(engine: Engine) -> None:
    trace = engine(one_station([5, 5, 5], [3, 3, 3]))
    assert trace.start_ns[:, 0].tolist() == [5, 8, 11]


def test_a_full_station_drops(engine: Engine) -> None:
    plan = one_station([0, 0, 0, 10], [10, 10, 10, 10], capacity=[2])
    trace = engine(plan)
    assert trace.is_dropped().tolist() == [False, False, True, False]
    assert trace.arrive_ns[2, 0] == 0
    assert trace.start_ns[:, 0].tolist() == [0, 10, -1, 20], "the place is free again at 10, before packet 3 joins"


def test_an_idle_core_wakes_up_first_and_a_busy_one_does_not(engine: Engine) -> None:
    trace = engine(one_station([0, 1, 100], [10, 10, 10], wake_ns=[7]))
    assert trace.start_ns[:, 0].tolist() == [7, 17, 107]
    assert trace.waiting_ns()[:, 0].tolist() == [7, 16, 7]


def test_a_core_that_became_idle_this_instant_is_still_awake(engine: Engine) -> None:
    plan = one_station([0, 0], [10, 10], wake_ns=[7], after=[-1, 0])
    assert engine(plan).start_ns[:, 0].tolist() == [7, 17]


def test_a_closed_loop_thinks_and_a_lost_packet_is_timed_out(engine: Engine) -> None:
    plan = Plan(
        release_ns=[0, 0, 0, 0, 0],
        station=[[0], [0], [0], [0], [0]],
        service_ns=[[10], [10], [10], [10], [10]],
        servers=[1],
        capacity=[1],
        after=[-1, 0, -1, 2, 3],
        think_ns=[0, 4, 0, 0, 0],
        timeout_ns=[-1, -1, -1, -1, 50],
    )
    trace = engine(plan)
    assert trace.arrive_ns[:, 0].tolist() == [0, 14, 0, -1, 50], "2 is dropped, so 3 is never sent; 4 has a time-out"
    assert trace.end_ns().tolist() == [10, 24, 0, -1, 60]


def connections(opened_ns: list[int], closed_ns: list[int], places: int, **kind: Any) -> Plan:
    """Each connection is opened by one packet and closed by another, 10 ns after which its entry is gone."""
    count = len(opened_ns)
    return Plan(
        release_ns=[*opened_ns, *closed_ns],
        station=np.zeros((2 * count, 1), np.int64),
        service_ns=np.ones((2 * count, 1), np.int64),
        servers=[1000],
        capacity=[UNLIMITED],
        tables=Tables(
            capacity=[places],
            table=np.zeros(count, np.int64),
            entry=np.tile(np.arange(count), 2)[:, None, None],
            keep_ns=np.repeat([1000, 10], count)[:, None],
            refused_ns=np.full((2 * count, 1, 1), 3),
            **{"held": [0], **kind},
        ),
    )


def test_a_full_table_refuses_until_an_entry_has_left(engine: Engine) -> None:
    trace = engine(connections([0, 5, 29, 30], [20, 90, 90, 95], places=1))
    assert trace.is_refused()[:4].tolist() == [False, True, True, False]
    assert trace.highest_occupancy.tolist() == [1]
    assert (trace.depart_ns - trace.start_ns)[:4, 0].tolist() == [1, 3, 3, 1]


def test_places_that_are_held_are_never_free(engine: Engine) -> None:
    trace = engine(connections([0, 1], [2, 51], places=3, held=[2]))
    assert trace.is_refused().tolist() == [False, True, False, False], "at 51 the second is the first to need its entry"
    assert trace.highest_occupancy.tolist() == [3]


def test_an_entry_leaves_by_itself_where_nothing_closes_it(engine: Engine) -> None:
    trace = engine(connections([0, 999, 1000], [5000, 5000, 5000], places=1))
    assert trace.is_refused()[:3].tolist() == [False, True, False]


def test_a_table_that_never_fills_changes_nothing(engine: Engine) -> None:
    plan = connections(list(range(50)), list(range(100, 150)), places=50)
    bare = Plan(plan.release_ns, plan.station, plan.service_ns, plan.servers, plan.capacity)
    with_table, without = engine(plan), engine(bare)
    for name in ("arrive_ns", "start_ns", "depart_ns", "refused_visit", "refused_entry"):
        assert getattr(with_table, name).tolist() == getattr(without, name).tolist()
    assert without.highest_occupancy.tolist() == []


def pairs(released_ns: list[int], places: tuple[int, int], **kind: Any) -> Plan:
    """Each packet has an entry for itself in one table for 10 ns, and one in another for 30."""
    count = len(released_ns)
    return Plan(
        release_ns=released_ns,
        station=np.zeros((count, 1), np.int64),
        service_ns=np.ones((count, 1), np.int64),
        servers=[1000],
        capacity=[UNLIMITED],
        tables=Tables(
            capacity=places,
            held=[0, 0],
            table=np.repeat([0, 1], count),
            entry=np.arange(2 * count).reshape(2, count).T[:, None],
            keep_ns=np.tile([10, 30], (count, 1)),
            refused_ns=np.tile([3, 5], (count, 1))[:, None],
            **kind,
        ),
    )


def test_who_does_not_get_all_entries_gets_none(engine: Engine) -> None:
    trace = engine(pairs([0, 10, 11, 31], places=(1, 1)))
    assert trace.is_refused().tolist() == [False, True, True, False]
    assert trace.highest_occupancy.tolist() == [1, 1], "the second left the first table's place to others"
    assert trace.refused_entry.tolist() == [-1, 5, 6, -1], "it lacks the second kind"
    assert (trace.depart_ns - trace.start_ns)[:, 0].tolist() == [1, 5, 5, 1]


def test_the_first_entry_without_a_place_refuses(engine: Engine) -> None:
    trace = engine(pairs([0, 5], places=(1, 1)))
    assert trace.refused_entry.tolist() == [-1, 1]
    assert (trace.depart_ns - trace.start_ns)[:, 0].tolist() == [1, 3]


def test_a_refused_packet_renews_nothing(engine: Engine) -> None:
    """Packet 1 needs the first's entry again, for long, and one for which there is no place."""
    table = Tables([1, 0], [0, 0], [0, 0, 1], [[[0, -1]], [[0, 2]], [[1, -1]]], [[10, 1], [99, 1], [10, 1]],
                   np.ones((3, 1, 2), np.int64))  # fmt: skip
    plan = Plan([0, 5, 10], np.zeros((3, 1), np.int64), np.ones((3, 1), np.int64), [9], [UNLIMITED], tables=table)
    assert engine(plan).refused_entry.tolist() == [-1, 2, -1], "packet 0's entry has left at 10 all the same"


def test_a_packet_may_find_less_room_than_there_is(engine: Engine) -> None:
    limit = [[9, 9], [9, 1], [9, 2], [9, 2]]
    trace = engine(pairs([0, 1, 2, 3], places=(5, 5), limit=limit))
    assert trace.refused_entry.tolist() == [-1, 5, -1, 7]
    assert trace.highest_occupancy.tolist() == [2, 2]


@pytest.mark.parametrize(("rate", "stay", "places"), [(3.0, 1.0, 4), (20.0, 1.0, 12)])
def test_refusals_are_as_erlang_says(engine: Engine, rate: float, stay: float, places: int) -> None:
    """Poisson arrivals that stay for a fixed time and are refused where all places are taken: Erlang's loss formula.

    Keeping an entry is a service without a queue; the formula holds for any distribution of that time.
    """
    count, second = 40_000, 10**9
    gaps = np.random.default_rng(1).exponential(second / rate, count)
    table = Tables([places], [0], np.zeros(count, np.int64), np.arange(count)[:, None, None],
                   np.full((count, 1), int(stay * second)), np.ones((count, 1, 1), np.int64))  # fmt: skip
    station = np.zeros((count, 1), np.int64)
    trace = engine(Plan(np.cumsum(gaps).astype(np.int64), station, station + 1, [10**6], [UNLIMITED], tables=table))
    load, blocked = rate * stay, 1.0
    for number in range(1, places + 1):
        blocked = load * blocked / (number + load * blocked)
    assert trace.is_refused().mean() == pytest.approx(blocked, abs=0.012)


def test_service_time_is_depart_minus_start(engine: Engine) -> None:
    trace = engine(one_station([0, 2], [5, 6]))
    assert trace.sojourn_ns()[:, 0].tolist() == [5, 9]
    assert (trace.depart_ns - trace.start_ns)[:, 0].tolist() == [5, 6]


def test_no_packets_at_all(engine: Engine) -> None:
    nothing = np.empty((0, 3))
    trace = engine(Plan(release_ns=[], station=nothing, service_ns=nothing, servers=[1], capacity=[1]))
    assert trace.depart_ns.shape == (0, 3)
    assert trace.end_ns().shape == (0,)
