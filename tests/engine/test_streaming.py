"""A plan that is played part by part gives the same times as the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesim.engine import ENGINES, NEVER, Int64Array, Plan
from kubesim.engine.streaming import Part, PlanStream, PlayedPart, Waiting, held
from kubesim.errors import PlanError
from tests.engine.plans import busy_plan, plans

FOR_EVER_NS = np.iinfo(np.int64).max


def part_of(plan: Plan, number: Int64Array) -> Part:
    columns = (plan.release_ns, plan.station, plan.service_ns, plan.after, plan.think_ns, plan.timeout_ns)
    return Part(number, *(column[number] for column in columns))


def parts_of(plan: Plan, draws: list[int]) -> list[Int64Array]:
    """Numbers of packets by the part that they come in: none before the one that releases it."""
    which = np.full(plan.packets, -1)

    def place(packet: int) -> int:
        if which[packet] < 0:
            before = int(plan.after[packet])
            which[packet] = max(draws[packet], 0 if before == NEVER else place(before))
        return int(which[packet])

    for packet in range(plan.packets):
        place(packet)
    return [np.flatnonzero(which == one) for one in range(max(draws, default=0) + 1)]


def play_in_parts(plan: Plan, parts: list[Int64Array]) -> PlayedPart:
    """All that was played, by number."""
    stream = PlanStream(plan.servers, plan.capacity, plan.wake_ns, plan.visits)
    played, missing = [], set(range(plan.packets))
    for number in parts:
        stream.feed(part_of(plan, number))
        missing -= set(number.tolist())
        still = np.array(sorted(missing), np.int64)
        roots = still[plan.after[still] == NEVER]
        until_ns = int(plan.release_ns[roots].min(initial=FOR_EVER_NS))
        played.append(stream.play(held(stream.waiting, plan.after[still]), until_ns))
    order = np.argsort(np.concatenate([one.part.number for one in played]))
    part = part_of(plan, np.arange(plan.packets))
    assert len(order) == plan.packets

    def column(name: str) -> Int64Array:
        return np.concatenate([getattr(one, name) for one in played])[order]

    return PlayedPart(part, column("arrive_ns"), column("start_ns"), column("depart_ns"))


def assert_is_whole(plan: Plan, played: PlayedPart) -> None:
    trace = ENGINES["simpy"](plan)
    for name in ("arrive_ns", "start_ns", "depart_ns"):
        np.testing.assert_array_equal(getattr(played, name), getattr(trace, name))
    np.testing.assert_array_equal(played.is_delivered(), trace.is_delivered(plan))


@settings(max_examples=300, deadline=None)
@given(data=st.data(), plan=plans(has_tables=False))
def test_parts_give_the_times_of_the_whole(data: st.DataObject, plan: Plan) -> None:
    draws = data.draw(st.lists(st.integers(0, 4), min_size=plan.packets, max_size=plan.packets))
    assert_is_whole(plan, play_in_parts(plan, parts_of(plan, draws)))


@pytest.mark.slow
def test_parts_of_many_plans_give_the_times_of_the_whole() -> None:
    for seed in range(5_000):
        assert_is_whole(*busy_plan_in_parts(seed, packets=seed % 60))


def busy_plan_in_parts(seed: int, packets: int) -> tuple[Plan, PlayedPart]:
    random = np.random.default_rng(seed)
    plan = busy_plan(random, packets, grain_ns=int(random.integers(1, 40)), has_tables=False)
    return plan, play_in_parts(plan, parts_of(plan, np.sort(random.integers(0, 9, packets)).tolist()))


def test_parts_of_a_long_plan_go_as_they_are_played() -> None:
    plan = busy_plan(np.random.default_rng(1), 4000, 10, has_tables=False)
    order = np.argsort(plan.release_ns, kind="stable")
    draws = np.empty(plan.packets, np.int64)
    draws[order] = np.arange(plan.packets) // 400
    played = play_in_parts(plan, parts_of(plan, draws.tolist()))
    assert_is_whole(plan, played)


def test_who_may_be_lost_is_held_as_well() -> None:
    """The request's loss goes through the reply, which has no time-out, to a request that is not here yet."""
    waiting = Waiting(np.array([4, 5, 6]), after=np.array([3, 4, 5]), timeout_ns=np.array([1, 1, NEVER]))
    assert held(waiting, np.array([6])).tolist() == [False, True, True]
    assert not held(waiting, np.array([7])).any()


def test_times_that_might_overflow_are_refused() -> None:
    stream = PlanStream(np.ones(1, np.int64), -np.ones(1, np.int64), np.zeros(1, np.int64), visits=1)
    one = np.array([0])
    with pytest.raises(PlanError, match="times may come to"):
        stream.feed(Part(one, np.array([1 << 62]), one[:, None], one[:, None] + 1, one - 1, one, one - 1))
