"""Which combinations blocks of factors give."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kubesim.experiment.factors import Block, LatinHypercube

NAMES = st.sampled_from(["proxy", "cluster.services", "cni", "seed"])
LEVELS = st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True)


def combinations(**block: Any) -> list[dict[str, Any]]:
    """What a block gives; dots are written as two underscores."""
    return Block.model_validate({name.replace("__", "."): value for name, value in block.items()}).combinations()


@given(st.dictionaries(NAMES, LEVELS))
def test_a_grid_has_every_combination_once(grid: dict[str, list[int]]) -> None:
    found = Block.model_validate(grid).combinations()
    assert len(found) == math.prod(len(levels) for levels in grid.values())
    assert len({tuple(one.items()) for one in found}) == len(found)
    assert all(list(one) == list(grid) and all(one[name] in grid[name] for name in grid) for one in found)


def test_levels_side_by_side_and_combinations_as_they_are() -> None:
    found = combinations(
        zip={"cluster.services": [1, 2], "cluster.endpoints": [3, 4]}, list=[{"seed": 1}, {"seed": 2, "name": "x"}]
    )
    assert found == [
        {"cluster.services": 1, "cluster.endpoints": 3, "seed": 1},
        {"cluster.services": 1, "cluster.endpoints": 3, "seed": 2, "name": "x"},
        {"cluster.services": 2, "cluster.endpoints": 4, "seed": 1},
        {"cluster.services": 2, "cluster.endpoints": 4, "seed": 2, "name": "x"},
    ]


def test_conditional_levels_are_varied_only_where_they_make_sense() -> None:
    found = combinations(
        proxy=["iptables", {"name": "ipvs", "min_sync_period_s": 1}],
        proxy__scheduler={"levels": ["rr", "lc"], "where": {"proxy": ["ipvs"]}},
    )
    assert [one.get("proxy.scheduler") for one in found] == [None, "rr", "lc"]


def test_combinations_are_excluded() -> None:
    found = combinations(cni=["a", "b"], proxy=["x", "y"], exclude=[{"cni": "a", "proxy": ["y"]}])
    assert [(one["cni"], one["proxy"]) for one in found] == [("a", "x"), ("b", "x"), ("b", "y")]


@pytest.mark.parametrize("is_first", [True, False])
def test_the_order_in_a_file_does_not_matter(is_first: bool) -> None:
    parts: list[dict[str, Any]] = [
        {"b": {"levels": [1, 2], "where": {"a": 1}}}, {"c": {"levels": [3], "where": {"b": 2}}},
    ]  # fmt: skip
    ordered = parts if is_first else parts[::-1]
    found = combinations(**ordered[0], **ordered[1], a=[1, 9])
    assert {tuple(sorted(one.items())) for one in found} == {
        (("a", 1), ("b", 1)), (("a", 1), ("b", 2), ("c", 3)), (("a", 9),),
    }  # fmt: skip


def test_levels_that_are_lists_and_numbers_written_otherwise_are_found() -> None:
    found = combinations(a=[["x"], ["y", "z"]], b=[100, 200], exclude=[{"a": ["y", "z"]}, {"b": 200.0}])
    assert found == [{"a": ["x"], "b": 100}]


def test_true_is_not_one() -> None:
    assert len(combinations(a=[True, 1], exclude=[{"a": 1}])) == 1


@given(st.integers(1, 40), st.integers(0, 2**32), st.sampled_from(["linear", "log"]))
def test_a_latin_hypercube_has_one_sample_in_each_slice(samples: int, seed: int, scale: str) -> None:
    space = {"from": 1.0, "to": 1000.0, "scale": scale}
    hypercube = {"samples": samples, "seed": seed, "factors": {"a": space, "b": space, "c": ["u", "v"]}}
    found = combinations(latin_hypercube=hypercube)
    assert found == combinations(latin_hypercube=hypercube), "the same seed draws the same"
    for name in ("a", "b"):
        shares = [math.log(one[name]) / math.log(1000) if scale == "log" else (one[name] - 1) / 999 for one in found]
        # Levels are rounded to six digits, so one may touch the border of its slice.
        slices = sorted(shares)
        assert all(
            number / samples - 1e-5 <= share <= (number + 1) / samples + 1e-5 for number, share in enumerate(slices)
        )
    letters = [one["c"] for one in found]
    assert abs(letters.count("u") - letters.count("v")) <= 1


def test_whole_ends_give_whole_levels() -> None:
    found = combinations(latin_hypercube={"samples": 20, "factors": {"a": {"from": 1, "to": 10_000, "scale": "log"}}})
    assert all(isinstance(one["a"], int) and 1 <= one["a"] <= 10_000 for one in found)


@given(st.integers(1, 30), st.integers(0, 20), st.integers(0, 99), st.sampled_from(["linear", "log"]))
def test_as_many_samples_as_whole_numbers_are_refused_or_counted(low: int, width: int, seed: int, scale: str) -> None:
    space = {"from": low, "to": low + width + 1, "scale": scale}
    levels = range(low, low + width + 2)
    found = LatinHypercube.model_validate({"samples": len(levels), "seed": seed, "factors": {"a": space}})
    drawn = [one["a"] for one in found.combinations()]
    assert set(drawn) <= set(levels)
    assert found.repeated() == len(drawn) - len(set(drawn))
    assert scale == "log" or sorted(drawn) == list(levels), "each whole number is as likely as the others"
    with pytest.raises(ValidationError, match=f"its factors have {len(levels)} combinations of levels, which is fewer"):
        LatinHypercube.model_validate({"samples": len(levels) + 1, "seed": seed, "factors": {"a": space}})


def test_whole_numbers_beside_fractions_may_be_there_again() -> None:
    factors = {"a": {"from": 1, "to": 2}, "b": {"from": 0.5, "to": 1}}
    found = LatinHypercube.model_validate({"samples": 50, "factors": factors})
    assert (len(found.combinations()), found.repeated()) == (50, 0)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"zip": {"a": [1], "b": [1, 2]}}, "zip needs lists of one length: a has 1, b has 2"),
        ({"a": [1], "zip": {"a": [1]}}, "a is there twice"),
        ({"a": {"levels": [1], "where": {"b": 1}}}, "a depends on b, which is no factor beside it"),
        ({"a": [1], "exclude": [{"b": 1}]}, "exclude depends on b"),
        ({"a": [1], "exclude": [{"a": 2}]}, "exclude: a has no level 2: known: 1"),
        ({"proxy": ["iptables"], "exclude": [{"proxy": "iptabels"}]}, "did you mean 'iptables'"),
        ({"a": {"levels": [1], "where": {"a": 1}}}, "a depends on a, which is no factor beside it"),
        ({"c": [1], "a": {"levels": [1], "where": {"c": 3}}}, "a: c has no level 3"),
        (
            {"a": {"levels": [1], "where": {"b": 1}}, "b": {"levels": [1], "where": {"a": 1}}},
            "a, b depend on each other",
        ),
        ({name: list(range(20)) for name in "abcde"}, "3,200,000 combinations are more than 100,000"),
        ({"a": []}, "at least 1 item"),
        ({"a": {"from": 1, "to": 2}}, "a: a list of levels is needed: a range is for latin_hypercube"),
        ({"a": {"levels": [1]}}, "where"),
        ({"latin_hypercube": {"samples": 1, "factors": {"a": {"from": 2, "to": 1}}}}, "has to be less than"),
        (
            {"latin_hypercube": {"samples": 1, "factors": {"a": {"from": 0, "to": 1, "scale": "log"}}}},
            "a logarithmic scale has no 0",
        ),
        (
            {"latin_hypercube": {"samples": 1, "factors": {"a": {"from": 0.1, "to": 0.2, "is_whole": True}}}},
            "there is no whole number from 0.1 to 0.2",
        ),
    ],
)
def test_blocks_that_make_no_sense(block: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Block.model_validate(block)


def test_a_block_is_written_as_it_is_read() -> None:
    block = Block.model_validate(
        {
            "proxy": ["a", "b"],
            "proxy.x": {"levels": [1], "where": {"proxy": "a"}},
            "zip": {"c": [1]},
            "list": [{"d": 1}],
            "latin_hypercube": {"samples": 1, "factors": {"e": {"from": 1, "to": 2}}},
            "exclude": [{"proxy": "b"}],
        }
    )
    assert Block.model_validate(block.model_dump(mode="json", by_alias=True)) == block
    assert block.factor_names() == ["proxy", "proxy.x", "c", "d", "e"]
