"""The search for a border, on verdict functions whose border is known."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from kubesim.errors import InputError
from kubesim.experiment.bisection import Border, Span
from kubesim.experiment.verdicts import Verdict

_DOUBLINGS = 10


@dataclass
class Asked:
    """Holds below a stretch in which nobody can tell, and fails above it; or the other way round."""

    last: float
    first: float
    is_downwards: bool = False
    least: float = -math.inf
    most: float = math.inf
    questions: Counter[float] = field(default_factory=Counter)

    def __call__(self, level: float) -> Verdict:
        self.questions[level] += 1
        if not self.least <= level <= self.most:
            raise InputError(f"{level} makes no sense")
        return self.truth(level)

    def truth(self, level: float) -> Verdict:
        if self.last < level < self.first:
            return Verdict.CANNOT_TELL
        return Verdict.HOLDS if (level <= self.last) != self.is_downwards else Verdict.FAILS


def sides(border: Border) -> tuple[float, float]:
    """What was found, the lower one first."""
    holds_at, fails_at = border.find()
    assert holds_at is not None
    assert fails_at is not None
    return min(holds_at, fails_at), max(holds_at, fails_at)


def is_close(low: float, high: float, where: Span) -> bool:
    """Whether two levels are as near to each other as wanted, or nothing is between them."""
    rounding = 2e-6 * abs(high)
    return high - low <= max(where.within * high, 1 if where.is_whole else 0) + rounding


wholes = st.integers(1, 1_000_000)
fractions = st.floats(0.001, 1e6)
shares = st.sampled_from([0.001, 0.01, 0.1, 0.5])


@given(st.data(), st.booleans(), st.booleans(), shares)
def test_a_sharp_border_between_given_ends_is_bracketed(
    data: st.DataObject, is_whole: bool, is_downwards: bool, within: float
) -> None:
    levels = wholes if is_whole else fractions
    low, high = sorted([data.draw(levels), data.draw(levels)])
    assume(low < high)
    last = data.draw(st.integers(int(low), int(high) - 1) if is_whole else st.floats(low, high, exclude_max=True))
    asked = Asked(last, math.nextafter(last, math.inf), is_downwards)
    where = Span(low, low, high, is_whole=is_whole, within=within)
    border = Border(asked, where)
    below, above = sides(border)
    assert low <= below <= last < above <= high
    assert is_close(below, above, where)
    assert set(asked.questions.values()) == {1}
    assert all(low <= level <= high for level in asked.questions)
    # On a logarithmic scale as long as the sides are far apart, then on a linear one from a factor of 4 down.
    halvings = math.log2(max(2, math.log2(high / low))) + math.log2(4 / within) + 2
    assert len(asked.questions) <= 2 + halvings
    if is_whole:
        assert all(isinstance(level, int) for level in asked.questions)


@given(
    st.integers(10, 100_000), st.floats(-9.9, 9.9), st.booleans(), st.booleans(), st.sampled_from(["low", "high", None])
)
def test_a_border_is_found_where_ends_are_missing(
    begin: int, octaves: float, is_whole: bool, is_downwards: bool, given_end: str | None
) -> None:
    last = begin * 2**octaves
    is_there = given_end is None or (last >= begin) == (given_end == "low")
    assume(is_there and (last > 2 or not is_whole))
    asked = Asked(last, math.nextafter(last, math.inf), is_downwards)
    ends = {given_end: begin} if given_end else {}
    where = Span(begin, **ends, is_whole=is_whole)
    below, above = sides(Border(asked, where))
    assert below <= last < above
    assert is_close(below, above, where)
    assert set(asked.questions.values()) == {1}
    steps = math.ceil(abs(octaves)) + 1
    assert len(asked.questions) <= 1 + 2 * steps + math.log2(1 / where.within) + 1
    assert max(asked.questions) <= max(begin * 2, 2 ** math.ceil(abs(octaves) + 1) * begin)


@given(st.floats(10, 900), st.floats(1.001, 3), st.booleans(), st.booleans(), st.booleans())
@example(100.0, 1.5, True, False, False)
def test_a_stretch_in_which_nobody_can_tell_is_bracketed(
    last: float, ratio: float, is_whole: bool, is_downwards: bool, has_ends: bool
) -> None:
    first = last * ratio
    asked = Asked(last, first, is_downwards)
    low, high = (1, 4096) if has_ends else (None, None)
    where = Span(100, low, high, is_whole=is_whole)
    below, above = sides(Border(asked, where))
    assert below <= last
    assert above >= first
    assert set(asked.questions.values()) == {1}
    unsure = [level for level in asked.questions if asked.truth(level) is Verdict.CANNOT_TELL]
    if not unsure:
        assert is_close(below, above, where)
        return
    # Its ends are as near as wanted, or as a quarter of it.
    allowed = max(unsure) - min(unsure)
    for sure, undecided in ((below, min(unsure)), (max(unsure), above)):
        assert is_close(sure, undecided, where) or undecided - sure <= allowed / 4
    assert len(asked.questions) <= 2 * _DOUBLINGS + 2 * math.log2(4 / where.within) + 4


@given(st.integers(1, 1000), st.integers(1, 1000), st.booleans())
def test_a_border_beyond_the_ends_is_not_there(low: int, width: int, is_downwards: bool) -> None:
    high = low + width
    for last in (low - 1, high):
        asked = Asked(last, last + 1, is_downwards)
        holds_at, fails_at = Border(asked, Span(low, low, high)).find()
        is_holding = (last == high) != is_downwards
        assert (holds_at is None, fails_at is None) == (not is_holding, is_holding)
        assert asked.questions == {low: 1, high: 1}


@given(st.integers(2, 1000), st.integers(1, 1000), st.booleans())
def test_a_border_next_to_an_end_is_found(low: int, width: int, is_downwards: bool) -> None:
    high = low + width
    for last in (low, high - 1):
        assert sides(Border(Asked(last, last + 1, is_downwards), Span(low, low, high, within=1e-9))) == (
            last,
            last + 1,
        )


@given(st.integers(10, 1000), st.booleans())
def test_without_a_border_it_looks_no_further_than_ten_doublings(begin: int, is_downwards: bool) -> None:
    asked = Asked(math.inf, math.inf, is_downwards)
    border = Border(asked, Span(begin, is_whole=False))
    assert None in border.find()
    assert [min(asked.questions), max(asked.questions)] == pytest.approx([begin / 1024, begin * 1024], rel=1e-4)
    assert len(asked.questions) == 1 + 2 * _DOUBLINGS


@given(st.integers(4, 1000), st.integers(1001, 9000), st.booleans())
def test_levels_that_make_no_sense_end_the_way_outwards(least: int, most: int, is_downwards: bool) -> None:
    asked = Asked(math.inf, math.inf, is_downwards, least, most)
    border = Border(asked, Span(1000))
    assert None in border.find()
    assert set(asked.questions) - set(border.known) == set(border.refused)
    assert len(border.refused) == 2
    assert "makes no sense" in border.refused[max(border.refused)]


def test_ends_that_make_no_sense_are_errors() -> None:
    for where in (Span(1, 1, 10), Span(1, None, 1), Span(1)):
        with pytest.raises(InputError, match="1 makes no sense"):
            Border(Asked(5, 6, least=2), where).find()


@pytest.mark.parametrize("is_downwards", [False, True])
def test_how_far_one_verdict_goes_if_the_other_is_not_there(is_downwards: bool) -> None:
    for asked, known in ((Asked(300, math.inf), 300), (Asked(-math.inf, 300), 300)):
        asked.is_downwards = is_downwards
        holds_at, fails_at = Border(asked, Span(1, 1, 1000, within=1e-9)).find()
        found = [level for level in (holds_at, fails_at) if level is not None]
        assert len(found) == 1
        assert found[0] == pytest.approx(known, abs=700 / 4)
        assert asked.truth(found[0]) is not Verdict.CANNOT_TELL
    nowhere = Border(Asked(-math.inf, math.inf), Span(1, 1, 1000))
    assert nowhere.find() == (None, None)
    assert set(nowhere.known) == {1, 1000}


def test_it_begins_where_nobody_can_tell_and_finds_both_sides() -> None:
    below, above = sides(Border(Asked(60, 150), Span(100)))
    assert below <= 60
    assert above >= 150
    assert below > 30
    assert above < 180


def test_from_nothing_the_way_leads_over_one() -> None:
    assert Border(Asked(10, 11), Span(0, low=0)).find() == (10, 11)
    assert Border(Asked(10, 11), Span(0.0, is_whole=False)).find() == (0, None), "twice nothing is nothing"
