"""Runs that are made part by part say what whole ones say, to the last bit."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from kubesim.engine import compiled_engine
from kubesim.errors import InputError
from kubesim.experiment.places import run_one
from kubesim.scenario import Result, Summarised, run, simulation, streaming, summarise, visit_planning
from kubesim.scenario.spec import Scenario

WORKLOADS: dict[str, dict[str, Any]] = {
    "tcp_rr": {"workload": "tcp_rr", "transactions": 200, "connections": 9, "clients": 3},
    "tcp_rr, thinking": {"workload": "tcp_rr", "transactions": 100, "connections": 4, "clients": 3, "think_us": 40},
    "udp_rr": {"workload": "udp_rr", "transactions": 200, "connections": 8, "clients": 2},
    "udp_rr, losing": {"workload": "udp_rr", "transactions": 60, "connections": 40, "timeout_ms": 0.5},
    "tcp_crr": {"workload": "tcp_crr", "transactions": 90, "connections": 4, "think_us": 5},
    "tcp_stream": {"workload": "tcp_stream", "buffers": 400, "window": 8, "connections": 2},
    "udp_stream": {"workload": "udp_stream", "datagrams": 900, "clients": 6},
    "udp_stream, paced": {"workload": "udp_stream", "datagrams": 700, "rate_per_s": 90_000, "connections": 4, "clients": 2},
    "poisson_connections": {"workload": "poisson_connections", "connections": 500, "rate_per_s": 4000, "requests": 3},
    "poisson_connections, long": {
        "workload": "poisson_connections", "connections": 30, "rate_per_s": 3000, "requests": 200,
    },
    "poisson_connections, too many": {"workload": "poisson_connections", "connections": 900, "rate_per_s": 900_000},
}  # fmt: skip


LOSING = {"cores": 4, "softirq_cores": 1, "receive_ring": 1, "transmit_queue": 1, "switch_queue": 1}


def scenario(workload: str, **more: Any) -> Scenario:
    return Scenario.model_validate(
        {
            "cluster": {"nodes": 2, "services": 4},
            "cni": "flannel-vxlan",
            "proxy": "iptables",
            "traffic": WORKLOADS[workload],
            **more,
        }
    )


def is_same(one: Summarised, other: Summarised) -> None:
    assert {name: repr(value) for name, value in one.summary.items()} == {
        name: repr(value) for name, value in other.summary.items()
    }
    assert one.latencies == other.latencies
    assert one.notices == other.notices
    assert one.window == other.window
    for name in ("utilisation", "breakdown", "drops", "conntrack", "snat_ports"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Small parts of any run, and how large they were."""
    sizes: list[int] = []
    make = streaming._Feed.next

    def noted(feed: Any, waiting: Any, due: Any) -> Any:
        made = make(feed, waiting, due)
        sizes.append(len(made.number))
        return made

    monkeypatch.setattr(streaming._Feed, "next", noted)
    monkeypatch.setattr(compiled_engine, "IS_COMPILED", True)  # without Numba these are short enough, too
    monkeypatch.setattr(simulation, "WORTH_IT", 0)
    return sizes


@pytest.mark.parametrize(("warmup", "hardware"), [(0.1, {}), (0.0, LOSING)])
@pytest.mark.parametrize("workload", WORKLOADS)
def test_parts_say_what_the_whole_says(
    workload: str, warmup: float, hardware: dict[str, Any], parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = scenario(workload, warmup=warmup, hardware=hardware)
    whole = run(wanted)
    for at_once, few in ((50, visit_planning._FEW), (400, 0)):
        parts.clear()
        monkeypatch.setattr(streaming, "AT_ONCE", at_once)
        monkeypatch.setattr(visit_planning, "_FEW", few)  # connections of which all is worked out at once, or in parts
        found = summarise(wanted)
        assert type(found) is Summarised
        is_same(found, whole)
        assert len(parts) > 1
    assert sum(parts) == len(whole.messages)


def test_some_of_these_lose_packets_and_some_have_no_steady_state() -> None:
    losing = [name for name in WORKLOADS if run(scenario(name, hardware=LOSING)).summary["dropped_packets"] > 3]
    assert len(losing) > len(WORKLOADS) - 2
    assert run(scenario("udp_rr, losing", hardware=LOSING)).summary["lost_transactions"] > 10
    assert run(scenario("poisson_connections, too many")).load.unstable


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"conntrack": {}}, "tables of limited size are not carried from part to part"),
        ({"warmup": "mser-5"}, "MSER-5 looks at all latencies at once"),
        ({"engine": "simpy"}, "SimPy plays whole plans"),
        ({"cni": "flannel-wireguard"}, "threads of the kernel take packets in turn"),
    ],
)
def test_what_cannot_be_made_in_parts_is_whole(more: dict[str, Any], why: str, parts: list[int]) -> None:
    wanted = scenario("tcp_rr", **more)
    assert isinstance(summarise(wanted), Result)
    assert not parts
    too_long = {**WORKLOADS["tcp_rr"], "transactions": 2_000_000}
    with pytest.raises(InputError, match=f"[0-9,]+ messages are too many .*: {why}"):
        summarise(wanted.with_fields({"traffic": too_long}))


def test_names_that_are_looked_up_and_ways_that_end_are_whole(parts: list[int]) -> None:
    asked = {"workload": "tcp_crr", "transactions": 5, "dns": {}}
    nobody = {"workload": "tcp_crr", "transactions": 5}
    for traffic, cluster in ((asked, {"nodes": 2}), (nobody, {"nodes": 2, "services": 2, "endpoints": 0})):
        wanted = scenario("tcp_rr", cluster=cluster).with_fields({"traffic": traffic})
        is_same(summarise(wanted), run(wanted))
    assert not parts


def test_short_runs_are_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor are longer ones, if Numba would have to be imported for them."""
    short, longer = (scenario("tcp_rr").with_fields({"traffic.transactions": n}) for n in (100, 1_000))
    monkeypatch.setattr(compiled_engine, "IS_COMPILED", True)
    monkeypatch.setitem(sys.modules, "numba", sys.modules.get("numba", ModuleType("numba")))
    assert isinstance(summarise(short), Result)
    assert not isinstance(summarise(longer), Result)
    monkeypatch.delitem(sys.modules, "numba")
    assert isinstance(summarise(longer), Result)


def test_tables_of_all_packets_have_to_be_in_memory() -> None:
    too_long = {**WORKLOADS["tcp_rr"], "transactions": 2_000_000}
    with pytest.raises(InputError, match="and they have to be: its tables are of all packets; ask for fewer"):
        run(scenario("tcp_rr").with_fields({"traffic": too_long}))


def test_the_number_of_parts_does_not_matter_to_a_sweep_either(parts: list[int]) -> None:
    done = run_one((0, 0), scenario("tcp_rr").model_dump_json(by_alias=True))
    assert parts
    assert done.outcome["summary"] == {name: float(value) for name, value in run(scenario("tcp_rr")).summary.items()}


def test_how_far_it_is_is_said(parts: list[int]) -> None:
    seen: list[tuple[int, int]] = []
    found = summarise(scenario("udp_stream"), lambda played, of: seen.append((played, of)))
    assert seen[-1] == (len(found.messages), len(found.messages))
    assert seen == sorted(seen)
    assert parts


def test_short_runs_do_not_import_numba() -> None:
    program = """
import sys
from kubesim.experiment import places
from kubesim.scenario import Scenario, summarise
summarise(Scenario(cluster={"nodes": 2, "services": 2}, cni="flannel-vxlan", proxy="iptables", traffic={"workload": "tcp_rr"}))
assert "numba" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
