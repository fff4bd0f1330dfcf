"""NodeLocal DNSCache: queries stay on the node, and neither connection tracking nor NAT sees them."""

from __future__ import annotations

from typing import Any

import pytest

from kubesim.kernel.netfilter.hooks import Hook
from kubesim.scenario import run, trace
from tests.scenarios import CNIS, PROXIES, scenario

ADDRESS = "169.254.20.10"


def with_cache(cni: str, proxy: str, **dns: Any) -> Any:
    """A small scenario whose clients look names up."""
    traffic = {"workload": "tcp_crr", "transactions": 5, "connections": 1, "dns": {"server": "node-local", **dns}}
    return scenario(cni=cni, proxy=proxy, traffic=traffic)


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("cni", CNIS)
def test_a_query_is_answered_on_the_node_without_a_connection(cni: str, proxy: str) -> None:
    found = trace(with_cache(cni, proxy), "client-1", f"{ADDRESS}:53", protocol="udp")
    assert [packet.delivered_to for packet in found.packets] == ["node-1", "default/client-1"] * 2
    for query, answer in (found.packets[:2], found.packets[2:]):
        for packet in (query, answer):
            at_hooks = [one.hop for one in packet.hops if one.hop.at.rpartition("/")[2] in Hook.__members__]
            done = {hop.operation for hop in at_hooks}  # a switch of the CNI plugin's may track by itself
            assert not done & {"conntrack_lookup", "conntrack_new", "nat_setup", "nat_rewrite"}
            assert "nic_transmit" not in {one.hop.operation for one in packet.hops}
            assert not any(place.startswith("nat") for _, place in packet.path.rules_tested)
        hooks = [visit.hook for visit in query.path.hooks if visit.family == "inet"]
        assert hooks == ["prerouting", "input"]
        assert [visit.hook for visit in answer.path.hooks if visit.family == "inet"] == ["output", "postrouting"]
        own = {"calico-bgp": 7, "calico-ipip": 7, "calico-vxlan": 8, "antrea-geneve": 2}.get(cni, 0)
        assert query.path.rules_tested["node-1", "raw/PREROUTING"] == own + 2, "behind those of the CNI plugin"
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
