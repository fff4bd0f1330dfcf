"""From manifests and sizes to a cluster."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING

from kubesim.cluster import fleet as fleets
from kubesim.cluster.addresses import AddressPool
from kubesim.cluster.cluster import Cluster
from kubesim.cluster.endpoints import endpoint_lists, listed_endpoints
from kubesim.cluster.fleet import Fleet
from kubesim.cluster.http_routes import make_gateway_route, make_ingress_route
from kubesim.cluster.manifests import read_manifests
from kubesim.cluster.nodes import check_is_routable, make_nodes, node_labels
from kubesim.cluster.outside import outside_hosts, reachable
from kubesim.cluster.pods import PlannedPod, make_pods, plan_pods, put_on_nodes
from kubesim.cluster.records import Pod
from kubesim.cluster.services import check_node_ports, given_cluster_ips, make_service
from kubesim.cluster.spec import ClusterSpec
from kubesim.errors import InputError, did_you_mean
from kubesim.units import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from typing import Any

    from kubesim.cluster.http_routes import HttpRoute
    from kubesim.cluster.manifests import Manifests
    from kubesim.cluster.records import Endpoint, Node, Service

_FIRST_POD_ADDRESS = 2  # .0 is the tunnel endpoint's, .1 the bridge's


def build_cluster(
    spec: ClusterSpec,
    clients: Iterable[PlannedPod] = (),
    fleet_protocol: str = "tcp",
    outside: int = 1,
    made: Iterable[dict[str, Any]] = (),
) -> Cluster:
    """Build the cluster that a scenario describes, so that CNI plugins can wire it.

    Pods whose addresses are not in their node's range get others that are; Services that can be called from outside
    get node ports and addresses where they have none.

    Parameters
    ----------
    spec
        Manifests, sizes and ranges.
    clients
        Pods to add, from which a workload sends.
    fleet_protocol
        Protocol of the Services that are made by number.
    outside
        Machines outside of the cluster that call its Services.
    made
        Objects to add, as a manifest would say them, each unless the manifests have one of its kind and name.

    Returns
    -------
    Cluster

    Raises
    ------
    InputError
        If manifests make no sense, or ranges overlap or are too small.
    """
    manifests = read_manifests(spec.manifests, "cluster.manifests: ", made)
    for one in manifests.nodes:
        check_is_routable(one)
    cluster = _build(spec, manifests, clients, fleet_protocol)
    hosts, balancer = outside_hosts(spec, cluster.nodes, outside)
    return replace(cluster, outside=hosts, load_balancer=balancer if spec.load_balancer == "machine" else None)


def read_cluster(files: Iterable[Path], node: str | None = None) -> Cluster:
    """Read a cluster as it is, to say which rules it has: every address stays as given.

    Parameters
    ----------
    files
        Manifests.
    node
        Name of a node that is to be there, even if the manifests have no object of it.

    Returns
    -------
    Cluster

    Raises
    ------
    InputError
        If manifests make no sense.
    """
    spec = ClusterSpec(manifests=list(files))
    return _build(spec, read_manifests(spec.manifests), node=node, is_as_given=True)


def _build(
    spec: ClusterSpec,
    manifests: Manifests,
    clients: Iterable[PlannedPod] = (),
    fleet_protocol: str = "tcp",
    node: str | None = None,
    *,
    is_as_given: bool = False,
) -> Cluster:
    """Put together what was read and what is made by number."""
    labels = node_labels(spec, manifests, node)
    planned = [*plan_pods(manifests, labels), *clients]
    counts = put_on_nodes(planned, labels)
    fleet_nodes = _fleet_nodes(spec, labels)
    per_fleet_node = -(-spec.services * spec.endpoints // len(fleet_nodes))
    needed = {name: counts[name] + (per_fleet_node if name in fleet_nodes else 0) for name in labels}
    nodes, pod_cidr = make_nodes(spec, manifests, labels, needed)
    by_name = {node.name: node for node in nodes}

    moved = {} if is_as_given else _readdress(planned, by_name)
    kept = [pod.address for pod in planned if pod.address is not None]
    pools = {node.name: _pod_pool(node, kept) for node in nodes}
    service_pool = AddressPool(
        spec.service_cidr, "cluster.service_cidr", "Services", given_cluster_ips(manifests.services)
    )
    services = [make_service(given, service_pool) for given in manifests.services]
    if not is_as_given:
        services = reachable(services, spec)
    check_node_ports(services)
    pods = make_pods(planned, by_name, pools, services)
    lists = endpoint_lists(services, pods, listed_endpoints(manifests, moved))
    pods += _implied_pods(lists, pods, by_name)
    fleet = _fleet(spec, [by_name[name] for name in fleet_nodes], pools, service_pool, fleet_protocol)
    _check_names(services, pods, fleet)

    notices = [manifests.notice(), None if node is None else _notice_of_unknown(node, manifests)]
    if moved:
        notices.append(
            f"{counted(len(moved), 'pod')} got new addresses: what was given is not in the podCIDR of the node"
        )
    return Cluster(
        nodes=tuple(nodes),
        pods=tuple(pods),
        services=tuple(services),
        endpoint_lists=lists,
        pod_cidr=pod_cidr,
        service_cidr=spec.service_cidr,
        fleet=fleet,
        notices=tuple(notice for notice in notices if notice),
        http_routes=_http_routes(manifests),
    )


def _http_routes(manifests: Manifests) -> tuple[HttpRoute, ...]:
    """Ingresses and HTTPRoutes, in the order in which they were read."""
    routes = [make_ingress_route(given) for given in manifests.ingresses]
    return (*routes, *(make_gateway_route(given, manifests.gateways) for given in manifests.http_routes))


def _notice_of_unknown(node: str, manifests: Manifests) -> str | None:
    """What to say of a node that no object describes."""
    if any(one.metadata.name == node for one in manifests.nodes):
        return None
    return f"there is no Node object {node}: it gets an address, and no labels"


def _fleet_nodes(spec: ClusterSpec, names: Iterable[str]) -> list[str]:
    known = list(names)
    chosen = known if spec.endpoint_nodes is None else list(dict.fromkeys(spec.endpoint_nodes))
    for name in chosen:
        if name not in known:
            raise InputError(f"cluster.endpoint_nodes: there is no node {name!r}: {did_you_mean(name, known)}")
    if not chosen:
        raise InputError("cluster.endpoint_nodes names no node")
    return chosen


def _pod_pool(node: Node, taken: Iterable[str]) -> AddressPool:
    """Addresses for the pods of a node."""
    in_use = [address for address in taken if ":" not in address]
    return AddressPool(node.pod_cidr, "cluster.pod_cidr", f"pods of {node.name}", in_use, first=_FIRST_POD_ADDRESS)


def _readdress(planned: Iterable[PlannedPod], nodes: Mapping[str, Node]) -> dict[str, str]:
    """Give pods whose addresses are outside their node's range others; the new addresses by the old ones."""
    moved: dict[str, str] = {}
    pools: dict[str, AddressPool] = {}
    for pod in planned:
        if pod.is_host_network:
            pod.address, pod.other_addresses = None, ()
    given = [pod for pod in planned if pod.address is not None]
    kept = [str(pod.address) for pod in given]
    for pod in given:
        node = nodes[str(pod.node)]
        network = ipaddress.IPv4Network(node.pod_cidr)
        address = str(pod.address)
        if ":" in address or ipaddress.IPv4Address(address) not in network:
            pool = pools.setdefault(node.name, _pod_pool(node, kept))
            pod.address = moved[address] = pool.take()
    return moved


def _implied_pods(
    lists: Mapping[str, tuple[Endpoint, ...]], pods: Iterable[Pod], nodes: Mapping[str, Node]
) -> list[Pod]:
    """Pods that only endpoints speak of, where they say on which node, and the address is one of that node's pods."""
    known = {pod.address for pod in pods} | {node.address for node in nodes.values()}
    implied: dict[str, Pod] = {}
    for port_name, endpoints in lists.items():
        namespace = port_name.partition("/")[0]
        for endpoint in endpoints:
            node = nodes.get(endpoint.node or "")
            if node is None or ":" in endpoint.address or endpoint.address in known or endpoint.address in implied:
                continue
            if ipaddress.IPv4Address(endpoint.address) in ipaddress.IPv4Network(node.pod_cidr):
                name = f"endpoint-{endpoint.address.replace('.', '-')}"
                implied[endpoint.address] = Pod(namespace, name, node.name, endpoint.address, owner=name)
    return list(implied.values())


def _fleet(
    spec: ClusterSpec, nodes: list[Node], pools: Mapping[str, AddressPool], service_pool: AddressPool, protocol: str
) -> Fleet | None:
    if not spec.services:
        return None
    pods = spec.services * spec.endpoints
    shares = [pods // len(nodes) + (place < pods % len(nodes)) for place in range(len(nodes))]
    return Fleet(
        services=spec.services,
        endpoints=spec.endpoints,
        nodes=tuple(nodes),
        first_service_ip=service_pool.take_block(spec.services),
        first_pod_ips=tuple(pools[node.name].take_block(share) for node, share in zip(nodes, shares, strict=True)),
        protocol=protocol,
    )


def _check_names(services: Iterable[Service], pods: Iterable[Pod], fleet: Fleet | None) -> None:
    """Refuse a manifest that uses a name which the fleet has too."""
    if fleet is None:
        return
    for service in services:
        if service.namespace == fleets.NAMESPACE and fleet.service_index(service.name) is not None:
            raise InputError(f"Service {service.full_name} has the name of one made by number")
    for pod in pods:
        if pod.namespace == fleets.NAMESPACE and fleet.pod_named(pod.name) is not None:
            raise InputError(f"pod {pod.full_name} has the name of one made by number")
