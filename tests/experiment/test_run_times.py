"""How long runs take, judging by a few."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.experiment.run_times import estimated_seconds, worth_trying
from kubesim.figure import Level

SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


def grid(sizes: list[int]) -> list[dict[str, Level]]:
    """All combinations of factors that have so many levels."""
    names = [f"factor-{number}" for number in range(len(sizes))]
    return [dict(zip(names, one, strict=True)) for one in itertools.product(*map(range, sizes))]


@given(SIZES)
def test_all_levels_and_pairs_are_seen_soon(sizes: list[int]) -> None:
    levels = grid(sizes)
    order = list(worth_trying(levels))
    assert sorted(order) == list(range(len(levels))), "each once"
    first = order[: 2 * max(sizes) ** 2]
    for one, other in itertools.combinations(levels[0], 2):
        pairs = {(levels[place][one], levels[place][other]) for place in first}
        assert pairs == {(combination[one], combination[other]) for combination in levels}


def test_many_combinations_are_looked_at_here_and_there() -> None:
    found = list(worth_trying([{"a": number} for number in range(100_000)]))
    assert len(found) <= 1000
    assert max(found) > 90_000


@given(SIZES, st.data())
def test_what_is_known_stays_and_the_rest_is_among_it(sizes: list[int], data: st.DataObject) -> None:
    levels = grid(sizes)
    places = data.draw(st.sets(st.sampled_from(range(len(levels))), min_size=1))
    known = {place: data.draw(st.floats(0.01, 100)) for place in sorted(places)}
    found = estimated_seconds(levels, known)
    assert [found[place] for place in known] == list(known.values())
    assert all(math.isfinite(one) and one > 0 for one in found)
    if len(set(known.values())) == 1:
        assert found == pytest.approx([next(iter(known.values()))] * len(levels))


def test_a_level_that_takes_most_of_the_time_is_counted() -> None:
    levels = grid([3, 4, 5])
    true = [0.1 * (20 if one["factor-2"] == 4 else 1) * (3 if one["factor-1"] == 1 else 1) for one in levels]
    tried = list(worth_trying(levels))[:20]
    assert sum(estimated_seconds(levels, {place: true[place] for place in tried})) == pytest.approx(sum(true), rel=0.2)
