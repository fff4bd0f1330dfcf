"""Messages that follow from their numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.errors import InputError
from kubesim.workload import Sequences
from kubesim.workload._sequences import RepeatingScript, Step
from tests.workload.test_workloads import SMALL, sequences


@pytest.mark.parametrize("workload", SMALL)
@given(data=st.data())
def test_a_part_is_a_part_of_the_whole(workload: str, data: st.DataObject) -> None:
    made = sequences(workload)
    whole = made.whole()
    number = np.array(sorted(data.draw(st.sets(st.integers(0, len(made) - 1)))), np.int64)
    part = made.part(number)
    np.testing.assert_array_equal(part.number, number)
    for name in ("flow", "thread", "release_ns"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[number])
    for name in ("kind", "after", "think_ns", "timeout_ns"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole.script, name)[number])
    for name, where in (("begins", whole.first), ("ends", whole.last)):
        transaction = np.full(len(made), -1)
        transaction[where] = np.arange(len(where))
        np.testing.assert_array_equal(getattr(part, name), transaction[number])


@pytest.mark.parametrize("workload", SMALL)
def test_what_is_said_of_all_is_what_the_messages_say(workload: str) -> None:
    made = sequences(workload)
    whole = made.whole()
    assert len(made) == len(whole)
    assert made.transactions == len(whole.first) == len(whole.last)
    assert made.kinds_by_service() == whole.kinds_by_service()
    assert made.repeated_kinds() == whole.repeated_kinds()
    assert len(made.flows) == int(whole.flow.max()) + 1


def test_a_tail_comes_once() -> None:
    script = RepeatingScript((Step(0, back=0),), round=(Step(1), Step(2)), times=2, tail=(Step(3),))
    steps = np.arange(len(script))
    rounds = script.round_of(steps)
    assert rounds.tolist() == [0, 0, 0, 1, 1, 1]
    assert script.column("kind")[script.place(steps, rounds)].tolist() == [0, 1, 2, 1, 2, 3]


def test_more_than_memory_holds_is_made_in_parts_only() -> None:
    made = sequences("tcp_rr", transactions=50_000_000)
    assert isinstance(made, Sequences)
    last = np.array([2 * len(made.script) - 1])
    assert made.part(last).ends.tolist() == [made.transactions // 2 - 1]
    with pytest.raises(InputError, match=r"400,000,012 messages are too many to be held in memory"):
        made.whole()
