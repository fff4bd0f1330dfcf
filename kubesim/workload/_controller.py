"""Ingress controllers: a pod or more with a Service, found in the manifests or made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kubesim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubesim.cluster import Cluster, Pod, Service, ServicePort

NAME, NAMESPACE = "ingress-controller", "ingress"
HTTP_PORT, HTTPS_PORT = 80, 443
_CONTAINER_PORTS = {"http": HTTP_PORT, "https": HTTPS_PORT}


def controller_objects(
    replicas: int, nodes: Sequence[str] | None, *, is_host_network: bool
) -> tuple[dict[str, Any], ...]:
    """A controller's pods and their Service, as ingress-nginx's manifests say them.

    Parameters
    ----------
    replicas
        How many pods.
    nodes
        The nodes they are put on, in turn; None where that is open.
    is_host_network
        Whether they listen on their node's own address.
    """
    labels = {"app.kubernetes.io/name": NAME}
    ports = [{"name": name, "containerPort": number} for name, number in _CONTAINER_PORTS.items()]
    pods = []
    for number in range(replicas):
        spec: dict[str, Any] = {"containers": [{"name": "controller", "ports": ports}], "hostNetwork": is_host_network}
        if nodes is not None:
            spec["nodeName"] = nodes[number % len(nodes)]
        metadata = {"name": f"{NAME}-{number}", "namespace": NAMESPACE, "labels": labels}
        pods.append({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "type": "ClusterIP" if is_host_network else "LoadBalancer",
            "selector": labels,
            "ports": [{"name": name, "port": number, "targetPort": name} for name, number in _CONTAINER_PORTS.items()],
        },
    }
    return (*pods, service)


def controller_port(service: Service, wanted: str, *, is_tls: bool) -> ServicePort:
    """The port of a controller's Service for requests with TLS or without.

    Parameters
    ----------
    service
        The controller's.
    wanted
        Name or number of the port to use for both; empty to use ``https`` or 443, and ``http`` or 80.

    Raises
    ------
    InputError
        If it has none.
    """
    names = (wanted,) if wanted else ("https", str(HTTPS_PORT)) if is_tls else ("http", str(HTTP_PORT))
    for name in names:
        for port in service.ports:
            if port.protocol == "tcp" and name in (port.name, str(port.port)):
                return port
    known = ", ".join(f"{port.port}/{port.protocol}" for port in service.ports) or "none"
    raise InputError(f"traffic.controller: Service {service.full_name} has no port {names[0]}: it has {known}")


def controller_pods(cluster: Cluster, service: Service, port: ServicePort) -> tuple[Pod, ...]:
    """The pods of a controller.

    Raises
    ------
    InputError
        If there are none.
    """
    pods = cluster.behind(service, port)
    if not pods:
        raise InputError(f"traffic.controller: Service {service.full_name} has no ready pods behind it")
    return pods
