"""Alternatives that are compared meet the same packets, and their difference is known better for it."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kubesim.scenario import Result, Scenario, run
from kubesim.stats.intervals import difference_interval
from tests.clusters import working_pairs
from tests.scenarios import WORKLOADS, scenario

TAKES_TURNS = ("ipvs", "userspace")
"""Proxies that give new connections to endpoints in turn, whoever asks."""

PAIRS = [pair for pair in working_pairs(nodes=2) if pair[1] != "dump"]


def servers(result: Result) -> list[str]:
    """The endpoint of each flow."""
    return [result.classes.servers[number] for number in result.classes.server]


@settings(max_examples=25)
@given(
    one=st.sampled_from(PAIRS),
    other=st.sampled_from(PAIRS),
    workload=st.sampled_from(sorted(WORKLOADS)),
    choice=st.sampled_from(["uniform", "zipf"]),
    endpoints=st.integers(1, 12),
    seed=st.integers(0, 1 << 40),
    replication=st.integers(0, 5),
)
def test_what_is_compared_does_not_change_the_traffic(
    one: tuple[str, str],
    other: tuple[str, str],
    workload: str,
    choice: str,
    endpoints: int,
    seed: int,
    replication: int,
) -> None:
    """Arrivals, sizes, Services and endpoints are those of the same clients, by whatever way they are reached."""
    size = {"message_bytes": 1000} if workload == "udp_stream" else {}
    results = [
        run(
            scenario(
                cni=cni,
                proxy=proxy,
                seed=seed,
                replication=replication,
                cluster={"endpoints": endpoints, "endpoint_nodes": None},
                traffic={"workload": workload, "to": {"choice": choice}, **size},
            )
        )
        for cni, proxy in (one, other)
    ]
    first, second = (result.messages for result in results)
    for name in ("release_ns", "flow", "thread", "first", "last"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    for name in ("client", "service", "source_port"):
        assert np.array_equal(getattr(first.flows, name), getattr(second.flows, name))
    for name in ("kind", "after", "think_ns", "timeout_ns"):
        assert np.array_equal(getattr(first.script, name), getattr(second.script, name))
    if (
        workload != "tcp_stream"
    ):  # its buffers are filled with whole segments, and these are as large as the MTU lets them
        assert first.kinds == second.kinds
    if not {one[1], other[1]} & set(TAKES_TURNS):
        assert servers(results[0]) == servers(results[1])


def arrivals(services: int) -> Result:
    traffic = {"workload": "poisson_connections", "clients": 2, "clients_on": ["node-1"]}
    return run(scenario(cluster={"services": services}, traffic=traffic))


@given(services=st.integers(1, 60))
@settings(max_examples=8)
def test_the_number_of_services_changes_neither_arrivals_nor_whose_they_are(services: int) -> None:
    few, many = arrivals(services), arrivals(2 * services)
    assert np.array_equal(few.messages.release_ns, many.messages.release_ns)
    assert np.array_equal(few.messages.flows.client, many.messages.flows.client)
    assert np.array_equal(few.messages.flows.service, many.messages.flows.service // 2), "the same place among all"


def receiver_luck(result: Result) -> npt.NDArray[np.float64]:
    """How long receiving threads take for each packet that comes to one with data."""
    plan = result.planned.plan
    last = plan.visit_counts() - 1
    names = np.array([kind.name for kind in result.messages.kinds])[result.messages.script.kind]
    rows = np.flatnonzero(np.isin(names[result.planned.message], ("request", "reply")))
    return plan.service_ns[rows, last[rows]].astype(float)


@pytest.mark.parametrize("cni", ["flannel-udp", "flannel-wireguard", "docker-bridge"])
def test_receivers_have_the_same_luck_at_the_end_of_longer_and_shorter_ways(cni: str) -> None:
    nodes = {"nodes": 1, "endpoint_nodes": None} if cni == "docker-bridge" else {}
    other = run(scenario(cni=cni, cluster=nodes, traffic={"workload": "tcp_rr"}))
    plain = run(scenario(cni="flannel-host-gw", traffic={"workload": "tcp_rr"}))
    assert other.planned.plan.visits != plain.planned.plan.visits
    assert np.corrcoef(receiver_luck(plain), receiver_luck(other))[0, 1] > 0.95


REPLICATIONS = 60
AMONG_500: dict[str, Any] = {
    "cluster": {"nodes": 3, "services": 500, "endpoints": 5},
    "cni": "flannel-vxlan",
}
TRAFFIC: dict[str, dict[str, Any]] = {
    "tcp_crr": {"workload": "tcp_crr", "transactions": 300},
    "poisson_connections": {
        "workload": "poisson_connections", "clients": 3, "connections": 400, "rate_per_s": 2000,
    },
}  # fmt: skip


@cache
def summaries(workload: str, proxy: str) -> list[dict[str, Any]]:
    """What replications of a setting say."""
    setting = {**AMONG_500, "proxy": proxy, "traffic": TRAFFIC[workload]}
    return [run(Scenario.model_validate({**setting, "replication": number})).summary for number in range(REPLICATIONS)]


@pytest.mark.slow
@pytest.mark.parametrize("measure", ["latency_mean_ns", "latency_p50_ns", "cpu_ns_per_transaction"])
@pytest.mark.parametrize("workload", sorted(TRAFFIC))
def test_a_difference_of_proxies_is_known_three_times_better(workload: str, measure: str) -> None:
    """Against Welch's interval, which is what there would be to say if each proxy had met packets of its own."""
    iptables, nftables = (
        np.array([one[measure] for one in summaries(workload, proxy)]) for proxy in ("iptables", "nftables")
    )
    paired = difference_interval(iptables, nftables)
    unpaired = stats.ttest_ind(iptables, nftables, equal_var=False).confidence_interval(0.95)
    assert (unpaired.high - unpaired.low) / 2 > 3 * paired.half_width
