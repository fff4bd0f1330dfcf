"""IPVS: schedulers by their definition, and packets to real servers and back."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.kernel.ipvs.schedulers import SCHEDULERS, RealServer, Scheduler
from kubesim.kernel.ipvs.virtual_server import ConnectionTable, ServiceKey, VirtualService
from kubesim.kernel.packet import FlowTuple

weights = st.lists(st.integers(0, 5), min_size=1, max_size=6)


def servers(of_weight: list[int]) -> list[RealServer]:
    """Servers 10.0.0.0, 10.0.0.1 … of these weights."""
    return [RealServer(f"10.0.0.{number}", 80, weight) for number, weight in enumerate(of_weight)]


def schedule(scheduler: Scheduler, connections: int) -> Counter[str]:
    """Open connections from as many clients; how many each server got."""
    found: Counter[str] = Counter()
    for number in range(connections):
        server = scheduler.schedule(f"10.9.{number // 256}.{number % 256}", 40_000)
        if server is not None:
            server.active_connections += 1
            found[server.address] += 1
    return found


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
@given(of_weight=weights)
def test_a_server_without_weight_gets_nothing(name: str, of_weight: list[int]) -> None:
    got = schedule(SCHEDULERS[name](servers(of_weight)), 30)
    assert all(of_weight[int(address.rpartition(".")[2])] > 0 for address in got)
    if name not in ("dh", "ovf"):
        assert sum(got.values()) == (30 if any(of_weight) else 0)


@given(count=st.integers(1, 8), rounds=st.integers(1, 5))
def test_round_robin_goes_round(count: int, rounds: int) -> None:
    got = schedule(SCHEDULERS["rr"](servers([1] * count)), count * rounds)
    assert set(got.values()) == {rounds}


@given(of_weight=weights.filter(any), rounds=st.integers(1, 4))
def test_weighted_round_robin_gives_each_its_weight(of_weight: list[int], rounds: int) -> None:
    got = schedule(SCHEDULERS["wrr"](servers(of_weight)), sum(of_weight) * rounds)
    assert [got[f"10.0.0.{number}"] for number in range(len(of_weight))] == [w * rounds for w in of_weight]


@pytest.mark.parametrize("name", ["lc", "wlc", "sed", "nq"])
@given(count=st.integers(1, 6), connections=st.integers(1, 40))
def test_equal_servers_are_loaded_alike_by_load(name: str, count: int, connections: int) -> None:
    got = schedule(SCHEDULERS[name](servers([1] * count)), connections)
    loads = [got[f"10.0.0.{number}"] for number in range(count)]
    assert max(loads) - min(loads) <= 1


@given(of_weight=st.lists(st.integers(1, 5), min_size=2, max_size=5))
def test_weighted_least_connection_follows_the_weights(of_weight: list[int]) -> None:
    got = schedule(SCHEDULERS["wlc"](servers(of_weight)), sum(of_weight) * 20)
    for number, weight in enumerate(of_weight):
        assert abs(got[f"10.0.0.{number}"] - weight * 20) <= weight + 1


def test_never_queue_prefers_an_idle_server_to_a_fast_one() -> None:
    slow, fast = RealServer("10.0.0.1", 80, weight=1), RealServer("10.0.0.2", 80, weight=10, active_connections=1)
    assert SCHEDULERS["sed"]([slow, fast]).schedule("10.9.0.1", 1) is fast
    assert SCHEDULERS["nq"]([slow, fast]).schedule("10.9.0.1", 1) is slow


def test_two_choices_take_the_less_loaded_and_draw_by_weight() -> None:
    sources = [(f"10.9.{n // 256}.{n % 256}", n) for n in range(3000)]
    light, heavy = RealServer("10.0.0.1", 80, weight=1), RealServer("10.0.0.2", 80, weight=3)
    scheduler = SCHEDULERS["twos"]([light, heavy])
    idle = Counter(str(getattr(scheduler.schedule(*one), "address", None)) for one in sources)
    assert idle["10.0.0.1"] / 3000 == pytest.approx(2 / 5, abs=0.03), "of 0 to 4, 0 and 1 are its own"
    heavy.active_connections = 100
    loaded = Counter(str(getattr(scheduler.schedule(*one), "address", None)) for one in sources)
    assert loaded["10.0.0.2"] / 3000 == pytest.approx((3 / 5) ** 2, abs=0.03), "only where both draws are its own"


def test_every_scheduler_of_linux_is_there() -> None:
    linux = "rr wrr lc wlc lblc lblcr dh sh sed nq fo ovf mh twos"
    assert sorted(SCHEDULERS) == sorted(linux.split())


def test_source_hash_is_faithful_and_spreads_clients() -> None:
    scheduler = SCHEDULERS["sh"](servers([1, 1, 1, 1]))
    first = [scheduler.schedule(f"10.9.0.{n}", 1) for n in range(200)]
    assert first == [scheduler.schedule(f"10.9.0.{n}", 2) for n in range(200)], "ports do not matter"
    assert min(schedule(scheduler, 2000).values()) > 300


def test_failover_takes_the_greatest_weight() -> None:
    assert schedule(SCHEDULERS["fo"](servers([1, 5, 2])), 10) == {"10.0.0.1": 10}


def test_overflow_fills_one_server_after_the_other() -> None:
    got = schedule(SCHEDULERS["ovf"](servers([2, 5, 0])), 20)
    assert got == {"10.0.0.1": 6, "10.0.0.0": 3}, "full at more connections than weight; then nobody takes any"


def test_destination_hash_gives_a_virtual_address_one_server() -> None:
    chosen = [SCHEDULERS["dh"](servers([1] * 4), f"10.96.0.{n}") for n in range(100)]
    assert all(len(schedule(scheduler, 5)) == 1 for scheduler in chosen)
    assert len({next(iter(schedule(scheduler, 1))) for scheduler in chosen}) == 4
    assert SCHEDULERS["dh"](servers([0])).schedule("10.9.0.1", 1) is None
    assert SCHEDULERS["dh"]([]).schedule("10.9.0.1", 1) is None


def test_locality_keeps_a_server_until_another_is_half_idle() -> None:
    alone = schedule(SCHEDULERS["lblc"](servers([10, 10])), 11)
    assert alone == {"10.0.0.0": 11}
    assert schedule(SCHEDULERS["lblc"](servers([10, 10])), 20)["10.0.0.1"] > 0
    grown = schedule(SCHEDULERS["lblcr"](servers([10, 10])), 30)
    assert abs(grown["10.0.0.0"] - grown["10.0.0.1"]) <= 1


def test_maglev_is_faithful_follows_weights_and_moves_few() -> None:
    sources = [(f"10.9.{n // 256}.{n % 256}", n) for n in range(4000)]
    before, after = (SCHEDULERS["mh"](servers(of_weight)) for of_weight in ([2, 1, 1, 1], [2, 1, 1]))
    first = [before.schedule(*one) for one in sources]
    assert first == [before.schedule(*one) for one in sources]
    got = Counter(server.address for server in first if server is not None)
    assert got["10.0.0.0"] == pytest.approx(1600, rel=0.15)
    moved = sum(
        was != now
        for was, now in zip(first, (after.schedule(*one) for one in sources), strict=True)
        if was is not None and was.address != "10.0.0.3"
    )
    assert moved < 400, "few but those of the server that went away"


def test_a_persistent_service_remembers_its_clients() -> None:
    key = ServiceKey("10.96.0.1", "tcp", 80)
    service = VirtualService.of(key, "rr", servers([1, 1, 1]), is_persistent=True)
    first = service.place_for("10.9.0.1", 1)
    assert service.place_for("10.9.0.2", 1) != first
    assert service.place_for("10.9.0.1", 2) == first


def test_a_service_without_servers() -> None:
    service = VirtualService.of(ServiceKey("10.96.0.1", "tcp", 80), "rr", [])
    with pytest.raises(LookupError, match=r"no server of 10\.96\.0\.1:80"):
        service.place_for("10.9.0.1", 1)


def test_connection_chains_lengthen_beyond_4096_buckets() -> None:
    table = ConnectionTable()
    assert table.chain_length() == 1
    table.others = 1_000_000
    assert table.chain_length() == 123, "itself, and half of 244 others in its bucket"
    service = VirtualService.of(ServiceKey("10.96.0.1", "tcp", 80), "rr", servers([1]))
    request = FlowTuple("10.9.0.1", "10.96.0.1", "tcp", 1, 80)
    reply = FlowTuple("10.0.0.0", "10.9.0.1", "tcp", 80, 1)
    table.add(request, reply, service, service.scheduler.servers[0])
    assert table.find(request) == table.find(reply) != None  # noqa: E711
    table.flush()
    assert table.find(request) is None
