"""Which endpoints a Service has: those that slices list, or the pods its selector finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.cluster.records import Endpoint
from kubesim.cluster.services import checked_address, is_for_kube_proxy
from kubesim.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from kubesim.cluster import objects
    from kubesim.cluster.manifests import Manifests
    from kubesim.cluster.records import Pod, Service, ServicePort

SERVICE_LABEL = "kubernetes.io/service-name"

ADDRESS_TYPES = ("IPv4", "IPv6")
"""Slices of names (``FQDN``) carry no traffic."""

_Listed = dict[tuple[str, str], dict[tuple[str, str], list[Endpoint]]]
"""Endpoints by Service, then by name and protocol of the port."""


def listed_endpoints(manifests: Manifests, moved: Mapping[str, str]) -> _Listed:
    """Endpoints that EndpointSlices and old Endpoints objects list; slices win where a Service has both.

    Parameters
    ----------
    manifests
        What was read.
    moved
        New addresses of pods that could not keep theirs.
    """
    listed: _Listed = {}
    for old in manifests.endpoints:
        ports = listed.setdefault((old.metadata.namespace, old.metadata.name), {})
        for subset in old.subsets:
            for port in subset.ports:
                for addresses, is_ready in ((subset.addresses, True), (subset.not_ready_addresses, False)):
                    ports.setdefault((port.name, port.protocol.lower()), []).extend(
                        Endpoint(moved.get(one.ip, one.ip), port.port or 0, one.node_name, is_ready, is_ready)
                        for one in addresses
                    )
    from_slices: _Listed = {}
    for one_slice in manifests.slices:
        service = one_slice.metadata.labels.get(SERVICE_LABEL)
        if service is None or one_slice.address_type not in ADDRESS_TYPES or not is_for_kube_proxy(one_slice.metadata):
            continue
        ports = from_slices.setdefault((one_slice.metadata.namespace, service), {})
        for port in one_slice.ports:
            if port.port is not None:
                ports.setdefault((port.name, port.protocol.lower()), []).extend(
                    _from_slice(endpoint, port.port, moved) for endpoint in one_slice.endpoints if endpoint.addresses
                )
    return {**listed, **from_slices}


def _from_slice(endpoint: objects.SliceEndpoint, port: int, moved: Mapping[str, str]) -> Endpoint:
    """One endpoint of a slice: its first address; what is not said of its state counts as good."""
    address, state = checked_address(endpoint.addresses[0], "EndpointSlice: address"), endpoint.conditions
    return Endpoint(
        moved.get(address, address),
        port,
        endpoint.node_name,
        is_ready=state.ready is not False,
        is_serving=state.serving is not False,
        is_terminating=bool(state.terminating),
        zones=frozenset(hint.name for hint in endpoint.hints.for_zones),
    )


def endpoint_lists(
    services: Iterable[Service], pods: Iterable[Pod], listed: _Listed
) -> dict[str, tuple[Endpoint, ...]]:
    """The endpoints of every Service port, by its name.

    Raises
    ------
    InputError
        If a targetPort is a name that no pod behind the Service has.
    """
    by_namespace: dict[str, list[Pod]] = {}
    for pod in pods:
        by_namespace.setdefault(pod.namespace, []).append(pod)
    found: dict[str, tuple[Endpoint, ...]] = {}
    for service in services:
        given = listed.get((service.namespace, service.name))
        behind = _selected(service, by_namespace.get(service.namespace, ()))
        for port in service.ports:
            endpoints = (
                _from_pods(service, port, behind) if given is None else given.get((port.name, port.protocol), [])
            )
            found[service.port_name(port)] = tuple(dict.fromkeys(endpoints))
    return found


def _selected(service: Service, pods: Iterable[Pod]) -> list[Pod]:
    if not service.selector or service.kind == "ExternalName":
        return []
    wanted = service.selector.items()
    return [pod for pod in pods if pod.has_network and wanted <= pod.labels.items()]


def _from_pods(service: Service, port: ServicePort, pods: list[Pod]) -> list[Endpoint]:
    if isinstance(port.target_port, int):
        target = port.target_port
        return [endpoint for pod in pods for endpoint in _of_pod(service, pod, target)]
    endpoints: list[Endpoint] = []
    for pod in pods:
        for declared in pod.ports:
            if declared.name == port.target_port and declared.protocol == port.protocol:
                endpoints += _of_pod(service, pod, declared.number)
                break
    if pods and not endpoints:
        names = {declared.name for pod in pods for declared in pod.ports if declared.name}
        raise InputError(
            f"Service {service.full_name}: targetPort {port.target_port!r} is the name of no port "
            f"of the pods behind it: {did_you_mean(port.target_port, names)}"
        )
    return endpoints


def _of_pod(service: Service, pod: Pod, port: int) -> list[Endpoint]:
    """A pod as an endpoint, at each of its addresses (``podToEndpoint`` of the EndpointSlice controller)."""
    is_ready = service.publishes_unready or (pod.is_ready and not pod.is_terminating)
    return [
        Endpoint(address, port, pod.node, is_ready, pod.is_ready, pod.is_terminating)
        for address in (pod.address, *pod.other_addresses)
    ]
