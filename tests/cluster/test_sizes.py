"""Clusters by size: everything follows from positions, and ranges are large enough or refused."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kubesim.cluster import Cluster, ClusterSpec, PlannedPod, build_cluster
from kubesim.errors import InputError


def build(**spec: object) -> Cluster:
    """A cluster by size."""
    return build_cluster(ClusterSpec.model_validate(spec))


@given(nodes=st.integers(1, 5), services=st.integers(1, 40), endpoints=st.integers(1, 12))
def test_pods_services_and_addresses_agree(nodes: int, services: int, endpoints: int) -> None:
    cluster = build_cluster(ClusterSpec(nodes=nodes, services=services, endpoints=endpoints))
    fleet = cluster.fleet
    assert fleet is not None
    assert len(cluster.all_services) == services
    assert [service.name for service in cluster.all_services] == sorted(
        service.name for service in cluster.all_services
    )
    seen = set()
    for index, service in enumerate(cluster.all_services):
        assert fleet.service_index(service.name) == index
        for number, endpoint in enumerate(cluster.endpoints(service, service.ports[0])):
            pod = cluster.pod(f"{service.name}-{number}")
            assert cluster.pod_at(endpoint.address) == pod
            assert (pod.address, pod.node) == (endpoint.address, endpoint.node)
            assert ipaddress.ip_address(pod.address) in ipaddress.ip_network(cluster.node(pod.node).pod_cidr)
            seen.add(pod.address)
    assert len(seen) == services * endpoints
    per_node = [
        sum(address in ipaddress.ip_network(node.pod_cidr) for address in map(ipaddress.ip_address, seen))
        for node in cluster.nodes
    ]
    assert max(per_node) - min(per_node) <= 1, "spread in turn"


def test_addresses_that_are_nobodys() -> None:
    cluster = build_cluster(ClusterSpec(nodes=2, services=3, endpoints=2))
    for address in (
        "10.244.0.0",
        "10.244.0.1",
        "10.244.0.5",
        "10.244.1.5",
        "10.9.9.9",
        "192.168.0.11",
        "255.255.255.255",
    ):
        assert cluster.pod_at(address) is None, address


def test_ten_thousand_services_get_a_larger_range() -> None:
    cluster = build_cluster(ClusterSpec(nodes=3, services=10_000, endpoints=10))
    assert cluster.pod_cidr == "10.128.0.0/9"
    assert cluster.all_services[-1].name == "svc-10000"
    assert sum(len(cluster.endpoints(one, one.ports[0])) for one in cluster.all_services) == 100_000


def test_endpoints_on_chosen_nodes_only() -> None:
    cluster = build_cluster(ClusterSpec(nodes=3, services=4, endpoints=3, endpoint_nodes=["node-3", "node-1"]))
    used = {one.node for s in cluster.all_services for one in cluster.endpoints(s, s.ports[0])}
    assert used == {"node-1", "node-3"}


def test_a_real_application_inside_a_big_cluster(online_boutique: object) -> None:
    cluster = build_cluster(ClusterSpec(manifests=[str(online_boutique)], nodes=3, services=1000, endpoints=2))
    assert len(cluster.all_services) == 1012
    virtual = [service.cluster_ip for service in cluster.all_services]
    assert len(set(virtual)) == 1012
    assert cluster.service("frontend").cluster_ip in virtual
    pods = {pod.address for pod in cluster.pods}
    made = {
        one.address
        for s in cluster.all_services
        if s.name.startswith("svc-")
        for one in cluster.endpoints(s, s.ports[0])
    }
    assert not pods & made


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"pod_cidr": "10.0.0.0/24", "nodes": 3, "services": 100, "endpoints": 10}, "cluster.pod_cidr: the range 10.0.0.0/24 is too small for 3 nodes"),
        ({"service_cidr": "10.96.0.0/28", "services": 100}, "cluster.service_cidr: 10.96.0.0/28 has 14 addresses left for 100 Services"),
        ({"node_cidr": "192.168.0.0/28", "nodes": 20}, "cluster.node_cidr: 192.168.0.0/28 has no addresses left for nodes"),
        ({"endpoint_nodes": ["node-9"], "services": 1}, "there is no node 'node-9': did you mean 'node-"),
        ({"endpoint_nodes": [], "services": 1}, "cluster.endpoint_nodes names no node"),
        ({"services": 250_000, "endpoints": 5000}, "the range 10.128.0.0/9 is too small"),
        ({"service_cidr": "10.128.0.0/10", "services": 10_000, "endpoints": 10}, "the pods need the range 10.128.0.0/9, which overlaps"),
    ],
)  # fmt: skip
def test_ranges_that_do_not_fit(spec: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        build(**spec)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            {"service_cidr": "10.244.0.0/24", "pod_cidr": "10.244.0.0/16"},
            "pod_cidr 10.244.0.0/16 overlaps service_cidr",
        ),
        ({"pod_cidr": "ten"}, "'ten' is not an IPv4 range"),
        ({"pod_cidr": "10.1.2.3/8"}, "has host bits set"),
        ({"nodes": 0}, "greater than or equal to 1"),
        ({"services": -1}, "greater than or equal to 0"),
        ({"services": 10**9}, "less than or equal to 250000"),
    ],
)
def test_numbers_that_make_no_sense(spec: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        build(**spec)


def test_names_that_are_taken() -> None:
    with pytest.raises(InputError, match="pod default/svc-1-0 has the name of one made by number"):
        build_cluster(ClusterSpec(services=1), [PlannedPod("default", "svc-1-0", "x")])
    with pytest.raises(InputError, match="two pods are called default/a"):
        build_cluster(ClusterSpec(), [PlannedPod("default", "a", "x"), PlannedPod("default", "a", "x")])


def test_lookups_say_what_is_known() -> None:
    cluster = build_cluster(ClusterSpec(nodes=2, services=10, endpoints=1), [PlannedPod("shop", "cart", "cart")])
    assert cluster.pod("cart") is cluster.pod("shop/cart")
    assert (
        cluster.service("svc-03")
        == cluster.service("default/svc-03")
        == cluster.service("svc-03.default.svc.cluster.local")
    )
    for look_up, message in (
        (lambda: cluster.pod("crt"), "there is no pod 'crt': did you mean 'cart'?"),
        (lambda: cluster.pod("default/cart"), "there is no pod 'default/cart'"),
        (lambda: cluster.service("svc-3"), "there is no Service 'svc-3': did you mean 'svc-"),
        (lambda: cluster.node("node1"), "there is no node 'node1': did you mean 'node-1'?"),
    ):
        with pytest.raises(InputError) as caught:
            look_up()
        assert message in str(caught.value)
