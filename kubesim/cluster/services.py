"""Services from their objects: ports, virtual addresses, policies."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from kubesim.cluster.records import Service, ServicePort
from kubesim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubesim.cluster import objects
    from kubesim.cluster.addresses import AddressPool

PROTOCOLS = ("tcp", "udp", "sctp")
KINDS = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")


def given_cluster_ips(services: Iterable[objects.ServiceObject]) -> dict[str, str]:
    """Virtual addresses that manifests give, and whose they are.

    Raises
    ------
    InputError
        If two Services have the same, or one is no address.
    """
    owners: dict[str, str] = {}
    for service in services:
        address = service.spec.cluster_ip
        name = f"{service.metadata.namespace}/{service.metadata.name}"
        if not address or address == "None":
            continue
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise InputError(f"Service {name}: clusterIP {address!r} is not an address") from None
        if address in owners:
            raise InputError(f"Service {name} has the clusterIP {address} of Service {owners[address]}")
        owners[address] = name
    return owners


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
    is_virtual = spec.type != "ExternalName" and spec.cluster_ip != "None"
    timeout = spec.session_affinity_config.client_ip.timeout_seconds
    return Service(
        namespace=given.metadata.namespace,
        name=given.metadata.name,
        cluster_ip=(spec.cluster_ip or pool.take()) if is_virtual else None,
        ports=ports,
        selector=spec.selector,
        kind=spec.type,
        affinity_timeout_s=timeout if spec.session_affinity == "ClientIP" else None,
        is_internal_local=spec.internal_traffic_policy == "Local",
    )


def _port(given: objects.ServicePortObject, service: str) -> ServicePort:
    protocol = given.protocol.lower()
    if protocol not in PROTOCOLS:
        raise InputError(f"Service {service}: protocol {given.protocol!r} is none of TCP, UDP, SCTP")
    target = given.port if given.target_port is None or given.target_port == "" else given.target_port
    return ServicePort(given.port, target, protocol, given.name, given.node_port)
