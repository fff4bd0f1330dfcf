"""The Services and endpoints as one node's kube-proxy sees them (pkg/proxy/serviceport.go, topology.go)."""

from __future__ import annotations

import base64
import hashlib
import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from kubesim.proxy._kube_proxy.settings import Family, KubeProxySettings, family_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from kubesim.cluster import Cluster, Endpoint, Node, Service, ServicePort

_Rules = TypeVar("_Rules")

ZONE_LABEL = "topology.kubernetes.io/zone"


def digest(text: str, length: int) -> str:
    """The start of the base32 SHA-256 of a text, as kube-proxy names chains."""
    needed_bytes = -(-length * 5 // 8)
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:needed_bytes])[:length].decode()


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The endpoints of a service port that a node uses (``CategorizeEndpoints``), each list sorted as text.

    Parameters
    ----------
    cluster
        What traffic with the policy ``Cluster`` is spread over.
    local
        What traffic with the policy ``Local`` is spread over.
    reachable
        All of both.
    has_any
        Whether the Service has usable endpoints anywhere.
    """

    cluster: tuple[Endpoint, ...]
    local: tuple[Endpoint, ...]
    reachable: tuple[Endpoint, ...]
    has_any: bool


@dataclass(frozen=True, slots=True)
class PortView:
    """One port of one Service, in one family of addresses.

    Parameters
    ----------
    name
        kube-proxy's name of it, ``namespace/name:port``.
    service, port
        What it is.
    cluster_ip, external_ips, load_balancer_ips
        Its addresses in the family.
    source_ranges
        Who may come through ``load_balancer_ips``; empty for everybody.
    """

    name: str
    service: Service
    port: ServicePort
    cluster_ip: str
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    source_ranges: tuple[str, ...] = ()

    @property
    def protocol(self) -> str:
        """``tcp``, ``udp`` or ``sctp``."""
        return self.port.protocol

    @property
    def node_port(self) -> int | None:
        """Its port on every node, None if it has none."""
        return self.port.node_port

    @property
    def is_internal_local(self) -> bool:
        """Whether traffic to the virtual address stays on the node."""
        return self.service.is_internal_local

    @property
    def is_external_local(self) -> bool:
        """Whether traffic from outside stays on the node."""
        return self.service.is_external_local

    @property
    def info(self) -> tuple[Hashable, ...]:
        """All that kube-proxy keeps of it (``BaseServicePortInfo``); what else a Service says changes nothing."""
        service, port = self.service, self.port
        places = (self.cluster_ip, port.port, port.protocol, port.node_port, self.external_ips, self.load_balancer_ips)
        policies = (service.is_internal_local, service.is_external_local, service.topology_mode)
        return (
            self.name,
            *places,
            *policies,
            self.source_ranges,
            service.affinity_timeout_s,
            service.health_check_port,
        )

    @property
    def is_external(self) -> bool:
        """Whether it can be reached by any other address than the virtual one."""
        return bool(self.port.node_port or self.load_balancer_ips or self.external_ips)

    @property
    def uses_cluster_endpoints(self) -> bool:
        """Whether endpoints on all nodes matter: short cuts for traffic from inside need them too."""
        return not self.is_internal_local or self.is_external

    @property
    def uses_local_endpoints(self) -> bool:
        """Whether those on this node matter by themselves."""
        return self.is_internal_local or (self.is_external_local and self.is_external)


class NodeView:
    """All service ports as one node sees them in one family of addresses.

    Parameters
    ----------
    cluster
        The cluster.
    settings
        kube-proxy's settings.
    node
        The node.
    family
        Of the addresses.
    """

    def __init__(self, cluster: Cluster, settings: KubeProxySettings, node: Node, family: Family = "ipv4") -> None:
        self.cluster = cluster
        self.settings = settings
        self.node = node
        self.family = family
        self.detector = settings.detector(cluster, node, family)
        self.ports = self._ordered([*self._ports()])
        self._fleet_has_endpoints = cluster.fleet is not None and cluster.fleet.endpoints > 0

    def __iter__(self) -> Iterator[PortView]:
        return iter(self.ports)

    @property
    def node_ips(self) -> tuple[str, ...]:
        """The node's own addresses in this family, the main one first, without the loopback's."""
        return tuple(one for one in self.node.addresses or (self.node.address,) if family_of(one) == self.family)

    @property
    def node_ip(self) -> str | None:
        """The node's main address in this family."""
        return next(iter(self.node_ips), None)

    @property
    def endpoint_count(self) -> int:
        """Endpoints, ready or not, of all ports in this family, as kube-proxy counts them to know a large cluster."""
        fleet, given = self.cluster.fleet, self.cluster.endpoint_lists
        made = 0 if fleet is None or self.family == "ipv6" else fleet.services * fleet.endpoints
        return made + sum(len(self._listed(port)) for port in self.ports if port.name in given)

    def has_endpoints_everywhere(self, port: PortView) -> bool:
        """Whether it is known without looking that the port has ready endpoints, and policies that use all."""
        return self._fleet_has_endpoints and self.cluster.is_made_by_number(port.service)

    def endpoint_infos(self, port: PortView) -> Hashable:
        """All that kube-proxy keeps of a port's endpoints (``BaseEndpointInfo``), of other nodes' too."""
        fleet = self.cluster.fleet
        if fleet is not None and self.has_endpoints_everywhere(port):
            return fleet.endpoints  # they follow from the Service's number
        return tuple(
            (str(one), one.is_ready, one.is_serving, one.is_terminating, one.node == self.node.name, one.zones)
            for one in self._listed(port)
        )

    def endpoints(self, port: PortView) -> Endpoints:
        """The endpoints that this node uses for a port (``CategorizeEndpoints``)."""
        listed = self._listed(port)
        cluster, uses_zones = self._cluster_endpoints(port, listed)
        if not port.uses_local_endpoints:
            return Endpoints(cluster, (), cluster, bool(cluster))
        usable, is_ready = _usable(listed)
        here = [one for one in usable if one.node == self.node.name]
        if not here and is_ready:
            here = [one for one in listed if _is_draining(one) and one.node == self.node.name]
            is_ready = False
        local = tuple(here)
        has_any = bool(usable)
        if not port.uses_cluster_endpoints:
            return Endpoints((), local, local, has_any)
        if not uses_zones and is_ready:
            return Endpoints(cluster, local, cluster, has_any)
        return Endpoints(
            cluster, local, tuple(_sorted({str(one): one for one in (*cluster, *local)}.values())), has_any
        )

    def _listed(self, port: PortView) -> list[Endpoint]:
        """All of the port's endpoints in this family; of equal ones that on this node is kept, or else the first."""
        found: dict[str, Endpoint] = {}
        for one in self.cluster.endpoints(port.service, port.port):
            if family_of(one.address) == self.family and (str(one) not in found or one.node == self.node.name):
                found[str(one)] = one
        return _sorted(found.values())

    def _cluster_endpoints(self, port: PortView, listed: Sequence[Endpoint]) -> tuple[tuple[Endpoint, ...], bool]:
        """What traffic with the policy ``Cluster`` is spread over, and whether zones have narrowed it."""
        if not port.uses_cluster_endpoints:
            return (), False
        zone = self._zone(port, listed)
        usable, is_ready = _usable(listed)
        if zone is not None and is_ready:
            return tuple(one for one in usable if zone in one.zones), True
        return tuple(usable), zone is not None

    def _zone(self, port: PortView, listed: Sequence[Endpoint]) -> str | None:
        """The zone that endpoints are to be of, None where hints are not used (``canUseTopology``)."""
        gates = self.settings
        if not gates.has_gate("TopologyAwareHints", default=True):
            return None
        is_asked_for = port.service.topology_mode not in ("", "disabled", "Disabled")
        if not is_asked_for and not gates.has_gate("ServiceTrafficDistribution", default=False):
            return None
        zone = self.node.labels.get(ZONE_LABEL)
        ready = [one for one in listed if one.is_ready]
        if not zone or not all(one.zones for one in ready) or not any(zone in one.zones for one in ready):
            return None
        return zone

    def _ports(self) -> Iterator[PortView]:
        is_foreign_mode = self.settings.has_gate("LoadBalancerIPMode", default=True)
        for service in self.cluster.all_services:
            if service.cluster_ip is None or not service.is_proxied:
                continue
            cluster_ip = next(
                (one for one in service.cluster_ips or (service.cluster_ip,) if family_of(one) == self.family), None
            )
            if cluster_ip is None:
                continue
            if not service.external_ips and not service.load_balancer_ips:
                for port in service.ports:
                    yield PortView(service.port_name(port), service, port, cluster_ip)
                continue
            left_out = service.foreign_load_balancer_ips if is_foreign_mode else frozenset[str]()
            addresses = (
                tuple(one for one in service.external_ips if family_of(one) == self.family),
                tuple(
                    one for one in service.load_balancer_ips if family_of(one) == self.family and one not in left_out
                ),
                tuple(one for one in service.source_ranges if family_of(one) == self.family),
            )
            for port in service.ports:
                yield PortView(service.port_name(port), service, port, cluster_ip, *addresses)

    def _ordered(self, ports: list[PortView]) -> list[PortView]:
        seed = self.settings.service_order_seed
        if seed is None:
            return sorted(ports, key=lambda port: f"{port.name}/{port.protocol}")
        return sorted(ports, key=lambda port: hashlib.blake2b(f"{seed}/{port.name}".encode(), digest_size=8).digest())


def _sorted(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Endpoints as text, each once: ``10.1.1.10:80`` comes before ``10.1.1.1:80``."""
    return [one for _, one in sorted({str(one): one for one in endpoints}.items())]


def _usable(listed: Sequence[Endpoint]) -> tuple[list[Endpoint], bool]:
    """Ready endpoints; if none is, those that still serve while they terminate. And whether they are ready."""
    ready = [one for one in listed if one.is_ready]
    return (ready, True) if ready else ([one for one in listed if _is_draining(one)], False)


def _is_draining(endpoint: Endpoint) -> bool:
    return endpoint.is_serving and endpoint.is_terminating


def node_port_ips(view: NodeView) -> list[str] | None:
    """The node's addresses that node ports are on, its loopback's included; None for all that are local."""
    ranges = [text for text in view.settings.node_port_addresses if family_of(text) == view.family]
    networks = [ipaddress.ip_network(text, strict=False) for text in ranges]
    if not networks or any(network.prefixlen == 0 for network in networks):
        return None
    own = ["::1" if view.family == "ipv6" else "127.0.0.1", *view.node_ips]
    return [one for one in own if any(ipaddress.ip_address(one) in network for network in networks)]


class SharedRules(Generic[_Rules]):
    """Rule sets that nodes with the same view of the Services share, made when first asked for.

    Parameters
    ----------
    cluster, settings
        What the views are of.
    make
        Makes a rule set from a view.
    """

    def __init__(self, cluster: Cluster, settings: KubeProxySettings, make: Callable[[NodeView], _Rules]) -> None:
        self._cluster = cluster
        self._settings = settings
        self._make = make
        self._is_by_node = (
            any(
                service.is_internal_local or service.is_external_local or service.topology_mode or service.source_ranges
                for service in cluster.services
            )
            or bool(settings.node_port_addresses)
            or settings.detect_local_mode == "NodeCIDR"
            or settings.has_gate("ServiceTrafficDistribution", default=False)
        )
        self._made: dict[str | None, _Rules] = {}

    def of(self, node: Node) -> _Rules:
        """The rule set of a node."""
        key = node.name if self._is_by_node else None
        if key not in self._made:
            self._made[key] = self._make(NodeView(self._cluster, self._settings, node))
        return self._made[key]
