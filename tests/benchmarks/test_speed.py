"""How fast kubesim is, as ratios: ``pytest tests/benchmarks --benchmark-enable --benchmark-only``.

Without ``--benchmark-enable`` each is run once and must be right; nothing is timed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kubesim.engine import ENGINES
from kubesim.scenario import run
from kubesim.scenario.simulation import deploy
from tests.benchmarks.conftest import Compare
from tests.benchmarks.simulators import prepared
from tests.benchmarks.tandem import draw_tandem
from tests.scenarios import scenario

FEW, MANY = 10, 10_000


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_an_engine_against_a_hand_written_program(name: str, compare: Compare) -> None:
    tandem = draw_tandem(100_000)
    plan, hand_written = tandem.plan(), prepared("simpy_callbacks", tandem)
    assert np.array_equal(ENGINES[name](plan).depart_ns[:, -1], hand_written())
    compare(
        f"tandem of 5 stations, 100 000 packets: engine {name} / program written for only that",
        lambda: ENGINES[name](plan),
        hand_written,
    )


def test_the_compiled_loop_against_one_written_for_only_that(compare: Compare) -> None:
    pytest.importorskip("numba")
    rounds, tandem = 7, draw_tandem(300_000)
    hand_written = prepared("numba_loop", tandem)
    assert np.array_equal(prepared("kubesim_loop", tandem)(), hand_written())
    fresh = [prepared("kubesim_loop", tandem) for _ in range(rounds)]
    compare(
        "tandem of 5 stations, 300 000 packets: loop of the compiled engine / loop in Numba for only that",
        lambda: fresh.pop()(),  # noqa: PLW0108 - another one each time
        hand_written,
        rounds,
    )


@pytest.mark.parametrize(
    ("workload", "size", "choice"),
    [
        ("tcp_rr", {"transactions": 100_000}, "last"),
        ("tcp_crr", {"transactions": 4_000, "connections": 4}, "last"),
        ("tcp_crr", {"transactions": 4_000, "connections": 4}, "uniform"),
    ],
)
def test_a_packet_costs_the_same_among_more_services(
    workload: str, size: dict[str, Any], choice: str, compare: Compare
) -> None:
    few, many = (
        scenario(cluster={"services": services}, traffic={"workload": workload, "to": {"choice": choice}, **size})
        for services in (FEW, MANY)
    )
    packets = len(run(few).planned.plan.release_ns)
    assert len(run(many).planned.plan.release_ns) == packets
    compare(
        f"whole run of {packets:,} packets, {workload} to {choice}: {MANY:,} Services / {FEW}",
        lambda: run(many),
        lambda: run(few),
    )


@pytest.mark.parametrize("proxy", ["iptables", "nftables", "ipvs"])
def test_ten_thousand_services_are_ready(proxy: str, compare: Compare) -> None:
    def ready(services: int) -> None:
        deployment = deploy(scenario(cluster={"services": services, "endpoints": 10}, proxy=proxy))
        for node in deployment.cluster.nodes:
            deployment.namespace_at(node.address)

    compare(
        f"until ready to simulate, {proxy}, 10 endpoints each: {MANY:,} Services / {FEW}",
        lambda: ready(MANY),
        lambda: ready(FEW),
    )
