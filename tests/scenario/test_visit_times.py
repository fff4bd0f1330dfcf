"""Times of visits: the same from a table as from the formula."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kubesim.scenario import Result
from kubesim.scenario.rows import Rows
from kubesim.scenario.service_times import INTERVALS, LANES, Lanes, lognormal
from kubesim.scenario.visit_planning import VisitPlanner
from kubesim.scenario.visit_times import _ROLES, Times, VisitTimes, _Draws, _Purpose
from kubesim.scenario.visits import Role
from kubesim.streams import Streams, numbered
from tests.scenarios import simulate


def test_each_role_has_numbers_of_its_own() -> None:
    assert sorted(_ROLES) == sorted(Role)
    purposes = [_Purpose.of(role, occurrence) for role in Role for occurrence in (1, 2)]
    assert len(set(purposes)) == len(purposes)
    assert all(0 <= one.lane < LANES for one in purposes)


@given(
    mean_ns=hnp.arrays(np.float64, 3, elements=st.floats(1, 1e10)),
    relative=hnp.arrays(np.float64, 3, elements=st.sampled_from([0.0, 0.1, 0.3, 2.0])),
    key=st.integers(0, 2**64 - 1),
    lane=st.integers(0, LANES - 1),
    count=st.integers(0, 300),
)
def test_tables_hold_what_the_formula_gives(
    mean_ns: np.ndarray, relative: np.ndarray, key: int, lane: int, count: int
) -> None:
    """Some 1 in 500 numbers are in no table; rows that are not drawn keep what they have."""
    log_mean, log_deviation = lognormal(mean_ns, relative * mean_ns)
    draws = _Draws(_Purpose("any", lane), 0, relative > 0, log_mean, log_deviation)
    steady_ns = np.rint(mean_ns).astype(np.int64)
    row = np.arange(count) % 3
    normals = Lanes(numbered(np.uint64(key), np.arange(count))).numbers(lane)
    by_formula, by_table = steady_ns[row], steady_ns[row]
    draws.draw(by_formula, row, row * INTERVALS, normals)
    draws.tabled(steady_ns).draw(by_table, row, row * INTERVALS, normals)
    np.testing.assert_array_equal(by_table, by_formula)
    still = ~draws.is_drawn[row]
    np.testing.assert_array_equal(by_table[still], steady_ns[row][still])


@given(key=st.integers(0, 2**64 - 1), count=st.integers(1, 300))
def test_rows_of_two_roles_share_a_column(key: int, count: int) -> None:
    """A table fills its column: where two are drawn for, neither has one."""
    log_mean, log_deviation = lognormal(np.array([1000.0, 500.0]), np.array([300.0, 200.0]))
    draws = [
        _Draws(_Purpose.of(role, 1), 0, np.arange(2) == row, log_mean, log_deviation)
        for row, role in enumerate((Role.SEND, Role.RECEIVE))
    ]
    times = Times(np.array([[1000.0], [500.0]]), np.array([[1000], [500]]), draws)
    planner = VisitTimes.__new__(VisitTimes)
    planner._streams, planner._keys = Streams(key), {}
    row, number = np.arange(count) % 2, np.arange(count)
    found = planner.drawn_ns(times.tabled(), row, number)
    np.testing.assert_array_equal(found, planner.drawn_ns(times, row, number))
    assert len(np.unique(found)) > count // 4


def _used(result: Result) -> list[tuple[int, int]]:
    """Routes and kinds of a run."""
    return sorted({(route, kind) for route, ways in enumerate(result.classes.routes) for kind in ways})


def test_first_packets_pay_for_the_opening_of_their_connection_and_for_what_is_computed() -> None:
    result = simulate(proxy="iptables", traffic={"workload": "tcp_crr", "server_us": 3}, cluster={"services": 100})
    classes, messages, planned = result.classes, result.messages, result.planned
    streams = Streams(1)
    kinds = np.array([kind.name for kind in messages.kinds])
    planner = VisitPlanner(messages, classes, planned.stations, streams, _used(result))
    rows = Rows.of_messages(messages)
    mean_ns = planner.mean_ns(rows)[:, 0]
    for kind, name in enumerate(kinds.tolist()):
        here = np.flatnonzero(messages.script.kind == kind)
        route, opening = classes.route[messages.flow[here]], classes.opening[messages.flow[here]]
        own_ns = np.array([planner.ways[int(one), kind][0].mean_ns for one in route])
        opening_ns = np.array([classes.openings[one].mean_ns for one in opening])
        more_ns = opening_ns if name == "syn" else 3000 if name == "reply" else 0
        np.testing.assert_allclose(mean_ns[here], own_ns + more_ns)
        assert name != "syn" or (opening_ns > 0).all()
