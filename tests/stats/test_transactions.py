"""Transactions that are counted block by block, as they end."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kubesim.stats.measures import measurement_window
from kubesim.stats.transactions import TransactionTally


@given(data=st.data(), warmup=st.floats(0, 0.9), count=st.integers(0, 40))
def test_blocks_say_what_all_together_say(data: st.DataObject, warmup: float, count: int) -> None:
    start = np.sort(np.array(data.draw(st.lists(st.integers(0, 50), min_size=count, max_size=count)), np.int64))
    takes = np.array(data.draw(st.lists(st.integers(1, 30), min_size=count, max_size=count)), np.int64)
    is_lost = np.array(data.draw(st.lists(st.booleans(), min_size=count, max_size=count)), bool)
    over, end = start + takes, np.where(is_lost, -1, start + takes)
    window = measurement_window(start, end, warmup)
    tally = TransactionTally(count, warmup)
    stops = sorted(data.draw(st.lists(st.integers(0, 90), max_size=4)))
    restarts = []
    for since, until in zip([-1, *stops], [*stops, 99], strict=True):
        begun = np.flatnonzero((start > since) & (start <= until))
        ended = np.flatnonzero((over > since) & (over <= until))
        restarts.append(tally.add(begun, start[begun], ended, end[ended]))
    assert tally.window == window
    assert sum(restarts) == (window.skipped > 0)
    assert tally.started == count
    measured = (end >= 0) & (end > window.begin_ns)
    assert tally.latency_ns.at_ranks(np.arange(1, measured.sum() + 1)).tolist() == sorted((end - start)[measured])
    assert tally.lost == np.count_nonzero(is_lost & (start > window.begin_ns))
