"""kube-proxy's nftables mode: a map lookup in place of a scan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kubesim.kernel.netfilter.hooks import Hook, HookCall
from kubesim.kernel.packet import Packet
from kubesim.proxy._kube_proxy import digest
from tests.clusters import converse, deploy, sized_cluster
from tests.proxy.test_iptables import example_cluster


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ns1/svc1/tcp/p80", "ULMVA6XW"), ("kube-system/kube-dns/udp/dns__10.244.0.2/53", "2GKX576Q")],
)
def test_chain_names_are_kube_proxys(name: str, expected: str) -> None:
    assert digest(name, 8) == expected


@pytest.mark.parametrize("services", [1, 100, 1000])
@pytest.mark.parametrize("endpoints", [1, 10, 100])
def test_fourteen_rules_whatever_the_number(services: int, endpoints: int) -> None:
    cluster = sized_cluster(services, endpoints, endpoint_nodes=["node-1"])
    deployment = deploy(cluster, "calico-bgp", "nftables")
    service = cluster.all_services[-1]
    found = converse(deployment, cluster.pod("client-1").address, str(service.cluster_ip), 80)
    assert sum(found.first.rules_tested.values()) == 14
    assert found.established is not None
    assert sum(found.established.rules_tested.values()) == 3
    assert found.established.rules_tested == {
        ("node-1", "filter-prerouting/PREROUTING"): 1,
        ("node-1", "filter-forward/FORWARD"): 2,
    }


def test_an_unknown_port_of_a_virtual_address_is_rejected() -> None:
    cluster = sized_cluster(services=1, endpoints=1)
    client, virtual = cluster.pod("client-1").address, str(cluster.service("svc-1").cluster_ip)
    reason = converse(deploy(cluster, "calico-bgp", "nftables"), client, virtual, 81).first.reason
    assert reason is not None
    assert "Reject traffic to invalid ports of ClusterIPs" in reason
    left = converse(deploy(cluster, "calico-bgp", "iptables"), client, virtual, 81).first.reason
    assert left == f"{virtual} is not in the cluster: the packet leaves through 192.168.0.1"


def test_endpoints_are_taken_alike() -> None:
    cluster = sized_cluster(services=1, endpoints=5)
    deployment = deploy(cluster, "calico-bgp", "nftables")
    client, virtual = cluster.pod("client-1").address, str(cluster.service("svc-1").cluster_ip)
    taken = [
        converse(deployment, client, virtual, 80, luck=(n + 0.5) / 5, source_port=n + 1).first.packet.destination
        for n in range(5)
    ]
    assert len(set(taken)) == 5


def test_rules_tested_equal_the_kernels_on_a_worked_example(shared_data: Path, tmp_path: Path) -> None:
    directory = shared_data / "kubeproxy" / "cluster_ip_general"
    root = deploy(example_cluster(directory, tmp_path), "calico-bgp", "nftables").host("test-hostname").root
    (table,) = root.nft_tables
    measured = json.loads((directory / "kernel_flows_nftables.json").read_text())
    for flow in measured["flows"]:
        packet = Packet(flow["sourceIP"], flow["destIP"], flow["protocol"], 20_000, flow["destPort"], 0)
        packet.state = "NEW"
        tested = {
            name: table.outcomes(name, packet, HookCall(Hook.PREROUTING, root, "pod", None))[0].tested
            for name in ("filter-prerouting", "nat-prerouting")
        }
        per_chain = {name: sum(counts) for name, counts in flow["rulesEvaluatedPerChain"].items()}
        in_nat = ("nat-prerouting", "services", "service-", "endpoint-", "mark-for-masquerade")
        assert tested["filter-prerouting"] == per_chain["filter-prerouting"] + per_chain["firewall-check"]
        expected = sum(count for name, count in per_chain.items() if name.startswith(in_nat) and "-check" not in name)
        assert tested["nat-prerouting"] == expected, flow["name"]
