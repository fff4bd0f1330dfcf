"""Messages that have the same stations and times are looked at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kubesim.scenario.rows import Rows
from kubesim.scenario.visit_planning import _representatives

KINDS = 3
MESSAGES = st.lists(
    st.tuples(st.integers(5, 9), st.integers(0, KINDS - 1), st.integers(0, 1), st.integers(0, 1)), max_size=40
)


@given(messages=MESSAGES, has_own_threads=st.booleans())
def test_each_message_is_stood_for_by_one_of_its_connection_kind_and_threads(
    messages: list[tuple[int, int, int, int]], has_own_threads: bool
) -> None:
    """A connection may carry what several threads send, in a call graph: then each stands for itself."""
    flow, kind, thread, server_thread = np.array(messages, np.int64).reshape(-1, 4).T
    if has_own_threads:
        thread = server_thread = flow
    rows = Rows(np.arange(len(flow)), flow, kind, thread, server_thread)
    some, row = _representatives(rows, KINDS)
    for column in rows[1:]:
        np.testing.assert_array_equal(column[some][row], column)
    if has_own_threads and len(flow) >= 5 * KINDS:
        assert len(some) == len(set(zip(flow.tolist(), kind.tolist(), strict=True)))
