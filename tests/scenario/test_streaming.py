"""Runs that are made part by part say what whole ones say, to the last bit."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from kubesim.scenario import Summarised, run, simulation, streaming, summarise
from kubesim.scenario.spec import Scenario

WORKLOADS: dict[str, dict[str, Any]] = {
    "tcp_rr": {"workload": "tcp_rr", "transactions": 300, "connections": 5},
    "tcp_rr, thinking": {"workload": "tcp_rr", "transactions": 100, "connections": 4, "clients": 3, "think_us": 40},
    "udp_rr": {"workload": "udp_rr", "transactions": 200, "connections": 3},
    "udp_rr, losing": {"workload": "udp_rr", "transactions": 60, "connections": 40, "timeout_ms": 0.5},
    "tcp_crr": {"workload": "tcp_crr", "transactions": 90, "connections": 4, "think_us": 5},
    "tcp_stream": {"workload": "tcp_stream", "buffers": 400, "window": 8, "connections": 2},
    "udp_stream": {"workload": "udp_stream", "datagrams": 900, "connections": 3},
    "udp_stream, paced": {"workload": "udp_stream", "datagrams": 700, "rate_per_s": 90_000, "connections": 2},
    "poisson_connections": {"workload": "poisson_connections", "connections": 500, "rate_per_s": 4000, "requests": 3},
    "poisson_connections, long": {
        "workload": "poisson_connections", "connections": 30, "rate_per_s": 3000, "requests": 200,
    },
    "poisson_connections, too many": {"workload": "poisson_connections", "connections": 900, "rate_per_s": 900_000},
}  # fmt: skip


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

    def noted(feed: Any, waiting: Any) -> Any:
        made = make(feed, waiting)
        sizes.append(len(made.number))
        return made

    monkeypatch.setattr(streaming._Feed, "next", noted)
    monkeypatch.setattr(simulation, "WORTH_IT", 0)
    return sizes


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("workload", WORKLOADS)
def test_parts_say_what_the_whole_says(workload: str, warmup: float, parts: list[int], monkeypatch: Any) -> None:
    wanted = scenario(workload, warmup=warmup)
    whole = run(wanted)
    for at_once in (50, 400):
        parts.clear()
        monkeypatch.setattr(simulation, "AT_ONCE", at_once)
        found = summarise(wanted)
        assert type(found) is Summarised
        is_same(found, whole)
        assert len(parts) > 1
    assert sum(parts) == len(whole.messages)
