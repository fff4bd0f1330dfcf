"""Distinct numbers, by room for all or by sorting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.scenario.distinct import distinct


@pytest.mark.parametrize("highest", [9, 1_000_000])
@given(data=st.data())
def test_each_number_is_found_again(highest: int, data: st.DataObject) -> None:
    keys = np.array(data.draw(st.lists(st.integers(0, highest), max_size=30)), np.int64)
    numbers, row = distinct(keys)
    assert numbers.tolist() == sorted(set(keys.tolist()))
    assert numbers[row].tolist() == keys.tolist()
