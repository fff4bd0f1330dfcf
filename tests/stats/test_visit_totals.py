"""Sums over visits, of which the end of the measured time is not known at first."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kubesim.stats.measures import Window
from kubesim.stats.visit_totals import Visits, VisitTotals, sums

STATIONS = 3


def test_busy_time_is_cut_at_the_window() -> None:
    totals = VisitTotals(STATIONS)
    visits = Visits(*np.array([[0, 0, 0, 10, 10], [1, 10, 10, 30, 20], [0, 10, 10, 25, 15], [1, 10, -1, -1, 7]]).T)
    totals.add(visits, begin_ns=5, known_ns=0)
    totals.finish(Window(5, 20))
    assert totals.busy_ns.tolist() == [15, 10, 0]
    assert totals.joined_ns.tolist() == [15, 27, 0], "that which found no place has come, too"


@st.composite
def visits(draw: st.DrawFn) -> Visits:
    rows = []
    for _ in range(draw(st.integers(0, 30))):
        arrive, waits, takes = draw(st.integers(0, 50)), draw(st.integers(0, 9)), draw(st.integers(1, 20))
        times = (arrive + waits, arrive + waits + takes) if draw(st.booleans()) else (-1, -1)
        is_made = draw(st.booleans())
        rows.append((draw(st.integers(0, STATIONS - 1)), arrive, *times, takes) if is_made else (-1, -1, -1, -1, 0))
    return Visits(*np.array(rows, np.int64).reshape(-1, 5).T)


@given(visits=visits(), begin_ns=st.integers(0, 40), lasts_ns=st.integers(1, 40), at_once=st.integers(1, 9))
def test_parts_add_up_to_the_whole(visits: Visits, begin_ns: int, lasts_ns: int, at_once: int) -> None:
    """In whatever order they come, and however little is known of the end."""
    window = Window(begin_ns, begin_ns + lasts_ns)
    whole, parts = VisitTotals(STATIONS), VisitTotals(STATIONS)
    whole.add(visits, window.begin_ns, window.end_ns)
    whole.finish(window)
    place = np.arange(len(visits.station))
    for begin in range(0, len(place), at_once):
        some = visits.take(place[begin : begin + at_once])
        parts.add(some, window.begin_ns, min(window.end_ns, begin * 3))
    parts.finish(window)
    inside = np.arange(window.begin_ns, window.end_ns)
    for station in range(STATIONS):
        here = visits.take(np.flatnonzero((visits.station == station) & (visits.start_ns >= 0)))
        busy = sum(
            int(((inside >= one) & (inside < other)).sum())
            for one, other in zip(here.start_ns, here.depart_ns, strict=True)
        )
        assert whole.busy_ns[station] == parts.busy_ns[station] == busy
    np.testing.assert_array_equal(whole.joined_ns, parts.joined_ns)


def test_sums_are_exact_beyond_what_floating_numbers_hold() -> None:
    amount = np.full(3, (1 << 61) + 1)
    assert sums(np.array([0, 1, 1]), amount, 3).tolist() == [(1 << 61) + 1, (1 << 62) + 2, 0]
