"""Runs say whether they had a steady state, and where their warm-up ended."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from kubesim.scenario import Result, save_result
from tests.scenarios import WORKLOADS, scenario, simulate

LATENCIES = [f"latency_{name}_ns" for name in ("mean", "p50", "p90", "p99", "p999")]


def poisson(rate_per_s: float, connections: int = 600, **changes: Any) -> Result:
    """Connections at a rate to one Service with one endpoint."""
    traffic = {
        "workload": "poisson_connections", "rate_per_s": rate_per_s, "connections": connections,
        "to": {"choice": "last"}, "requests": 1, "server_us": 100,
    }  # fmt: skip
    return simulate(cluster={"endpoints": 1}, proxy="none", traffic=traffic, **changes)


def said(result: Result, beginning: str) -> list[str]:
    return [notice for notice in result.notices if notice.startswith(beginning)]


def test_an_overloaded_open_loop_has_no_latency() -> None:
    result = poisson(60_000)
    summary = result.summary
    assert all(math.isnan(summary[name]) for name in LATENCIES)
    assert summary["offered_load"] > 1.3
    (notice,) = said(result, "unstable: ")
    assert f"offered load {summary['offered_load']:.3g} of node-2 application core " in notice
    assert summary["throughput_per_s"] > 0
    assert summary["busiest_core_utilisation"] > 0.95


def test_below_its_capacity_it_has_one() -> None:
    result = poisson(20_000)
    assert 0 < result.summary["latency_p50_ns"] <= result.summary["latency_p99_ns"]
    assert result.summary["offered_load"] < 1
    assert not said(result, "unstable")
    assert result.summary["offered_load"] == pytest.approx(
        20_000 / 60_000 * poisson(60_000).summary["offered_load"], rel=0.1
    )


@pytest.mark.parametrize("workload", sorted(set(WORKLOADS) - {"poisson_connections"}))
def test_closed_loops_have_one_at_any_load(workload: str) -> None:
    result = simulate(traffic={"workload": workload, "connections": 8})
    assert not result.load.is_open
    assert result.summary["latency_p50_ns"] > 0
    assert not said(result, "unstable") + said(result, "perhaps unstable") + said(result, "overloaded")


@pytest.mark.parametrize("rate_per_s", [1000, 1_000_000])
def test_senders_of_datagrams_wait_for_their_socket(rate_per_s: int) -> None:
    result = simulate(traffic={"workload": "udp_stream", "datagrams": 1000, "rate_per_s": rate_per_s})
    assert not result.load.is_open
    assert result.summary["latency_p50_ns"] > 0


def test_a_finite_queue_loses_instead() -> None:
    """Few, slow cards: the ring is full, and a SYN takes a second to be sent again."""
    result = poisson(20_000, hardware={"nic_gbit_per_s": 0.05, "transmit_queue": 4})
    assert result.summary["dropped_packets"] > 0
    assert result.summary["offered_load"] > 1
    (notice,) = said(result, "overloaded: offered load")
    assert "nic" in notice
    assert "loses packets" in notice
    assert result.summary["latency_p50_ns"] > 0


def test_latency_that_is_not_there_is_null_in_json(tmp_path: Any) -> None:
    save_result(poisson(60_000), tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [summary[name] for name in LATENCIES] == [None] * 5
    assert any(
        notice.startswith("unstable")
        for notice in json.loads((tmp_path / "out" / "manifest.json").read_text())["notices"]
    )


def test_the_summary_says_how_much_was_left_out() -> None:
    for warmup, least, most in ((0, 0, 0), (0.25, 150, 150), ("mser-5", 0, 300)):
        result = poisson(5000, warmup=warmup)
        summary = result.summary
        assert least <= summary["warmup_transactions"] <= most
        assert summary["warmup_transactions"] + summary["transactions"] == 600
        assert (~result.transactions["is_measured"]).sum() == summary["warmup_transactions"]


def test_a_run_that_is_too_short_for_mser_5_says_so() -> None:
    (notice,) = said(simulate(traffic={"transactions": 20}, warmup="mser-5"), "the warm-up does not end")
    assert "more transactions are needed" in notice
    assert not said(simulate(traffic={"transactions": 20}), "the warm-up")


@pytest.mark.parametrize(
    ("given", "kind"), [(1.0, "less_than"), (-0.1, "greater_than_equal"), ("mser", "literal_error")]
)
def test_a_warm_up_is_a_share_or_a_rule(given: Any, kind: str) -> None:
    with pytest.raises(ValueError, match="warmup") as caught:
        scenario(warmup=given)
    assert caught.value.errors()[0]["type"] == kind  # type: ignore[attr-defined]
