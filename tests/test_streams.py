"""Random numbers: each purpose its own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from kubesim.streams import Streams, numbered

PURPOSES = st.text(min_size=1, max_size=10)


@given(seed=st.integers(0, 2**63), replication=st.integers(0, 1000), purpose=PURPOSES, other=PURPOSES)
def test_a_stream_depends_on_nothing_but_its_key(seed: int, replication: int, purpose: str, other: str) -> None:
    numbers = Streams(seed, replication).generator(purpose).random(4).tolist()
    again = Streams(seed, replication)
    again.generator(other).random(100)
    assert again.generator(purpose).random(4).tolist() == numbers
    assert Streams(seed, replication + 1).generator(purpose).random(4).tolist() != numbers
    assert Streams(seed + 1, replication).generator(purpose).random(4).tolist() != numbers
    if other != purpose:
        assert again.generator(other).random(4).tolist() != numbers


def test_streams_do_not_change_from_version_to_version() -> None:
    """Results are repeatable: a change here changes every result, and belongs into the changelog."""
    assert Streams(1).generator("arrivals").integers(0, 1000, 6).tolist() == EXPECTED


EXPECTED = [492, 318, 418, 599, 957, 838]


def test_numbered_bits_are_those_of_splitmix64() -> None:
    """The first numbers after the seed 1234567, as other implementations give them."""
    assert numbered(np.uint64(1_234_567), np.arange(5)).tolist() == [
        6_457_827_717_110_365_317,
        3_203_168_211_198_807_973,
        9_817_491_932_198_370_423,
        4_593_380_528_125_082_431,
        16_408_922_859_458_223_821,
    ]


@given(seed=st.integers(0, 2**63), numbers=st.lists(st.integers(0, 2**40), min_size=1, max_size=20), other=PURPOSES)
def test_numbered_bits_depend_on_nothing_but_key_and_place(seed: int, numbers: list[int], other: str) -> None:
    streams = Streams(seed)
    bits = numbered(streams.key("service"), np.array(numbers)).tolist()
    assert [int(numbered(Streams(seed).key("service"), np.array([one]))[0]) for one in numbers] == bits
    if other != "service":
        assert numbered(streams.key(other), np.array(numbers)).tolist() != bits
