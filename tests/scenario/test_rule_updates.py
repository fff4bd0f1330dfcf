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
        warmup_ratio=0,
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
    few, many = (update("ipvs", "service-added", services) for services in (1, 50))
    assert few["update_rules"] == many["update_rules"]
    assert few["update_ns"] == many["update_ns"]
    assert (
        update("ipvs", "node-restarted", 50)["update_rules"]
        > 10 * update("ipvs", "node-restarted", 1)["update_rules"] / 4
    )


def test_a_longer_table_takes_longer_even_for_a_partial_sync() -> None:
    few, many = (update("iptables", "endpoint-replaced", services) for services in (10, 1000))
    assert many["update_ns"] > 10 * few["update_ns"]


def test_the_nft_back_end_has_prices_of_its_own() -> None:
    legacy, nft = (
        update({"name": "iptables", "backend": backend}, "node-restarted", 1000) for backend in ("legacy", "nft")
    )
    assert legacy["update_rules"] == nft["update_rules"]
    assert nft["update_ns"] > legacy["update_ns"]


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
