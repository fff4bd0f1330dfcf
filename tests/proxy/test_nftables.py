"""kube-proxy's nftables mode: its text to the letter, and a map lookup in place of a scan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from kubesim.cluster import Cluster
from kubesim.cluster.records import Node
from kubesim.errors import InputError
from kubesim.kernel.namespace import Host, Namespace
from kubesim.kernel.netfilter.hooks import Hook, HookCall
from kubesim.kernel.netfilter.nft_matches import InNftSet, VerdictMap
from kubesim.kernel.netfilter.nft_ruleset import read_nft
from kubesim.kernel.netfilter.rule import Rule
from kubesim.kernel.netfilter.targets import DestinationNat
from kubesim.kernel.packet import Packet
from kubesim.kernel.walk import Chance
from kubesim.proxy._kube_proxy import digest
from kubesim.proxy._nftables_rules import hashed
from kubesim.proxy._nftables_text import service_chains
from kubesim.proxy.nftables import Plugin, Settings
from tests.clusters import ROUTED, cluster_of, converse, deploy, sized_cluster
from tests.kubeproxy_examples import Example, each_example
from tests.proxy.nft_packets import all_fates
from tests.real_nft import real_nft


def proxy_of(example: Example, cluster: Cluster | None = None) -> Plugin:
    return Plugin(cluster or example.cluster(), Settings(**example.settings()))


@each_example
def test_the_text_is_kube_proxys(name: str, tmp_path: Path) -> None:
    example = Example(name, tmp_path)
    is_ipv6 = example.config["ipFamily"] == "IPv6"
    text = proxy_of(example).text(example.node, family="ipv6" if is_ipv6 else "ipv4")
    assert example.marked(text) == example.text("expected.nftables")


@each_example
def test_later_syncs_write_what_kube_proxy_writes(name: str, tmp_path: Path) -> None:
    example = Example(name, tmp_path)
    stale = service_chains(proxy_of(example).rules(example.node))
    for step, cluster, _ in example.steps():
        proxy = proxy_of(example, cluster)
        text = proxy.text(example.node, stale_chains=stale)
        assert example.marked(text) == example.text(f"expected.nftables.{step}"), step
        stale |= service_chains(proxy.rules(example.node))


@each_example
@pytest.mark.parametrize("source", ["text", "plugin"])
def test_packets_fare_as_in_the_kernel(name: str, source: str, tmp_path: Path) -> None:
    example = Example(name, tmp_path)
    if not (example.path / "kernel_flows_nftables.json").exists():
        pytest.skip("no packets were sent through this example")
    local = json.loads(example.text("flows.json"))["localIPs"]
    if source == "text":
        install: Callable[[Namespace], object] = read_nft(example.text("expected.nftables"), name).install
    else:
        proxy = proxy_of(example)

        def install(namespace: Namespace) -> None:
            proxy.install(namespace, example.node)

    for flow in json.loads(example.text("kernel_flows_nftables.json"))["flows"]:
        fates = all_fates(install, local, flow, ways=12)
        same = [one for one in fates if one.destination == (flow["dnat"] or "") and one.verdict == flow["verdict"]]
        assert same, (flow["name"], fates)
        if isinstance(flow["iptablesExpectation"], list) and flow["sameAsIptablesExpectation"]:
            assert {one.destination for one in fates} == set(flow["iptablesExpectation"])
        for fate in same:
            assert fate.counts == flow["rulesEvaluatedPerChain"], flow["name"]
            assert fate.rules_tested == flow["totalRulesEvaluated"]
            assert flow["masqueraded"] is None or fate.is_masqueraded is flow["masqueraded"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ns1/svc1/tcp/p80", "ULMVA6XW"), ("kube-system/kube-dns/udp/dns__10.244.0.2/53", "2GKX576Q")],
)
def test_chain_names_are_kube_proxys(name: str, expected: str) -> None:
    assert digest(name, 8) == expected
    assert hashed(name) == f"{expected}-{name}"


def test_names_that_are_too_long_are_cut() -> None:
    found = hashed("n" * 63 + "/" + "s" * 200 + "/tcp/p80")
    assert len(found) == 240
    assert found.endswith("sss...")
    assert found != hashed("n" * 63 + "/" + "s" * 201 + "/tcp/p80")


@pytest.mark.parametrize("services", [1, 100, 1000])
@pytest.mark.parametrize("endpoints", [1, 10, 100])
def test_fourteen_rules_whatever_the_number(services: int, endpoints: int) -> None:
    cluster = sized_cluster(services, endpoints, endpoint_nodes=["node-1"])
    deployment = deploy(cluster, ROUTED, "nftables")
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
    reason = converse(deploy(cluster, ROUTED, "nftables"), client, virtual, 81).first.reason
    assert reason is not None
    assert "Reject traffic to invalid ports of ClusterIPs" in reason
    left = converse(deploy(cluster, ROUTED, "iptables"), client, virtual, 81).first.reason
    assert left == f"{virtual} is not in the cluster: the packet leaves through 192.168.0.1"


def test_a_service_without_endpoints_says_so() -> None:
    cluster = sized_cluster(services=1, endpoints=0)
    client, virtual = cluster.pod("client-1").address, str(cluster.service("svc-1").cluster_ip)
    reason = converse(deploy(cluster, ROUTED, "nftables"), client, virtual, 80).first.reason
    assert reason is not None
    assert reason.endswith("helper for @no-endpoint-services / @no-endpoint-nodeports")


def test_endpoints_are_taken_alike() -> None:
    cluster = sized_cluster(services=1, endpoints=5)
    deployment = deploy(cluster, ROUTED, "nftables")
    client, virtual = cluster.pod("client-1").address, str(cluster.service("svc-1").cluster_ip)
    taken = [
        converse(deployment, client, virtual, 80, luck=(n + 0.5) / 5, source_port=n + 1).first.packet.destination
        for n in range(5)
    ]
    assert len(set(taken)) == 5


def test_every_way_to_an_endpoint_is_found() -> None:
    cluster = sized_cluster(services=3, endpoints=7)
    root = deploy(cluster, ROUTED, "nftables").host("node-1").root
    service = cluster.service("svc-2")
    packet = Packet(cluster.pod("client-1").address, str(service.cluster_ip), "tcp", 4000, 80, 0)
    (table,) = root.nft_tables
    outcomes = table.outcomes("nat-prerouting", packet, HookCall(Hook.PREROUTING, root, "cali", None))
    found = {
        (state.verdict.address, state.verdict.port) for state in outcomes if isinstance(state.verdict, DestinationNat)
    }
    assert found == {(one.address, one.port) for one in cluster.endpoints(service, service.ports[0])}
    assert [state.probability for state in outcomes] == [pytest.approx(1 / 7)] * 7


EVERYTHING = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: LoadBalancer
  clusterIP: 10.96.1.1
  clusterIPs: [10.96.1.1, "fd00:10:96::1"]
  ipFamilies: [IPv4, IPv6]
  externalIPs: [203.0.113.9, "2001:db8:9::9"]
  externalTrafficPolicy: Local
  loadBalancerSourceRanges: [192.168.0.0/16, "2001:db8::/32"]
  sessionAffinity: ClientIP
  ports:
  - {name: http, port: 80, targetPort: 8080, nodePort: 30080}
  - {name: quic, port: 80, protocol: UDP, targetPort: 8080, nodePort: 30080}
  - {name: assoc, port: 90, protocol: SCTP, nodePort: 30090}
status: {loadBalancer: {ingress: [{ip: 198.51.100.7}, {ip: "2001:db8:7::7"}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-4, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: quic, port: 8080, protocol: UDP}]
endpoints:
- {addresses: [10.244.1.9], nodeName: node-b}
- {addresses: [10.244.0.9], nodeName: node-a}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-6, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: ["fd00:10:244:1::9"], nodeName: node-b}
"""

NODE = Node("node-a", "192.168.0.2", "10.244.0.0/24", addresses=("192.168.0.2", "192.168.9.2", "2001:db8::2"))


def everything(tmp_path: Path, **settings: object) -> Plugin:
    return Plugin(cluster_of(EVERYTHING, tmp_path), Settings.model_validate(settings))


def lines(text: str, start: str) -> list[str]:
    """What stands behind a start, for all lines that have it."""
    return [line[len(start) :] for line in text.splitlines() if line.startswith(start)]


def rules_in(text: str, kind: str, port: str, family: str = "ip") -> list[str]:
    return lines(text, f"add rule {family} kube-proxy {kind}-{hashed(f'shop/web/{port}')} ")


def test_external_policy_local_has_short_cuts(tmp_path: Path) -> None:
    text = everything(tmp_path, cluster_cidr=["10.244.0.0/16"]).text(NODE)
    http = hashed("shop/web/tcp/http")
    assert rules_in(text, "external", "tcp/http") == [
        f'ip saddr 10.244.0.0/16 goto service-{http} comment "short-circuit pod traffic"',
        'fib saddr type local jump mark-for-masquerade comment "masquerade local traffic"',
        f'fib saddr type local goto service-{http} comment "short-circuit local traffic"',
        f"goto local-{http}",
    ]
    assert rules_in(text, "firewall", "tcp/http") == ["ip saddr != { 192.168.0.0/16 , 198.51.100.7 } drop"]
    assert lines(text, "add element ip kube-proxy firewall-ips ") == [
        f'{{ 198.51.100.7 . sctp . 90 comment "shop/web:assoc" : goto firewall-{hashed("shop/web/sctp/assoc")} }}',
        f'{{ 198.51.100.7 . tcp . 80 comment "shop/web:http" : goto firewall-{http} }}',
        f'{{ 198.51.100.7 . udp . 80 comment "shop/web:quic" : goto firewall-{hashed("shop/web/udp/quic")} }}',
    ]


def test_endpoints_remember_clients(tmp_path: Path) -> None:
    text = everything(tmp_path).text(NODE)
    here = hashed("shop/web/tcp/http__10.244.0.9/8080")
    there = hashed("shop/web/tcp/http__10.244.1.9/8080")
    assert f"affinity-{here} {{ type ipv4_addr ; flags dynamic,timeout ; timeout 10800s ; }}" in text
    assert rules_in(text, "local", "tcp/http") == [
        f"ip saddr @affinity-{here} goto endpoint-{here}",
        f"numgen random mod 1 vmap {{ 0 : goto endpoint-{here} }}",
    ]
    assert rules_in(text, "service", "tcp/http")[1:] == [
        f"ip saddr @affinity-{here} goto endpoint-{here}",
        f"ip saddr @affinity-{there} goto endpoint-{there}",
        f"numgen random mod 2 vmap {{ 0 : goto endpoint-{here} , 1 : goto endpoint-{there} }}",
    ]
    assert lines(text, f"add rule ip kube-proxy endpoint-{here} ") == [
        "ip saddr 10.244.0.9 jump mark-for-masquerade",
        f"update @affinity-{here} {{ ip saddr }}",
        "meta l4proto tcp dnat to 10.244.0.9:8080",
    ]


def test_what_has_no_endpoints_is_rejected_everywhere(tmp_path: Path) -> None:
    text = everything(tmp_path).text(NODE)
    note = 'comment "shop/web:assoc" : goto reject-chain'
    assert lines(text, "add element ip kube-proxy no-endpoint-services ") == [
        f"{{ {address} . sctp . 90 {note} }}" for address in ("10.96.1.1", "203.0.113.9", "198.51.100.7")
    ]
    assert lines(text, "add element ip kube-proxy no-endpoint-nodeports ") == [f"{{ sctp . 30090 {note} }}"]


def test_what_has_endpoints_elsewhere_only_is_dropped(tmp_path: Path) -> None:
    other = Node("node-c", "192.168.0.4", "10.244.2.0/24")
    text = everything(tmp_path, cluster_cidr=[]).text(other)
    http = hashed("shop/web/tcp/http")
    drops = [line for line in text.splitlines() if line.endswith(" : drop }") and ":http" in line]
    assert len(drops) == 3, "the external address, the load balancer's, and the node port"
    assert rules_in(text, "external", "tcp/http") == [
        'fib saddr type local jump mark-for-masquerade comment "masquerade local traffic"',
        f'fib saddr type local goto service-{http} comment "short-circuit local traffic"',
    ]
    assert rules_in(text, "service", "tcp/http")[0].startswith("ip saddr @affinity"), "without a detector no marking"


def test_ipv6_has_a_table_of_its_own(tmp_path: Path) -> None:
    text = everything(tmp_path, cluster_cidr=["10.244.0.0/16", "fd00:10:244::/48"]).text(NODE, "nft", "ipv6")
    there = hashed("shop/web/tcp/http__fd00.10.244.1..9/8080")
    assert "10.96" not in text
    assert text.startswith('add table ip6 kube-proxy { comment "rules for kube-proxy" ; }\n')
    assert "add set ip6 kube-proxy cluster-ips { type ipv6_addr ; " in text
    assert rules_in(text, "service", "tcp/http", "ip6")[0] == (
        "ip6 daddr fd00:10:96::1 tcp dport 80 ip6 saddr != fd00:10:244::/48 jump mark-for-masquerade"
    )
    assert lines(text, f"add rule ip6 kube-proxy endpoint-{there} ") == [
        "ip6 saddr fd00:10:244:1::9 jump mark-for-masquerade",
        f"update @affinity-{there} {{ ip6 saddr }}",
        "meta l4proto tcp dnat to [fd00:10:244:1::9]:8080",
    ]
    assert lines(text, "add element ip6 kube-proxy nodeport-ips ") == ["{ 2001:db8::2 }"]
    assert rules_in(text, "firewall", "tcp/http", "ip6") == ["ip6 saddr != { 2001:db8::/32 , 2001:db8:7::7 } drop"]


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([], ["192.168.0.2"]),
        (["192.168.0.0/16"], ["192.168.0.2", "192.168.9.2"]),
        (["192.168.9.0/24", "127.0.0.0/8"], ["192.168.9.2"]),
        (["10.0.0.0/8"], []),
        (["2001:db8::/64"], ["192.168.0.2"]),
    ],
)
def test_node_ports_are_on_some_addresses(ranges: list[str], expected: list[str], tmp_path: Path) -> None:
    text = everything(tmp_path, node_port_addresses=ranges).text(NODE)
    assert lines(text, "add element ip kube-proxy nodeport-ips ") == [f"{{ {address} }}" for address in expected]
    assert "ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports\n" in text


def test_node_ports_may_be_on_all_addresses(tmp_path: Path) -> None:
    proxy = everything(tmp_path, node_port_addresses=["0.0.0.0/0", "::/0"])
    four, six = proxy.text(NODE), proxy.text(NODE, family="ipv6")
    assert "nodeport-ips" not in four + six
    assert lines(four, "add rule ip kube-proxy services ")[1] == (
        "fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports"
    )
    assert lines(six, "add rule ip6 kube-proxy nodeport-endpoints-check ") == [
        "fib daddr type local ip6 daddr != ::1 meta l4proto . th dport vmap @no-endpoint-nodeports"
    ]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"masquerade_all": True}, ""),
        ({"detect_local_mode": "BridgeInterface", "bridge_interface": "cni0"}, "iif != cni0 "),
        ({"detect_local_mode": "InterfaceNamePrefix", "interface_name_prefix": "cali"}, "iifname != cali* "),
        ({"detect_local_mode": "NodeCIDR"}, "ip saddr != 10.244.0.0/24 "),
    ],
)
def test_what_is_masqueraded(settings: dict[str, object], expected: str, tmp_path: Path) -> None:
    text = everything(tmp_path, masquerade_bit=3, **settings).text(NODE)
    first = rules_in(text, "service", "tcp/http")[0]
    assert first == f"ip daddr 10.96.1.1 tcp dport 80 {expected}jump mark-for-masquerade"
    assert lines(text, "add rule ip kube-proxy mark-for-masquerade ") == ["mark set mark or 0x00000008"]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    proxy = everything(tmp_path, node_port_addresses=["0.0.0.0/0"])
    for family, name in (("ipv4", "ip"), ("ipv6", "ip6")):
        rules = read_nft(proxy.text(NODE, "nft", family), "text")  # type: ignore[arg-type]
        assert not rules.unmodelled()
        assert len(rules.table(name, "kube-proxy").bases) == 8


@pytest.mark.root
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"masquerade_all": True, "node_port_addresses": ["0.0.0.0/0", "::/0"]},
        {"detect_local_mode": "InterfaceNamePrefix", "interface_name_prefix": "cali"},
    ],
)
def test_the_real_nft_takes_what_is_written(settings: dict[str, object], tmp_path: Path) -> None:
    proxy = everything(tmp_path, **settings)
    texts = [proxy.text(NODE), proxy.text(NODE, family="ipv6")]
    with real_nft() as nft:
        for text in texts:
            nft.load(text)
        listed = read_nft(nft.listed(), "nft list")
    for text in texts:
        ((key, written),) = read_nft(text, "text").tables.items()
        there = listed.table(*key)
        assert there.bases == written.bases
        assert {name: len(members) for name, members in there.sets.items()} == {
            name: len(members) for name, members in written.sets.items()
        }
        assert [_seen(*one) for one in there.rules()] == [_seen(*one) for one in written.rules()]


def _seen(chain: str, rule: Rule) -> tuple[str, int, str, str, str]:
    """What of a rule is the same however the members of its sets are sorted."""
    target = type(rule.target).__name__ if isinstance(rule.target, VerdictMap) else str(rule.target)
    kinds = " ".join(type(match).__name__ for match in rule.matches)
    return chain, len(rule.matches), kinds, target, rule.note


def test_there_is_one_form(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'nft'"):
        everything(tmp_path).text(NODE, "nftt")


def test_node_ports_are_each_nodes_own() -> None:
    cluster = sized_cluster(services=1, endpoints=1)
    proxy = Plugin(cluster, Settings())
    found = {}
    for node in cluster.nodes:
        root = Host(node.name).root
        proxy.install(root, node)
        (table,) = root.nft_tables
        (match,) = table.chain("nodeport-endpoints-check").rules[0].matches
        assert isinstance(match, InNftSet)
        found[node.name] = [one.address for one in cluster.nodes if match.members.contains((one.address,), root)]
        assert table.chain("firewall-check") is proxy._shared.of(cluster.nodes[0]).chain("firewall-check")
    assert found == {node.name: [node.address] for node in cluster.nodes}


def test_a_chain_that_is_nobodys() -> None:
    cluster = sized_cluster(services=2, endpoints=2)
    root = Host("node-1").root
    Plugin(cluster, Settings()).install(root, cluster.nodes[0])
    (table,) = root.nft_tables
    name = hashed("default/svc-1/tcp/")
    assert len(table.chain(f"service-{name}")) == 2
    with pytest.raises(KeyError, match="no chain endpoint-of-nobody"):
        table.chain("endpoint-of-nobody")


def test_a_sync_writes_everything() -> None:
    sizes = {}
    for services in (10, 20, 2000):
        cluster = sized_cluster(services=services, endpoints=3)
        proxy = Plugin(cluster, Settings())
        update = proxy.update(cluster.nodes[0], proxy, is_partial=True)
        sizes[services] = update.rules
        if services <= 20:
            text = proxy.text(cluster.nodes[0])
            assert update.rules == text.count("\nadd rule") + text.count("\nadd element")
            assert 1 < update.text_bytes / len(text) < 1.3
    assert sizes[20] - sizes[10] == 10 * (2 + 3 * 2 + 2)
    assert sizes[2000] - sizes[20] == 1980 * (2 + 3 * 2 + 2)


def test_the_first_packet_among_many_services_is_quick() -> None:
    cluster = sized_cluster(services=20_000, endpoints=10)
    root = Host("node-1").root
    proxy = Plugin(cluster, Settings())
    proxy.install(root, cluster.nodes[0])
    (table,) = root.nft_tables
    packet = Packet(cluster.pod("client-1").address, str(cluster.all_services[-1].cluster_ip), "tcp", 4000, 80, 0)
    call = HookCall(Hook.PREROUTING, root, "cali", None)
    (state,) = table.outcomes("nat-prerouting", packet, call, Chance(0.5))
    assert state.tested == 1 + 1 + 2 + 2
    shared = proxy._shared.of(cluster.nodes[0])
    assert len(shared._chains) <= 10, "only chains that were walked are read"
