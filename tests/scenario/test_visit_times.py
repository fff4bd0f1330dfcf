"""Times of visits: the same from a table as from the formula."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kubesim.scenario.service_times import INTERVALS, LANES, Lanes, lognormal
from kubesim.scenario.visit_times import _ROLES, _Draws, _Purpose
from kubesim.scenario.visits import Role
from kubesim.streams import numbered


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
