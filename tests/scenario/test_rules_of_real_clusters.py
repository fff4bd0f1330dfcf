"""Rules for clusters as they are found: addresses, families, endpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from kubesim.cluster import ClusterSpec, build_cluster
from kubesim.errors import InputError
from kubesim.scenario.node_rules import NodeRules, node_rules

IPV4, IPV6 = "192.168.0.2", "2001:db8::2"


def node(name: str = "n1", ranges: tuple[str, ...] = ("10.244.0.0/24",), ips: tuple[str, ...] = (IPV4, IPV6)) -> Any:
    spec = {"podCIDR": ranges[0], "podCIDRs": list(ranges)} if ranges else {}
    addresses = [{"type": "InternalIP", "address": address} for address in ips]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": spec,
        "status": {"addresses": addresses},
    }


def pod(name: str = "p", status: dict[str, Any] | None = None, *, is_deleted: bool = False, **spec: Any) -> Any:
    metadata: dict[str, Any] = {"name": name, "labels": {"app": "web"}}
    if is_deleted:
        metadata["deletionTimestamp"] = "2024-01-01T00:00:00Z"
    found = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": "n1", **spec}}
    return found if status is None else {**found, "status": status}


def service(name: str = "web", port: dict[str, Any] | None = None, status: Any = None, **spec: Any) -> Any:
    ports = [{"port": 80, "targetPort": 8080, **(port or {})}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": "10.96.0.9", "ports": ports, **spec},
        "status": status or {},
    }


def endpoint_slice(*endpoints: Any, of: str = "web", name: str = "", family: str = "IPv4") -> Any:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name or f"{of}-{family}".lower(), "labels": {"kubernetes.io/service-name": of}},
        "addressType": family,
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": [one]} if isinstance(one, str) else one for one in endpoints],
    }


def written(tmp_path: Path, *objects: Any) -> Path:
    file = tmp_path / "cluster.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    return file


def rules(tmp_path: Path, *objects: Any, **options: Any) -> NodeRules:
    return node_rules([written(tmp_path, *objects)], **options)


def targets(found: NodeRules) -> list[str]:
    return [line.rpartition(" ")[2] for line in found.text.splitlines() if "--to-destination" in line]


SELECTED: dict[str, Any] = {"selector": {"app": "web"}}
DUAL: dict[str, Any] = {"clusterIPs": ["10.96.0.9", "fd00:96::9"], "ipFamilies": ["IPv4", "IPv6"]}


def test_addresses_of_pods_stay_as_given(tmp_path: Path) -> None:
    running = pod(status={"phase": "Running", "podIP": "192.168.77.5"})
    found = rules(
        tmp_path, node(), running, service(), endpoint_slice({"addresses": ["192.168.77.5"], "nodeName": "n1"})
    )
    assert targets(found) == ["192.168.77.5:8080"]
    assert not any("new addresses" in notice for notice in found.notices)
    assert targets(rules(tmp_path, node(), running, service(**SELECTED))) == ["192.168.77.5:8080"], "and by selector"


def test_pods_on_the_hosts_network_keep_their_addresses(tmp_path: Path) -> None:
    running = pod(status={"phase": "Running", "podIP": "203.0.113.7"}, hostNetwork=True)
    assert targets(rules(tmp_path, node(ips=()), running, service(**SELECTED))) == ["203.0.113.7:8080"]


def test_pods_of_both_families(tmp_path: Path) -> None:
    running = pod(status={"podIP": "FD00:10:244::5", "podIPs": [{"ip": "FD00:10:244::5"}, {"ip": "10.244.0.5"}]})
    objects = (node(), running, service(**DUAL, **SELECTED))
    assert targets(rules(tmp_path, *objects)) == ["10.244.0.5:8080"]
    assert targets(rules(tmp_path, *objects, family="ipv6")) == ["[fd00:10:244::5]:8080"]
    simulated = build_cluster(ClusterSpec(manifests=[written(tmp_path, *objects)]))
    assert simulated.pod("p").address == "10.244.0.5"
    assert simulated.notices == ()


def test_nodes_whose_main_family_is_ipv6(tmp_path: Path) -> None:
    main = node(ranges=("fd00:10:244::/64", "10.244.0.0/24"), ips=(IPV6, IPV4))
    objects = (main, service(**DUAL), endpoint_slice("10.244.0.5"), endpoint_slice("fd00::5", family="IPv6"))
    assert targets(rules(tmp_path, *objects)) == ["[fd00::5]:8080"]
    assert targets(rules(tmp_path, *objects, family="ipv4")) == ["10.244.0.5:8080"]
    simulated = build_cluster(ClusterSpec(manifests=[written(tmp_path, *objects)])).node("n1")
    assert (simulated.address, simulated.pod_cidr) == (IPV4, "10.244.0.0/24")
    assert simulated.pod_cidrs == ("fd00:10:244::/64", "10.244.0.0/24")


@pytest.mark.parametrize(("ips", "is_ipv6"), [((IPV6, IPV4), True), ((IPV4, IPV6), False), ((IPV6,), True)])
def test_rules_are_of_the_family_of_the_nodes_main_address(ips: tuple[str, ...], is_ipv6: bool, tmp_path: Path) -> None:
    text = rules(tmp_path, node(ranges=(), ips=ips), mode="nftables").text
    assert text.startswith("add table ip6 " if is_ipv6 else "add table ip ")


def test_nodes_of_ipv6_only(tmp_path: Path) -> None:
    objects = (
        node(ranges=("fd00:10:244::/64",), ips=(IPV6,)),
        service(**DUAL),
        endpoint_slice("fd00::5", family="IPv6"),
    )
    assert targets(rules(tmp_path, *objects)) == ["[fd00::5]:8080"]
    with pytest.raises(InputError, match="Node n1: podCIDR fd00:10:244::/64 is of IPv6: IPv4 only is simulated"):
        build_cluster(ClusterSpec(manifests=[written(tmp_path, *objects)]))


def test_wrong_addresses_of_nodes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Node n1: InternalIP '2001:zz' is not an address"):
        rules(tmp_path, node(ips=("2001:zz",)))
    with pytest.raises(InputError, match="Node n1: podCIDR 'fd00::/200' is not a range of addresses"):
        rules(tmp_path, node(ranges=("10.244.0.0/24", "fd00::/200")))


def running(address: str, *, is_ready: bool = True) -> dict[str, Any]:
    return {"phase": "Running", "podIP": address, "conditions": [{"type": "Ready", "status": str(is_ready)}]}


def test_which_pods_are_endpoints(tmp_path: Path) -> None:
    pods = (
        pod("good", running("10.244.0.5")),
        pod("bad", running("10.244.0.6", is_ready=False)),
        pod("leaving", running("10.244.0.7"), is_deleted=True),
        pod("done", {"phase": "Succeeded", "podIP": "10.244.0.8"}),
        pod("waiting", {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}]}),
    )
    assert targets(rules(tmp_path, node(), *pods, service(**SELECTED))) == ["10.244.0.5:8080"]
    assert targets(rules(tmp_path, node(), *pods[1:], service(**SELECTED))) == ["10.244.0.7:8080"], "it still serves"
    published = service(**SELECTED, publishNotReadyAddresses=True)
    assert targets(rules(tmp_path, node(), *pods, published)) == [f"10.244.0.{host}:8080" for host in (5, 6, 7)]


def test_pods_without_a_status_are_endpoints(tmp_path: Path) -> None:
    assert targets(rules(tmp_path, node(), pod(), service(**SELECTED))) == ["10.244.0.2:8080"]


def many(of: str, name: str, family: str = "IPv4", count: int = 600) -> Any:
    start = "10.244.%d.%d" if family == "IPv4" else "fd00::%d:%d"
    return endpoint_slice(*(start % divmod(number, 200) for number in range(count)), of=of, name=name, family=family)


@pytest.mark.parametrize(
    ("more", "is_large"),
    [
        ((many("web", "other", "IPv6"),), False),
        ((service("alone", clusterIP="None"), many("alone", "other")), False),
        ((service("foreign", clusterIP="10.96.0.10"), many("foreign", "other")), False),
        ((service("second", clusterIP="10.96.0.10"), many("second", "other")), True),
    ],
)
def test_only_endpoints_that_are_programmed_make_a_cluster_large(
    more: tuple[Any, ...], is_large: bool, tmp_path: Path
) -> None:
    if more[0]["metadata"]["name"] == "foreign":
        more[0]["metadata"]["labels"] = {"service.kubernetes.io/service-proxy-name": "mine"}
    text = rules(tmp_path, node(), service(**DUAL), many("web", "one"), *more).text
    assert ('"default/web -> ' not in text) is is_large


def test_of_equal_endpoints_a_local_one_is_kept(tmp_path: Path) -> None:
    here = {"addresses": ["10.244.0.5"], "nodeName": "n1"}
    outside = service(port={"nodePort": 30080}, type="NodePort", externalTrafficPolicy="Local")
    slices = endpoint_slice(here, name="a"), endpoint_slice("10.244.0.5", name="b")
    for order in (slices, slices[::-1]):
        assert "-j KUBE-SVL-" in rules(tmp_path, node(), outside, *order).text


@pytest.mark.parametrize("address", ["2001:db8::1", "2001:DB8::0001"])
def test_addresses_left_to_the_load_balancer(address: str, tmp_path: Path) -> None:
    status = {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "Proxy"}, {"ip": "2001:db8::7"}]}}
    balanced = service(type="LoadBalancer", status=status, **DUAL)
    text = rules(tmp_path, node(), balanced, endpoint_slice("fd00::5", family="IPv6"), family="ipv6").text
    assert "2001:db8::7" in text
    assert "2001:db8::1 " not in text


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"externalTrafficPolicy": "local"}, "spec.externalTrafficPolicy: there is no 'local': did you mean 'Local'?"),
        ({"internalTrafficPolicy": "local"}, "spec.internalTrafficPolicy: there is no 'local': did you mean 'Local'?"),
        ({"sessionAffinity": "clientIP"}, "spec.sessionAffinity: there is no 'clientIP': did you mean 'ClientIP'?"),
        ({"ipFamilies": ["ipv9"]}, "spec.ipFamilies.0: there is no 'ipv9': "),
        ({"clusterIPs": ["10.96.0.9"], "ipFamilies": ["IPv6"]}, "is not of the family IPv6 that ipFamilies says"),
    ],
)
def test_values_that_no_service_has(spec: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        rules(tmp_path, node(), service(**spec))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("family", ["ipv4", "IPV4"])
def test_families_that_no_slice_has(family: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"addressType: there is no '{family}': "):
        rules(tmp_path, node(), service(), endpoint_slice("10.244.0.5", family=family))


def test_what_is_zero_or_null_is_not_given(tmp_path: Path) -> None:
    blank: dict[str, Any] = {
        "externalTrafficPolicy": None,
        "sessionAffinity": None,
        "healthCheckNodePort": 0,
        "externalIPs": None,
    }
    odd = service(port={"nodePort": 0, "targetPort": 0, "name": None}, **blank)
    plain = rules(tmp_path, node(), service(port={"targetPort": 80}), endpoint_slice("10.244.0.5")).text
    assert rules(tmp_path, node(), odd, endpoint_slice("10.244.0.5")).text == plain


def test_a_node_port_is_of_one_service(tmp_path: Path) -> None:
    first = service(port={"nodePort": 30080}, type="NodePort")
    udp = service("udp", port={"nodePort": 30080, "protocol": "UDP"}, type="NodePort", clusterIP="10.96.0.10")
    assert rules(tmp_path, node(), first, udp).text
    second = service("second", port={"nodePort": 30080}, type="NodePort", clusterIP="10.96.0.10")
    with pytest.raises(InputError, match=r"default/second has the nodePort 30080 \(TCP\) of Service default/web"):
        rules(tmp_path, node(), first, second)


@pytest.mark.parametrize(
    ("families", "has_ipv6"), [({}, False), ({"ipFamilies": ["IPv4"]}, False), ({"ipFamilies": ["IPv4", "IPv6"]}, True)]
)
def test_a_services_families_say_which_addresses_it_has(
    families: dict[str, Any], has_ipv6: bool, tmp_path: Path
) -> None:
    given = service(**{"clusterIPs": DUAL["clusterIPs"], **families})
    text = rules(tmp_path, node(), given, endpoint_slice("fd00::5", family="IPv6"), family="ipv6").text
    assert ("fd00:96::9" in text) is has_ipv6
