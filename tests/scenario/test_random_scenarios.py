"""Any scenario says the same, whether it is made as a whole or in parts of whatever size."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubesim.engine import compiled_engine
from kubesim.scenario import Scenario, run, simulation, streaming, summarise, visit_planning
from tests.clusters import working_pairs
from tests.scenario.test_streaming import is_same

PAIRS = [pair for pair in working_pairs(nodes=2) if pair[1] != "dump"]
SIZES = st.sampled_from([1, 1400, 9000, 60_000])
TRANSACTIONS = {"transactions": st.sampled_from([1, 2, 17, 60]), "think_us": st.sampled_from([0, 0.5, 40, 5e6])}
WORKLOADS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "tcp_rr": {**TRANSACTIONS, "request_bytes": SIZES, "server_us": st.sampled_from([0, 1, 1e6])},
    "tcp_crr": {**TRANSACTIONS, "response_bytes": SIZES},
    "udp_rr": {**TRANSACTIONS, "timeout_ms": st.sampled_from([0.05, 0.5, 5])},
    "tcp_stream": {"buffers": st.sampled_from([1, 9, 150]), "window": st.sampled_from([1, 2, 16, 100])},
    "udp_stream": {
        "datagrams": st.sampled_from([1, 2, 200]),
        "message_bytes": SIZES,
        "rate_per_s": st.sampled_from([None, 0.5, 1000, 90_000]),
    },
    "poisson_connections": {
        "connections": st.sampled_from([1, 2, 150]),
        "rate_per_s": st.sampled_from([0.05, 4000, 900_000]),
        "requests": st.sampled_from([1, 3, 40]),
    },
}


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    """Small ones, some with queues of a place or two."""
    cni, proxy = draw(st.sampled_from(PAIRS))
    workload = draw(st.sampled_from(sorted(WORKLOADS)))
    traffic = {name: draw(values) for name, values in WORKLOADS[workload].items()}
    places = st.sampled_from([1, 2, 50])
    small = {"cores": 4, "softirq_cores": draw(st.integers(1, 2))} | {
        name: draw(places) for name in ("receive_ring", "transmit_queue", "switch_queue")
    }
    steering = {"cores": 6, "softirq_cores": 2, "rps_cores": 2, "netdev_max_backlog": draw(places)}
    return Scenario.model_validate(
        {
            "cluster": {
                "nodes": 2,
                "services": draw(st.sampled_from([1, 7, 40])),
                "endpoints": draw(st.integers(1, 3)),
            },
            "cni": cni,
            "proxy": proxy,
            "traffic": {
                "workload": workload,
                "clients": draw(st.integers(1, 3)),
                "connections": draw(st.sampled_from([1, 2, 13])),
                "to": {"choice": draw(st.sampled_from(["zipf", "uniform", "last"]))},
                **traffic,
            },
            "hardware": draw(st.sampled_from([{}, small, steering])),
            "warmup": draw(st.sampled_from([0.0, 0.1, 0.9])),
            "seed": draw(st.integers(0, 1 << 40)),
        }
    )


def parts_are_the_whole(wanted: Scenario, at_once: int, few: int) -> None:
    """However many messages wait at a time, and whether what connections have in common is kept or not."""
    whole = run(wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled_engine, "IS_COMPILED", True)
        patch.setattr(simulation, "WORTH_IT", 0)
        patch.setattr(streaming, "AT_ONCE", at_once)
        patch.setattr(visit_planning, "_FEW", few)
        is_same(summarise(wanted), whole)


AT_ONCE, FEW = st.sampled_from([50, 400, 16_384]), st.sampled_from([0, 65_536, 65_536])


@pytest.mark.parametrize(
    ("proxy", "traffic"),
    [
        ("userspace", {"workload": "tcp_rr", "transactions": 300, "clients": 2}),
        ("iptables", {"workload": "udp_stream", "datagrams": 300, "clients": 2, "rate_per_s": 1000}),
        ("iptables", {"workload": "udp_rr", "transactions": 1, "connections": 50}),
        ("iptables", {"workload": "udp_stream", "datagrams": 1, "connections": 50}),
    ],
)
def test_kinds_that_are_not_used_and_visits_that_are_of_different_roles(proxy: str, traffic: dict[str, Any]) -> None:
    """Ways that begin with one role, where others have another; single packets, that no other kind follows."""
    cluster = {"nodes": 2, "services": 1, "endpoints": 2}
    wanted = {"cluster": cluster, "cni": "flannel-vxlan", "proxy": proxy, "traffic": traffic, "warmup": 0.0}
    parts_are_the_whole(Scenario.model_validate(wanted), 50, 65_536)


@settings(max_examples=100)
@given(wanted=scenarios(), at_once=AT_ONCE, few=FEW)
def test_parts_say_what_the_whole_says(wanted: Scenario, at_once: int, few: int) -> None:
    parts_are_the_whole(wanted, at_once, few)


@pytest.mark.slow
@settings(max_examples=600)
@given(wanted=scenarios(), at_once=AT_ONCE, few=FEW)
def test_parts_of_many_scenarios_say_what_the_whole_says(wanted: Scenario, at_once: int, few: int) -> None:
    parts_are_the_whole(wanted, at_once, few)
