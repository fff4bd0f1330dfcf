"""Offered load, and which runs have no steady state."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.engine import ENGINES, UNLIMITED, Plan, Trace
from kubesim.stats.measures import Window
from kubesim.stats.offered_load import LoadTally, OfferedLoad, chains
from kubesim.stats.visit_totals import Visits, VisitTotals
from tests.engine.plans import plans
from tests.stats.queues import many_queues, mm1

ALL = Window(0, 1 << 62)


def offered_load(plan: Plan, trace: Trace, window: Window) -> OfferedLoad:
    """What a whole plan and its trace add up to."""
    arrivals, arrival = chains(plan)
    packet, visit = np.nonzero(trace.arrive_ns >= 0)
    station, arrive, start, depart, service = (
        one[packet, visit] for one in (plan.station, trace.arrive_ns, trace.start_ns, trace.depart_ns, plan.service_ns)
    )
    work = np.where(start >= 0, depart - start, service)
    totals = VisitTotals(plan.stations)
    totals.add(Visits(station, arrive, start, depart, work), window.begin_ns, window.end_ns)
    totals.finish(window)
    servers = np.minimum(plan.servers, max(1, plan.packets))
    tally = LoadTally(servers, plan.capacity, len(arrivals.release_ns))
    tally.add(arrival[packet], station, work)
    return tally.result(arrivals, totals.joined_ns, window)


def loads(load: float, packets: int, runs: int, places: int = UNLIMITED) -> list[OfferedLoad]:
    """M/M/1 at a load, some times."""
    found = []
    for seed in range(runs):
        random = np.random.default_rng([seed, packets])
        arrivals = np.cumsum(random.exponential(1 / load, (1, packets)), axis=1)
        found.append(offered_load(*many_queues(arrivals, random.exponential(1.0, (1, packets)), places), ALL))
    return found


@pytest.mark.parametrize(
    ("load", "packets", "least", "most"),
    [
        (0.9, 200, 0.0, 0.03), (0.9, 5000, 0.0, 0.0), (1.0, 1000, 0.0, 0.05),
        (1.05, 20_000, 0.85, 1.0), (1.3, 500, 0.75, 1.0), (1.3, 2000, 1.0, 1.0),
    ],
)  # fmt: skip
def test_mm1_is_called_unstable_where_it_is(load: float, packets: int, least: float, most: float) -> None:
    found = loads(load, packets, runs=40)
    share = np.mean([one.unstable == (0,) for one in found])
    assert least <= share <= most
    assert np.mean([one.highest for one in found]) == pytest.approx(load, rel=0.05)
    assert all(one.is_open for one in found)
    assert all((one.highest > 1) == bool(one.unstable + one.suspected) for one in found)


@pytest.mark.slow
def test_false_alarms_are_as_rare_as_promised() -> None:
    """At a load of exactly 1, one run in 100 at most: more than 22 of 1000 would come once in 3000 times."""
    assert sum(bool(one.unstable) for one in loads(1.0, 1000, runs=1000)) <= 22


def test_many_stations_share_the_false_alarms() -> None:
    plan, trace = mm1(load=1.0, stations=400, packets=300, seed=1)
    assert len(offered_load(plan, trace, ALL).unstable) <= 2


def test_a_finite_queue_is_overloaded_and_steady() -> None:
    for found in loads(1.5, 2000, runs=5, places=10):
        assert found.overloaded == (0,)
        assert found.unstable == found.suspected == ()
        assert found.highest == pytest.approx(1.5, rel=0.2), "those that were turned away count"


def closed_loop(clients: int, rounds: int, think: int) -> Plan:
    """Clients that each wait for their answer, at one server that takes 10."""
    packets = clients * rounds
    after = np.arange(packets) - clients
    return Plan(
        release_ns=np.minimum(np.arange(packets), clients),
        station=np.zeros((packets, 1), int),
        service_ns=np.full((packets, 1), 10),
        servers=[1],
        capacity=[UNLIMITED],
        after=np.maximum(after, -1),
        think_ns=np.full(packets, think),
    )


@given(clients=st.integers(1, 20), rounds=st.integers(2, 30), think=st.integers(0, 50))
def test_a_closed_loop_is_never_unstable(clients: int, rounds: int, think: int) -> None:
    plan = closed_loop(clients, rounds, think)
    trace = ENGINES["simpy"](plan)
    begin, end = int(trace.arrive_ns.min()), int(trace.depart_ns.max())
    found = offered_load(plan, trace, Window(begin, end))
    assert not found.is_open
    assert found.unstable == found.overloaded == found.suspected == ()
    assert found.highest == pytest.approx(10 * clients * rounds / (end - begin)), "all work, over all the time"


def test_who_is_paced_but_waits_too_is_in_a_closed_loop() -> None:
    """A window of datagrams: those behind it wait for room and for their time, whichever is later."""
    plan = closed_loop(clients=5, rounds=200, think=0)
    paced = Plan(
        np.arange(plan.packets) * 9, plan.station, plan.service_ns, plan.servers, plan.capacity, after=plan.after
    )
    found = offered_load(paced, ENGINES["simpy"](paced), Window(1000, 5000))
    assert not found.is_open
    assert found.unstable == ()


def test_work_counts_for_the_arrival_that_brings_it() -> None:
    """Ten visits of each arrival, one released by the other: far more than a server can do, and it is said how much."""
    arrivals, steps = 500, 10
    packets = arrivals * steps
    number = np.arange(packets)
    plan = Plan(
        release_ns=np.where(number % steps == 0, number // steps * 100, 0),
        station=np.zeros((packets, 1), int),
        service_ns=np.full((packets, 1), 13),
        servers=[1],
        capacity=[UNLIMITED],
        after=np.where(number % steps == 0, -1, number - 1),
    )
    found = offered_load(plan, ENGINES["simpy"](plan), ALL)
    assert found.unstable == (0,)
    assert found.highest == pytest.approx(1.3)


@given(plans())
def test_any_plan_has_loads(plan: Plan) -> None:
    found = offered_load(plan, ENGINES["simpy"](plan), Window(0, 20))
    assert found.ratio.shape == (plan.stations,)
    assert (found.ratio >= 0).all()
    assert set(found.unstable) <= set(found.overloaded) <= set(np.flatnonzero(found.ratio > 1).tolist())
    assert all(plan.capacity[one] == UNLIMITED for one in found.unstable + found.suspected)
