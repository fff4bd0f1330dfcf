"""Services from their objects: ports, virtual addresses, policies."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from kubesim.cluster.addresses import canonical
from kubesim.cluster.records import Service, ServicePort
from kubesim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubesim.cluster import objects
    from kubesim.cluster.addresses import AddressPool

PROTOCOLS = ("tcp", "udp", "sctp")
KINDS = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")


TOPOLOGY_ANNOTATIONS = ("service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode")
"""The old name, which comes first, and the new one."""

_FOREIGN_LABELS = ("service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless")


def is_for_kube_proxy(metadata: objects.Metadata) -> bool:
    """Whether kube-proxy looks at an object: it asks only for those without these labels."""
    return not any(label in metadata.labels for label in _FOREIGN_LABELS)


def given_cluster_ips(services: Iterable[objects.ServiceObject]) -> dict[str, str]:
    """Virtual addresses that manifests give, and whose they are.

    Raises
    ------
    InputError
        If two Services have the same, or one is no address.
    """
    owners: dict[str, str] = {}
    for service in services:
        name = f"{service.metadata.namespace}/{service.metadata.name}"
        for text in dict.fromkeys([*filter(None, [service.spec.cluster_ip]), *service.spec.cluster_ips]):
            if text == "None":
                continue
            address = checked_address(text, f"Service {name}: clusterIP")
            if address in owners:
                raise InputError(f"Service {name} has the clusterIP {address} of Service {owners[address]}")
            owners[address] = name
    return owners


def _cluster_ips(spec: objects.ServiceSpec) -> list[str]:
    """Its virtual addresses, the main one first: as many as it has families, or one (``GetClusterIPByFamily``)."""
    listed = spec.cluster_ips or ([spec.cluster_ip] if spec.cluster_ip else [])
    if not spec.ip_families:
        listed = [spec.cluster_ip or listed[0]] if listed else []
    return [address for address in listed[: len(spec.ip_families) or 1] if address != "None"]


def checked_address(text: str, what: str) -> str:
    """An address as the kernel writes it.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        return canonical(text)
    except ValueError:
        raise InputError(f"{what} {text!r} is not an address") from None


def _source_range(text: str, name: str) -> str:
    """A range of sources; blanks around it are forgiven, as kube-proxy does."""
    try:
        return str(ipaddress.ip_network(text.strip(), strict=False))
    except ValueError:
        raise InputError(f"Service {name}: loadBalancerSourceRanges: {text!r} is not a range of addresses") from None


def check_node_ports(services: Iterable[Service]) -> None:
    """Refuse node ports that several ports of Services have.

    Raises
    ------
    InputError
        If there are such.
    """
    owners: dict[tuple[int, str], str] = {}
    for service in services:
        for port in service.ports:
            if port.node_port is not None:
                owner = owners.setdefault((port.node_port, port.protocol), name := service.port_name(port))
                if owner != name:
                    taken = f"the nodePort {port.node_port} ({port.protocol.upper()}) of Service {owner}"
                    raise InputError(f"Service {name} has {taken}")


def make_service(given: objects.ServiceObject, pool: AddressPool) -> Service:
    """A Service record; a virtual address that is not given is taken from the pool.

    Raises
    ------
    InputError
        If ports clash, or a field has a value Kubernetes does not know.
    """
    spec, name = given.spec, f"{given.metadata.namespace}/{given.metadata.name}"
    if spec.type not in KINDS:
        raise InputError(f"Service {name}: type {spec.type!r} is none of {', '.join(KINDS)}")
    ports = tuple(_port(port, name) for port in spec.ports)
    for kind, keys in (
        ("name", [port.name for port in ports]),
        ("port and protocol", [(port.port, port.protocol) for port in ports]),
    ):
        if len(set(keys)) < len(keys):
            raise InputError(f"Service {name}: two ports have the same {kind}")
    is_virtual = spec.type != "ExternalName" and "None" not in (spec.cluster_ip, *spec.cluster_ips[:1])
    cluster_ips = tuple(checked_address(text, f"Service {name}: clusterIP") for text in _cluster_ips(spec))
    for address, family in zip(cluster_ips, spec.ip_families, strict=False):
        if (":" in address) is not (family == "IPv6"):
            raise InputError(f"Service {name}: clusterIP {address} is not of the family {family} that ipFamilies says")
    if is_virtual and not cluster_ips:
        cluster_ips = (pool.take(),)
    timeout = spec.session_affinity_config.client_ip.timeout_seconds
    is_external = spec.type in ("NodePort", "LoadBalancer") or (spec.type == "ClusterIP" and bool(spec.external_ips))
    is_external_local = is_external and spec.external_traffic_policy == "Local"
    has_health_check = is_external_local and spec.type == "LoadBalancer"
    ingress = given.status.load_balancer.ingress
    balanced = {checked_address(one.ip, f"Service {name}: load balancer address"): one for one in ingress if one.ip}
    annotations = given.metadata.annotations
    return Service(
        namespace=given.metadata.namespace,
        name=given.metadata.name,
        cluster_ip=cluster_ips[0] if is_virtual else None,
        ports=ports,
        selector=spec.selector,
        kind=spec.type,
        affinity_timeout_s=timeout if spec.session_affinity == "ClientIP" else None,
        is_internal_local=spec.internal_traffic_policy == "Local",
        cluster_ips=cluster_ips if is_virtual else (),
        external_ips=tuple(checked_address(text, f"Service {name}: externalIPs:") for text in spec.external_ips),
        load_balancer_ips=tuple(balanced),
        foreign_load_balancer_ips=frozenset(ip for ip, one in balanced.items() if one.ip_mode == "Proxy"),
        source_ranges=tuple(_source_range(text, name) for text in spec.load_balancer_source_ranges),
        is_external_local=is_external_local,
        health_check_port=spec.health_check_node_port or None if has_health_check else None,
        topology_mode=next((annotations[key] for key in TOPOLOGY_ANNOTATIONS if key in annotations), ""),
        is_proxied=is_for_kube_proxy(given.metadata),
        publishes_unready=spec.publish_not_ready_addresses,
    )


def _port(given: objects.ServicePortObject, service: str) -> ServicePort:
    protocol = given.protocol.lower()
    if protocol not in PROTOCOLS:
        raise InputError(f"Service {service}: protocol {given.protocol!r} is none of TCP, UDP, SCTP")
    return ServicePort(given.port, given.target_port or given.port, protocol, given.name, given.node_port or None)
