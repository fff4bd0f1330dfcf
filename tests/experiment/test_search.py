"""Searches on small real scenarios; what they find is held against runs that are made for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from kubesim.errors import InputError
from kubesim.experiment import Place
from kubesim.experiment.bisection import Span
from kubesim.experiment.search import Found, range_of, search
from kubesim.experiment.verdicts import Verdict
from kubesim.files import YamlDocument
from kubesim.scenario import Scenario, run
from kubesim.scenario.fields import set_field

if TYPE_CHECKING:
    from kubesim.experiment.search import Tried

OPEN: dict[str, Any] = {
    "name": "open",
    "cluster": {"nodes": 2, "services": 1, "endpoints": 2, "endpoint_nodes": ["node-2"]},
    "cni": "flannel-host-gw",
    "proxy": "iptables",
    "hardware": {"cores": 2, "softirq_cores": 1},
    "traffic": {
        "workload": "poisson_connections",
        "clients_on": ["node-1"],
        "connections": 100,
        "rate_per_s": 20_000.0,
    },
}
CLOSED: dict[str, Any] = {
    **OPEN,
    "hardware": {},
    "traffic": {"workload": "tcp_crr", "clients_on": ["node-1"], "transactions": 4},
}
RATE = Span(20_000.0, 5000.0, 80_000.0, is_whole=False, within=0.1)


def find(scenario: dict[str, Any], field: str, until: str, where: Span, at_most: int = 6, **options: Any) -> Found:
    """Search, in this process if nothing else is said."""
    options.setdefault("place", Place(1))
    return search(scenario, Path(), field, until, where, replications_at_most=at_most, **options)


def changed(data: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A scenario with fields changed, which are written with two underscores for a dot."""
    data = {name: dict(value) if isinstance(value, dict) else value for name, value in data.items()}
    for field, value in fields.items():
        set_field(data, field.replace("__", "."), value)
    return data


def measured(data: dict[str, Any], measure: str, replications: int = 3) -> list[float]:
    """A measure of some replications."""
    return [
        float(run(Scenario.model_validate({**data, "replication": number})).summary[measure])
        for number in range(replications)
    ]


def by_verdict(found: Found, verdict: Verdict) -> list[Tried]:
    """The levels of a verdict."""
    return [one for one in found.tried if one.verdict is verdict]


@pytest.fixture(scope="module")
def highest_rate() -> Found:
    """Up to which rate the latency is bounded."""
    return find(OPEN, "traffic.rate_per_s", "mean < 300 us", RATE)


def test_the_highest_rate(highest_rate: Found) -> None:
    found = highest_rate
    assert found.holds_at is not None
    assert found.fails_at is not None
    assert found.holds_at < found.fails_at
    levels = [one.level for one in found.tried]
    assert levels == sorted(set(levels))
    assert (levels[0], levels[-1]) == (RATE.low, RATE.high)
    assert np.mean(measured(changed(OPEN, traffic__rate_per_s=found.holds_at), "latency_mean_ns")) < 300_000
    over = measured(changed(OPEN, traffic__rate_per_s=found.fails_at), "latency_mean_ns")
    assert not np.mean(over) < 300_000, "too high, or none at all"
    assert found.runs == sum(one.interval.replications for one in found.tried)
    for one in found.tried:
        assert 3 <= one.interval.replications <= 6
        assert (one.level <= found.holds_at) == (one.verdict is Verdict.HOLDS)
        assert (one.level >= found.fails_at) == (one.verdict is Verdict.FAILS)


def test_a_rate_that_cannot_be_done_fails(highest_rate: Found) -> None:
    unstable = [one for one in by_verdict(highest_rate, Verdict.FAILS) if one.reason.startswith("unstable")]
    assert highest_rate.tried[-1] in unstable
    assert all(np.isnan(one.interval.estimate) for one in unstable)
    assert np.isnan(measured(changed(OPEN, traffic__rate_per_s=80_000), "latency_p99_ns")).all()
    at_least = find(OPEN, "traffic.rate_per_s", "mean > 300 us", RATE)
    assert at_least.tried[-1].verdict is Verdict.CANNOT_TELL, "no latency is not a high one that is wanted"


def test_workers_make_no_difference(highest_rate: Found) -> None:
    assert repr(find(OPEN, "traffic.rate_per_s", "mean < 300 us", RATE, place=Place(2))) == repr(highest_rate)


def test_levels_are_told_as_they_are_tried() -> None:
    told: list[Tried] = []
    found = find(CLOSED, "cluster.services", "mean < 1 s", Span(1, 1, 3), on_tried=told.append)
    assert [one.level for one in told] == [1, 3]
    assert tuple(told) == found.tried
    assert (found.holds_at, found.fails_at, found.runs) == (3, None, 6)


def test_from_how_many_services_one_proxy_costs_more_than_another() -> None:
    until = "ratio(cpu, proxy=iptables, proxy=nftables) < 1.1"
    found = find(CLOSED, "cluster.services", until, Span(500, 500, 4000, within=0.5))
    assert found.holds_at is not None
    assert found.fails_at is not None
    for services, is_more in ((found.holds_at, False), (found.fails_at, True)):
        each = [
            measured(changed(CLOSED, cluster__services=services, proxy=proxy), "cpu_ns_per_transaction")
            for proxy in ("iptables", "nftables")
        ]
        assert (np.mean(each[0]) > 1.1 * np.mean(each[1])) == is_more
    assert found.runs == 2 * sum(one.interval.replications for one in found.tried)
    assert str(found.expectation) == "ratio(cpu_ns_per_transaction, proxy=iptables, proxy=nftables) < 1.1"


def test_what_holds_downwards() -> None:
    busy = changed(OPEN, hardware={"softirq_cores": 1}, traffic__rate_per_s=60_000.0)
    found = find(busy, "hardware.cores", "mean < 300 us", Span(8, 2, 8))
    assert found.holds_at is not None
    assert found.fails_at is not None
    assert found.fails_at < found.holds_at
    assert np.mean(measured(changed(busy, hardware__cores=found.holds_at), "latency_mean_ns")) < 300_000


def test_it_is_frugal() -> None:
    """Far from the limit three replications tell; at it no number would, which twelve of them show."""
    decided = find(CLOSED, "cluster.services", "mean < 1 s", Span(1, 1, 2), at_most=48)
    assert {one.interval.replications for one in decided.tried} == {3}
    limit_ns = float(np.mean(measured(CLOSED, "latency_mean_ns", 12)))
    at_the_limit = find(CLOSED, "cluster.services", f"mean < {limit_ns!r} ns", Span(1, 1, 2), at_most=48).tried[0]
    assert (at_the_limit.verdict, at_the_limit.interval.replications) == (Verdict.CANNOT_TELL, 12)


def test_a_level_that_runs_refuse_ends_the_way_down() -> None:
    found = find(CLOSED, "cluster.services", "p99 < 1 ns", Span(4, high=4))
    assert (found.holds_at, found.fails_at) == (None, 4)
    assert len(found.refused) == 1
    assert found.refused[0].startswith("cluster.services = 0: there is no Service")


@pytest.mark.parametrize(
    ("until", "message"),
    [
        ("p98 < 1 ms", "--until: 'p98' is no measure: did you mean 'p99'"),
        ("p99 < 1 %", "--until: at '1 %': % is no unit of latency_p99_ns"),
        ("regression: a.parquet within 1 %", "a search needs an expectation of a measure"),
        ("slope(p99 ~ proxy) < 1 ns", "a slope needs several"),
        ("value(p99, services=3) < 1 ms", "at 'services=3': cluster.services is what is varied"),
        ("value(p99, prxy=ipvs) < 1 ms", "prxy: unknown field: did you mean 'proxy'"),
        ("value(p99, proxy=ipv) < 1 ms", "there is no 'ipv': did you mean 'ipvs'"),
        ("ratio(p99, proxy=ipvs, cni=flannel-vxlan) < 1", "a ratio is between two levels of one factor"),
        ("snat_highest_ports < 1", "--until: the results have no 'snat_highest_ports'"),
    ],
)
def test_expectations_that_make_no_sense(until: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        find(CLOSED, "cluster.services", until, Span(1, 1, 2))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_end_that_makes_no_sense_is_refused_before_anything_is_run() -> None:
    told: list[Tried] = []
    with pytest.raises(InputError, match="less than or equal to 250000"):
        find(CLOSED, "cluster.services", "p99 < 1 ms", Span(1, 1, 99_999_999), on_tried=told.append)
    assert not told


def test_where_to_search() -> None:
    document = YamlDocument("open.yaml", OPEN, None)
    assert range_of(document, Path(), "cluster.services") == Span(1)
    assert range_of(document, Path(), "traffic.rate_per_s", within=0.1) == Span(20_000.0, is_whole=False, within=0.1)
    assert range_of(document, Path(), "cluster.endpoints", 2.0, 5.0) == Span(2, 2, 5)
    assert range_of(document, Path(), "traffic.rate_per_s", 2.0).low == 2.0
    assert range_of(document, Path(), "conntrack.max_entries", 64.0) == Span(64, 64)
