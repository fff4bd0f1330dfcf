"""What changes cost the control plane: rules by count, against what the texts say."""

from __future__ import annotations

from typing import Any

import pytest

from kubesim.errors import InputError
from tests.scenarios import PROXIES, simulate


def update(proxy: Any, change: str, services: int, endpoints: int = 3, sync: str = "partial") -> dict[str, Any]:
    result = simulate(
        proxy=proxy,
        cluster={"services": services, "endpoints": endpoints},
        update={"change": change, "sync": sync},
        traffic={"transactions": 1},
        warmup=0,
    )
    return result.summary


@pytest.mark.parametrize("services", [1, 20])
@pytest.mark.parametrize("endpoints", [1, 3])
def test_iptables_writes_by_formula(services: int, endpoints: int) -> None:
    """Fixed 4 and 5 rules, one rule a Service, and of the changed one 1 + 3·endpoints more; in full all of them."""
    added = update("iptables", "service-added", services, endpoints)
    body = 1 + 3 * endpoints
    assert added["update_rules"] == 9 + (services + 1) + body
    assert update("iptables", "endpoint-replaced", services, endpoints)["update_rules"] == added["update_rules"]
    full = update("iptables", "service-added", services, endpoints, sync="full")
    assert full["update_rules"] == 9 + (services + 1) * (1 + body)
    restarted = update("iptables", "node-restarted", services, endpoints)
    assert restarted["update_rules"] == 9 + services * (1 + body)


def test_nftables_writes_everything_each_time() -> None:
    few, many = (update("nftables", "service-added", services) for services in (10, 20))
    per_service = 2 + 3 * 2 + 2  # chain of the Service, of each endpoint, elements of service-ips and cluster-ips
    assert many["update_rules"] - few["update_rules"] == 10 * per_service


def test_ipvs_writes_what_has_changed() -> None:
    """The 17 rules and, of a new Service: its place, its address, itself, 3 servers, and the address to bind."""
    few, many = (update("ipvs", "service-added", services) for services in (1, 50))
    assert few["update_rules"] == many["update_rules"]
    assert few["update_bytes"] == many["update_bytes"]


def test_ipvs_writes_all_when_a_node_starts() -> None:
    """Of each Service: its place and its address in sets, itself, 3 servers and the address to bind."""
    few, many = (update("ipvs", "node-restarted", services)["update_rules"] for services in (1, 50))
    assert many - few == 49 * (2 + 1 + 3 + 1)


def test_ipvs_reads_all_services_whatever_has_changed() -> None:
    """Of each Service: 3 requests; itself and 3 servers in lists; 2 entries of sets; its address in 3 lists."""
    times = [update("ipvs", "endpoint-replaced", services)["update_ns"] for services in (1, 1000, 10_000)]
    of_one = 3 * 8700 + 4 * 2600 + 7000 + 450 + 3 * 290
    assert times[1] - times[0] == pytest.approx(999 * of_one)
    assert times[2] - times[1] == pytest.approx(9000 * of_one)


def test_iptables_reads_its_table_only_in_small_clusters() -> None:
    """Up to 1000 endpoints kube-proxy runs iptables-save at each sync: 2.1 us a rule, of which it writes one again."""
    times = [update("iptables", "endpoint-replaced", services)["update_ns"] for services in (100, 200, 300, 400)]
    rules = 2 + 3 * 3  # of one Service in table nat
    assert times[1] - times[0] == pytest.approx(100 * (4000 + rules * (3400 + 2100)), rel=0.01)
    assert times[3] - times[2] < 100 * (4000 + rules * 3400)


def test_a_longer_table_takes_longer_even_for_a_partial_sync() -> None:
    few, many = (update("iptables", "endpoint-replaced", services) for services in (10, 1000))
    assert many["update_ns"] > 10 * few["update_ns"]


def test_the_nft_back_end_has_prices_of_its_own() -> None:
    """11 009 rules: 4 us each and 3.4 us in the table; with nft 34 us, 118 us and from 10 000 on 156 us, measured."""
    legacy, nft = (
        update({"name": "iptables", "backend": backend}, "node-restarted", 1000) for backend in ("legacy", "nft")
    )
    assert legacy["update_rules"] == nft["update_rules"] == 11_009
    starting_ns = 3 * 14 * 900_000  # a process for each chain and jump
    assert legacy["update_ns"] == pytest.approx(starting_ns + 1_200_000 + 11_009 * 4000 + 11_023 * 3400, rel=0.001)
    expected_ns = starting_ns + 700_000 + 5000 * 34_000 + 5000 * 118_000 + 1009 * 156_000
    assert nft["update_ns"] == pytest.approx(expected_ns, rel=0.001)


@pytest.mark.parametrize("proxy", PROXIES)
def test_every_proxy_says_what_a_change_costs(proxy: str) -> None:
    found = update(proxy, "service-added", 5)
    assert (found["update_rules"] == 0) is (proxy == "none")
    assert (found["update_ns"] > 0) is (proxy != "none")


def test_a_scenario_without_a_change_says_nothing() -> None:
    assert "update_ns" not in simulate(traffic={"transactions": 1}).summary


def test_an_unknown_change_is_told() -> None:
    with pytest.raises((InputError, ValueError), match="service-added"):
        update("iptables", "service-gone", 1)
