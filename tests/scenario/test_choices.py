"""Intervals of luck that are known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kubesim.scenario.choices import Choices


@given(data=st.data(), servers=st.integers(1, 12))
def test_what_was_learnt_is_found_and_nothing_else(data: st.DataObject, servers: int) -> None:
    known = data.draw(st.permutations(range(servers)).map(lambda order: order[: servers // 2]))
    choices = Choices[int]()
    for server in known:
        choices.learn((server / servers, (server + 1) / servers), server)
    number = data.draw(st.floats(0, 1, exclude_max=True))
    place = choices.find(number)
    inside = [server for server in known if server / servers <= number < (server + 1) / servers]
    assert ([] if place is None else [choices.ways[place]]) == inside
