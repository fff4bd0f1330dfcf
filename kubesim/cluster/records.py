"""What exists in a cluster, as plain records."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster.

    Parameters
    ----------
    name
        Its name.
    address
        Its address on the network that joins the nodes.
    pod_cidr
        The addresses its pods have, as a prefix.
    labels
        Its labels.
    """

    name: str
    address: str
    pod_cidr: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ContainerPort:
    """A port that a container declares."""

    number: int
    name: str = ""
    protocol: str = "tcp"


@dataclass(frozen=True, slots=True)
class Pod:
    """A running pod.

    Parameters
    ----------
    namespace, name
        Its name in full is ``namespace/name``.
    node
        Name of the node it runs on.
    address
        Its address; the node's own for a pod on the host network.
    labels
        What selectors look at.
    ports
        The ports its containers declare.
    is_host_network
        Whether it uses the node's network namespace.
    is_ready
        Whether it can serve.
    owner
        Name of the Deployment, StatefulSet or DaemonSet it belongs to; its own name if to none.
    calls
        Services it names in its environment, as ``(namespace/name, port)``.
    """

    namespace: str
    name: str
    node: str
    address: str
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[ContainerPort, ...] = ()
    is_host_network: bool = False
    is_ready: bool = True
    owner: str = ""
    calls: tuple[tuple[str, int], ...] = ()

    @property
    def full_name(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class ServicePort:
    """A port of a Service; ``target_port`` is a number, or the name of a container's port."""

    port: int
    target_port: int | str
    protocol: str = "tcp"
    name: str = ""
    node_port: int | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """A Service.

    Parameters
    ----------
    namespace, name
        Its name in full is ``namespace/name``.
    cluster_ip
        Its virtual address; None for a headless Service and for ExternalName.
    ports
        Its ports.
    selector
        Labels of the pods behind it.
    kind
        ``ClusterIP``, ``NodePort``, ``LoadBalancer`` or ``ExternalName``.
    affinity_timeout_s
        How long a client stays with its endpoint (``sessionAffinity: ClientIP``), None if it does not.
    is_internal_local
        Whether ``internalTrafficPolicy`` is ``Local``.
    """

    namespace: str
    name: str
    cluster_ip: str | None
    ports: tuple[ServicePort, ...]
    selector: Mapping[str, str] = field(default_factory=dict)
    kind: str = "ClusterIP"
    affinity_timeout_s: int | None = None
    is_internal_local: bool = False

    @property
    def full_name(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    def port_name(self, port: ServicePort) -> str:
        """The name kube-proxy uses for one port: ``namespace/name``, or ``namespace/name:port``."""
        return f"{self.full_name}:{port.name}" if port.name else self.full_name


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address and port behind a Service port.

    Parameters
    ----------
    address, port
        Where it listens.
    node
        The node it is on, if known.
    is_ready, is_serving, is_terminating
        Conditions, as in EndpointSlice.
    """

    address: str
    port: int
    node: str | None = None
    is_ready: bool = True
    is_serving: bool = True
    is_terminating: bool = False
