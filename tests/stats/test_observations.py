"""Observations by value."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kubesim.stats.observations import Observations

NUMBERS = st.lists(st.integers(0, 40) | st.integers(0, 1 << 40), max_size=60)


@given(parts=st.lists(NUMBERS, max_size=6))
def test_parts_are_as_good_as_the_whole(parts: list[list[int]]) -> None:
    seen = Observations()
    for part in parts:
        seen.add(np.array(part, np.int64))
    every = sorted(value for part in parts for value in part)
    assert len(seen) == len(every)
    assert seen.at_ranks(np.arange(1, len(every) + 1)).tolist() == every
    assert seen.values.tolist() == sorted(set(every))
    if every:
        assert seen.mean() == sum(every) / len(every)
    else:
        assert np.isnan(seen.mean())
