"""Every feature of Services and every setting in iptables mode, rule by rule."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubesim.cluster import Cluster, ClusterSpec, build_cluster
from kubesim.proxy import Family
from kubesim.proxy.iptables import Plugin, Settings

EVERY = Path(__file__).parents[1] / "kernel" / "every-feature.yaml"

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: ns%(metadata)s}
spec: {clusterIP: 10.96.0.9, ports: [{port: 80%(port)s}]%(spec)s}
status: {loadBalancer: {ingress: [%(ingress)s]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: ns, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080, name: ""}]
endpoints: [%(endpoints)s]
---
apiVersion: v1
kind: Node
metadata: {name: a, labels: {topology.kubernetes.io/zone: z1}}
spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24, "fd00:1::/64"]}
status: {addresses: [{type: InternalIP, address: 192.168.0.2}, {type: InternalIP, address: "2001:db8::2"}]}
"""
HERE, THERE = "{addresses: [10.244.1.5], nodeName: a}", "{addresses: [10.244.2.5], nodeName: b}"


def cluster_of(tmp_path: Path, **parts: str) -> Cluster:
    file = tmp_path / "web.yaml"
    blank = {"metadata": "", "port": "", "spec": "", "ingress": "", "endpoints": f"{HERE}, {THERE}"}
    file.write_text(SERVICE % {**blank, **parts})
    return build_cluster(ClusterSpec(manifests=[file]))


def lines(cluster: Cluster, family: Family = "ipv4", **settings: Any) -> list[str]:
    chosen = {"cluster_cidr": ["10.244.0.0/16", "fd00::/16"], **settings}
    return Plugin(cluster, Settings(**chosen)).text(cluster.node("a"), "restore", family).splitlines()


def services(found: list[str], chain: str = "KUBE-SERVICES") -> list[str]:
    """The rules of a chain, without what all begin with."""
    return [line.removeprefix(f"-A {chain} -m comment --comment ") for line in found if line.startswith(f"-A {chain} ")]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "! -s 10.244.0.0/16"),
        ({"detect_local_mode": "NodeCIDR"}, "! -s 10.244.1.0/24"),
        ({"detect_local_mode": "BridgeInterface", "bridge_interface": "cni0"}, "! -i cni0"),
        ({"detect_local_mode": "InterfaceNamePrefix", "interface_name_prefix": "cali"}, "! -i cali+"),
        ({"cluster_cidr": []}, None),
        ({"masquerade_all": True}, ""),
    ],
)
def test_what_tells_pods_from_others(settings: dict[str, Any], expected: str | None, tmp_path: Path) -> None:
    found = [line for line in lines(cluster_of(tmp_path), **settings) if line.endswith("--dport 80 -j KUBE-MARK-MASQ")]
    found += [line for line in lines(cluster_of(tmp_path), **settings) if "! -" in line and "KUBE-MARK-MASQ" in line]
    if expected is None:
        assert found == []
    else:
        (rule,) = set(found)
        assert rule.endswith(f"-d 10.96.0.9 --dport 80 {expected} -j KUBE-MARK-MASQ".replace("  ", " "))


def test_node_ports_on_some_addresses_only(tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, port=", nodePort: 30080", spec=", type: NodePort")
    assert services(lines(cluster))[-1].endswith("-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS")
    inside = lines(cluster, node_port_addresses=["192.168.0.0/24"])
    assert services(inside)[-1].endswith('in this chain" -d 192.168.0.2 -j KUBE-NODEPORTS')
    assert not any("KUBE-FIREWALL" in line for line in inside), "no route_localnet, so nothing to guard"
    both = lines(cluster, node_port_addresses=["127.0.0.0/8", "192.168.0.0/24"])
    assert [line.split(" -d ")[1].split()[0] for line in services(both)[-2:]] == ["127.0.0.1", "192.168.0.2"]


def test_node_ports_not_on_localhost(tmp_path: Path) -> None:
    found = lines(cluster_of(tmp_path), localhost_node_ports=False)
    assert services(found)[-1].endswith("--dst-type LOCAL ! -d 127.0.0.0/8 -j KUBE-NODEPORTS")
    assert not any("KUBE-FIREWALL" in line for line in found)


def test_conntrack_may_be_liberal(tmp_path: Path) -> None:
    invalid = "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP"
    assert invalid in lines(cluster_of(tmp_path))
    assert invalid not in lines(cluster_of(tmp_path), conntrack_tcp_be_liberal=True)


def test_the_mark_and_random_ports_are_settings(tmp_path: Path) -> None:
    found = lines(cluster_of(tmp_path), masquerade_bit=0)
    assert "-A KUBE-MARK-MASQ -j MARK --or-mark 0x00000001" in found
    assert any(line.endswith("-j MASQUERADE --random-fully") for line in found)
    assert any(line.endswith("-j MASQUERADE") for line in lines(cluster_of(tmp_path), random_fully=False))


@pytest.mark.parametrize("gate", [True, False])
def test_addresses_left_to_the_load_balancer(gate: bool, tmp_path: Path) -> None:
    cluster = cluster_of(tmp_path, spec=", type: LoadBalancer", ingress="{ip: 1.2.3.4}, {ip: 5.6.7.8, ipMode: Proxy}")
    found = services(lines(cluster, feature_gates={"LoadBalancerIPMode": gate}))
    assert [line.split(" -d ")[1].split()[0] for line in found if "loadbalancer IP" in line] == (
        ["1.2.3.4"] if gate else ["1.2.3.4", "5.6.7.8"]
    )


DRAINING = "conditions: {ready: false, serving: true, terminating: true}"


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        (f"{HERE}, {THERE}", ["10.244.1.5:8080", "10.244.2.5:8080"]),
        (f"{HERE}, {{addresses: [10.244.2.5], nodeName: b, {DRAINING}}}", ["10.244.1.5:8080"]),
        (f"{{addresses: [10.244.2.5], nodeName: b, {DRAINING}}}", ["10.244.2.5:8080"]),
        ("{addresses: [10.244.2.5], conditions: {ready: false}}", []),
        ("{addresses: [10.244.2.5], conditions: {serving: false, ready: false, terminating: true}}", []),
        ("{addresses: [10.244.2.5]}, {addresses: [10.244.2.5]}", ["10.244.2.5:8080"]),
        ("{addresses: [10.1.1.1]}, {addresses: [10.1.1.10]}, {addresses: [10.1.1.100]}",
         ["10.1.1.100:8080", "10.1.1.10:8080", "10.1.1.1:8080"]),
    ],
)  # fmt: skip
def test_which_endpoints_are_used(endpoints: str, expected: list[str], tmp_path: Path) -> None:
    found = lines(cluster_of(tmp_path, endpoints=endpoints))
    assert [line.rpartition(" ")[2] for line in found if "--to-destination" in line] == expected
    assert any("has no endpoints" in line for line in found) is not bool(expected)


ZONED = "{addresses: [10.244.1.5], hints: {forZones: [{name: z1}]}}, {addresses: [10.244.2.5]%s}"
AUTO = ", annotations: {service.kubernetes.io/topology-mode: Auto}"


@pytest.mark.parametrize(
    ("metadata", "hint", "gates", "is_narrowed"),
    [
        (AUTO, ", hints: {forZones: [{name: z2}]}", {}, True),
        ("", ", hints: {forZones: [{name: z2}]}", {}, False),
        ("", ", hints: {forZones: [{name: z2}]}", {"ServiceTrafficDistribution": True}, True),
        (AUTO.replace("Auto", "Disabled"), ", hints: {forZones: [{name: z2}]}", {}, False),
        (AUTO, "", {}, False),
        (AUTO, ", hints: {forZones: [{name: z2}]}", {"TopologyAwareHints": False}, False),
        (AUTO, ", conditions: {ready: false}", {}, True),
    ],
)
def test_zones(metadata: str, hint: str, gates: dict[str, bool], is_narrowed: bool, tmp_path: Path) -> None:
    found = lines(cluster_of(tmp_path, metadata=metadata, endpoints=ZONED % hint), feature_gates=gates)
    places = [line.rpartition(" ")[2] for line in found if "--to-destination" in line]
    assert places == (["10.244.1.5:8080"] if is_narrowed else ["10.244.1.5:8080", "10.244.2.5:8080"])


def test_internal_policy_local_without_a_local_endpoint_drops(tmp_path: Path) -> None:
    found = lines(cluster_of(tmp_path, spec=", internalTrafficPolicy: Local", endpoints=THERE))
    rule = '"ns/web has no local endpoints" -m tcp -p tcp -d 10.96.0.9 --dport 80 -j DROP'
    assert services(found)[0] == rule
    assert not any("KUBE-SVC" in line for line in found)


def test_what_is_not_programmed() -> None:
    cluster = build_cluster(ClusterSpec(manifests=[EVERY]))
    text = Plugin(cluster, Settings()).text(cluster.node("node-a"), "restore", "ipv4")
    for name in ("headless", "foreign", "ns/outside"):
        assert name not in text
    assert "9.9.9.9" not in text


DUAL = """
apiVersion: v1
kind: Service
metadata: {name: dual, namespace: ns}
spec:
  type: NodePort
  clusterIP: 10.96.0.8
  clusterIPs: [10.96.0.8, "FD00:10::8"]
  ipFamilies: [IPv4, IPv6]
  externalIPs: ["2001:db8::99", 198.51.100.1]
  loadBalancerSourceRanges: ["2001:db8::/32", 203.0.113.0/24]
  ports: [{port: 80, nodePort: 30080}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dual-4, namespace: ns, labels: {kubernetes.io/service-name: dual}}
addressType: IPv4
ports: [{port: 8080, name: ""}]
endpoints: [{addresses: [10.244.1.5]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: dual-6, namespace: ns, labels: {kubernetes.io/service-name: dual}}
addressType: IPv6
ports: [{port: 8080, name: ""}]
endpoints: [{addresses: ["fd00:1::5"]}, {addresses: ["fd00:2::5"]}]
---
"""


def test_each_family_has_its_own_rules(tmp_path: Path) -> None:
    file = tmp_path / "dual.yaml"
    file.write_text(DUAL + SERVICE.rpartition("---")[2])
    cluster = build_cluster(ClusterSpec(manifests=[file]))
    four, six = lines(cluster), lines(cluster, "ipv6")
    assert not any("fd00" in line or "2001:" in line for line in four)
    assert not any("10.96" in line or "10.244" in line or "127.0" in line for line in six)
    assert services(six)[0].startswith('"ns/dual cluster IP" -m tcp -p tcp -d fd00:10::8 --dport 80 -j KUBE-SVC-')
    assert services(six)[1].startswith('"ns/dual external IP" -m tcp -p tcp -d 2001:db8::99 --dport 80 -j KUBE-EXT-')
    assert services(six)[-1].endswith("--dst-type LOCAL ! -d ::1/128 -j KUBE-NODEPORTS")
    assert [line.rpartition(" ")[2] for line in six if "--to-destination" in line] == [
        "[fd00:1::5]:8080",
        "[fd00:2::5]:8080",
    ]
    assert any("! -s fd00::/16 -j KUBE-MARK-MASQ" in line for line in six)
    saved = Plugin(cluster, Settings(cluster_cidr=["fd00::/16"])).text(cluster.node("a"), "save", "ipv6")
    assert "-d fd00:10::8/128 -p tcp" in saved


@pytest.mark.parametrize("services_count", [0, 1, 10, 100])
@pytest.mark.parametrize("endpoints", [0, 1, 2, 10])
def test_rule_counts_of_load_balancers(services_count: int, endpoints: int, tmp_path: Path) -> None:
    """With source ranges, an external address and a node port: nat 5 + s·(9 + 3e), filter 4 + s; nobody there: 4 + 4s."""
    parts = []
    for number in range(services_count):
        service = SERVICE.split("---", maxsplit=1)[0] % {
            "metadata": "",
            "port": f", nodePort: {30000 + number}",
            "spec": ", type: LoadBalancer, externalIPs: [198.51.100.1], loadBalancerSourceRanges: [10.0.0.0/8]",
            "ingress": f"{{ip: 1.2.{number}.4}}",
        }
        own = service.replace("name: web", f"name: web-{number}").replace("10.96.0.9", f"10.97.{number}.9")
        places = ", ".join(f"{{addresses: [10.244.{number}.{host}]}}" for host in range(1, endpoints + 1))
        one_slice = SERVICE.split("---")[1] % {"endpoints": places}
        parts += [
            own,
            one_slice.replace("name: web-1", f"name: s-{number}").replace(
                "service-name: web", f"service-name: web-{number}"
            ),
        ]
    file = tmp_path / "many.yaml"
    file.write_text("---".join([*parts, SERVICE.rpartition("---")[2]]))
    found = lines(build_cluster(ClusterSpec(manifests=[file])))
    split = found.index("*nat")
    counts = [sum(line.startswith("-A") for line in part) for part in (found[:split], found[split:])]
    if endpoints:
        assert counts == [4 + services_count, 5 + services_count * (9 + 3 * endpoints)]
    else:
        assert counts == [4 + 4 * services_count, 5]
