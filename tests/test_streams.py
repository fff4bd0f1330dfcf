"""Random numbers: each purpose its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kubesim.streams import Streams

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
