"""NodeLocal DNSCache: queries stay on the node, and neither connection tracking nor NAT sees them."""

from __future__ import annotations

from typing import Any

import pytest

from kubesim.scenario import run, trace
from tests.scenarios import CNIS, PROXIES, scenario

ADDRESS = "169.254.20.10"


def with_cache(cni: str, proxy: str, **dns: Any) -> Any:
    """A small scenario whose clients look names up."""
    traffic = {"workload": "tcp_crr", "transactions": 5, "connections": 1, "dns": {"server": "node-local", **dns}}
    return scenario(cni=cni, proxy=proxy, traffic=traffic)


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("cni", [cni for cni in CNIS if cni != "antrea-geneve"])  # whose switch tracks by itself
def test_a_query_is_answered_on_the_node_without_a_connection(cni: str, proxy: str) -> None:
    found = trace(with_cache(cni, proxy), "client-1", f"{ADDRESS}:53", protocol="udp")
    assert [packet.delivered_to for packet in found.packets] == ["node-1", "default/client-1"] * 2
    for query, answer in (found.packets[:2], found.packets[2:]):
        for packet in (query, answer):
            done = {one.hop.operation for one in packet.hops}
            assert not done & {"conntrack_lookup", "conntrack_new", "nat_setup", "nat_rewrite", "nic_transmit"}
            assert not any(place.startswith("nat") for _, place in packet.path.rules_tested)
        hooks = [visit.hook for visit in query.path.hooks if visit.family == "inet"]
        assert hooks == ["prerouting", "input"]
        assert [visit.hook for visit in answer.path.hooks if visit.family == "inet"] == ["output", "postrouting"]
        assert query.path.rules_tested["node-1", "raw/PREROUTING"] >= 2, "behind those of the CNI plugin"
        assert answer.path.packet.source == ADDRESS


@pytest.mark.parametrize("proxy", PROXIES)
def test_a_run_asks_the_cache(proxy: str) -> None:
    result = run(with_cache("flannel-vxlan", proxy))
    assert result.summary["lost_transactions"] == 0
    hops = result.hops()
    queries = hops[hops["kind"] == "dns_query"]
    assert set(queries["node"]) == {"node-1"}
    assert "conntrack_lookup" not in set(queries["operation"])
    assert set(result.transactions["service"]) <= {f"default/svc-{number:02}" for number in range(1, 11)}
    answers = hops[hops["operation"] == "dns_cached_answer"]
    assert len(answers) == 2 * 5, "of both families, before each connection"


def test_kube_dns_is_asked_through_the_service_proxy() -> None:
    def latency_ns(**dns: Any) -> float:
        result = run(with_cache("flannel-vxlan", "iptables", **dns))
        return float(result.summary["latency_p50_ns"])

    result = run(with_cache("flannel-vxlan", "iptables", server="kube-dns"))
    hops = result.hops()
    assert {"nat_rewrite", "iptables_rule"} <= set(hops.loc[hops["kind"] == "dns_query", "operation"])
    assert latency_ns() < latency_ns(server="kube-dns") < latency_ns(server="kube-dns", name="full")
