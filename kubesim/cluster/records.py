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
        Its address on the network that joins the nodes, of IPv4.
    pod_cidr
        The IPv4 addresses its pods have, as a prefix.
    labels
        Its labels.
    addresses
        All addresses of its interfaces that are known, of either family, the main one first; without the loopback's.
    pod_cidrs
        The addresses its pods have, of each family, the main one first.
    """

    name: str
    address: str
    pod_cidr: str
    labels: Mapping[str, str] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()
    pod_cidrs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OutsideHost:
    """A machine on the nodes' network that is not of the cluster, with a process that calls Services.

    Parameters
    ----------
    name
        Its name.
    address
        Its address on the nodes' network.
    """

    name: str
    address: str

    @property
    def process(self) -> Pod:
        """Its process, as if it were a pod on the machine's own network."""
        return Pod("outside", self.name, self.name, self.address, is_host_network=True, owner="outside")


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
    other_addresses
        Its addresses besides ``address``, such as the one of the other family.
    is_terminating
        Whether somebody has deleted it, and it still runs.
    has_network
        Whether it has got its address: not so while it is pending.
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
    other_addresses: tuple[str, ...] = ()
    is_terminating: bool = False
    has_network: bool = True

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
    cluster_ips
        Its virtual addresses of both families; ``cluster_ip`` is the first.
    external_ips
        Addresses of others that lead to it too.
    load_balancer_ips
        Addresses that a load balancer has given it.
    foreign_load_balancer_ips
        Those of them that are left to the load balancer (``ipMode: Proxy``).
    source_ranges
        Who may come through the load balancer's addresses; empty for everybody.
    is_external_local
        Whether ``externalTrafficPolicy`` is ``Local``, and it can be reached from outside at all.
    health_check_port
        Port on which a node says whether it has endpoints, None if it does not.
    topology_mode
        What its annotation says of zones; empty or ``disabled`` switches hints off.
    is_proxied
        Whether kube-proxy programs it: not so if labels give it to another proxy, or call it headless.
    publishes_unready
        Whether pods are endpoints that count as ready even if they are not (``publishNotReadyAddresses``).
    """

    namespace: str
    name: str
    cluster_ip: str | None
    ports: tuple[ServicePort, ...]
    selector: Mapping[str, str] = field(default_factory=dict)
    kind: str = "ClusterIP"
    affinity_timeout_s: int | None = None
    is_internal_local: bool = False
    cluster_ips: tuple[str, ...] = ()
    external_ips: tuple[str, ...] = ()
    load_balancer_ips: tuple[str, ...] = ()
    foreign_load_balancer_ips: frozenset[str] = frozenset()
    source_ranges: tuple[str, ...] = ()
    is_external_local: bool = False
    health_check_port: int | None = None
    topology_mode: str = ""
    is_proxied: bool = True
    publishes_unready: bool = False

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
    zones
        The zones it is meant for (hints); empty if nothing is said.
    """

    address: str
    port: int
    node: str | None = None
    is_ready: bool = True
    is_serving: bool = True
    is_terminating: bool = False
    zones: frozenset[str] = frozenset()

    def __str__(self) -> str:
        """``address:port``, as kube-proxy writes and sorts endpoints."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"
