"""A cluster: its nodes, pods and Services, and what belongs together."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from kubesim.cluster.fleet import NAMESPACE
from kubesim.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from kubesim.cluster.fleet import Fleet
    from kubesim.cluster.http_routes import HttpRoute
    from kubesim.cluster.records import Endpoint, Node, OutsideHost, Pod, Service, ServicePort


@dataclass(frozen=True)
class Cluster:
    """Everything that CNIs, proxies and workloads need to know.

    Parameters
    ----------
    nodes
        The machines.
    pods
        The pods that were given or asked for one by one.
    services
        The Services that were given.
    endpoint_lists
        Endpoints of those Services, by the name of the service port.
    fleet
        Services and pods made by number, None if there are none.
    pod_cidr
        The range that holds all pods' addresses.
    service_cidr
        The range that virtual addresses are taken from.
    notices
        What a person should know about how the input was read.
    outside
        Machines on the nodes' network from which Services are called.
    load_balancer
        The machine that balances load in front of the nodes, None where others do.
    http_routes
        Ingresses and HTTPRoutes.
    """

    nodes: tuple[Node, ...]
    pods: tuple[Pod, ...]
    services: tuple[Service, ...]
    endpoint_lists: Mapping[str, tuple[Endpoint, ...]]
    pod_cidr: str
    service_cidr: str
    fleet: Fleet | None = None
    notices: tuple[str, ...] = field(default=())
    outside: tuple[OutsideHost, ...] = ()
    load_balancer: OutsideHost | None = None
    http_routes: tuple[HttpRoute, ...] = ()

    @cached_property
    def all_services(self) -> tuple[Service, ...]:
        """Given Services and those of the fleet, sorted by name as kubesim writes rules."""
        made = () if self.fleet is None else map(self.fleet.service, range(self.fleet.services))
        return tuple(sorted([*self.services, *made], key=lambda service: service.full_name))

    def service_ports(self) -> Iterator[tuple[str, Service, ServicePort]]:
        """Every port of every Service with a virtual address: ``(service port name, service, port)``, sorted."""
        for service in self.all_services:
            if service.cluster_ip is not None:
                for port in sorted(service.ports, key=lambda port: port.name):
                    yield service.port_name(port), service, port

    def endpoints(self, service: Service, port: ServicePort) -> tuple[Endpoint, ...]:
        """The endpoints of a Service port, ready or not."""
        given = self.endpoint_lists.get(service.port_name(port))
        if given is not None:
            return given
        if self.fleet is None or service.namespace != NAMESPACE:
            return ()
        index = self.fleet.service_index(service.name)
        return () if index is None else self.fleet.endpoint_list(index)

    def is_made_by_number(self, service: Service) -> bool:
        """Whether a Service is of the fleet."""
        if self.fleet is None or service.namespace != NAMESPACE:
            return False
        return self.fleet.service_index(service.name) is not None

    def node(self, name: str) -> Node:
        """The node of this name.

        Raises
        ------
        InputError
            If there is none.
        """
        found = self._nodes_by_name.get(name)
        if found is None:
            raise InputError(f"there is no node {name!r}: {did_you_mean(name, self._nodes_by_name)}")
        return found

    def nodes_in_turn(self, service: Service, port: ServicePort) -> tuple[Node, ...]:
        """The nodes that a load balancer aims at: all, or those with an endpoint where others would drop packets."""
        if not service.is_external_local:
            return self.nodes
        serving = {one.node for one in self.endpoints(service, port) if one.is_ready}
        return tuple(node for node in self.nodes if node.name in serving)

    def pod(self, name: str) -> Pod:
        """The pod of this name, ``namespace/name``, or ``name`` where that is clear.

        Raises
        ------
        InputError
            If there is none, or more than one.
        """
        namespace, _, bare = name.rpartition("/")
        found = [pod for pod in self._pods_by_bare_name.get(bare, ()) if not namespace or pod.namespace == namespace]
        if not found:
            found = [pod for pod in self.pods if pod.owner == bare and (not namespace or pod.namespace == namespace)][
                :1
            ]
        if not found and self.fleet is not None and namespace in ("", NAMESPACE):
            made = self.fleet.pod_named(bare)
            found = [made] if made is not None else []
        if not found:
            raise InputError(f"there is no pod {name!r}: {did_you_mean(name, self.pod_names())}")
        if len({pod.namespace for pod in found}) > 1:
            raise InputError(f"pod {name!r} is in several namespaces: {', '.join(pod.full_name for pod in found)}")
        return found[0]

    def pod_at(self, address: str) -> Pod | None:
        """The pod with an address of its own, None if no pod has it."""
        found = self._pods_by_address.get(address)
        if found is None and self.fleet is not None:
            found = self.fleet.pod_at(address)
        return found

    def pods_on(self, node: Node) -> int:
        """How many pods with an address of their own a node has."""
        given = sum(pod.node == node.name and not pod.is_host_network for pod in self.pods)
        return given if self.fleet is None else given + self.fleet.pods_on(node)

    def service(self, name: str) -> Service:
        """The Service of this name, ``namespace/name``, ``name.namespace``, or ``name`` where that is clear.

        Raises
        ------
        InputError
            If there is none, or more than one.
        """
        bare, _, namespace = name.partition(".")
        if "/" in name:
            namespace, _, bare = name.partition("/")
        namespace = namespace.removesuffix(".svc.cluster.local").removesuffix(".svc")
        found = [
            one for one in self._services_by_bare_name.get(bare, ()) if not namespace or one.namespace == namespace
        ]
        if not found and self.fleet is not None and namespace in ("", NAMESPACE):
            index = self.fleet.service_index(bare)
            found = [self.fleet.service(index)] if index is not None else []
        if not found:
            raise InputError(f"there is no Service {name!r}: {did_you_mean(bare, self.service_names())}")
        if len(found) > 1:
            raise InputError(f"Service {name!r} is in several namespaces: {', '.join(one.full_name for one in found)}")
        return found[0]

    def service_at(self, address: str) -> Service | None:
        """The Service with a virtual address, None if no Service has it."""
        found = self._services_by_address.get(address)
        if found is None and self.fleet is not None:
            found = self.fleet.service_at(address)
        return found

    def behind(self, service: Service, port: ServicePort) -> tuple[Pod, ...]:
        """The pods that serve at the ready endpoints of a Service port, those on the host network too."""
        found = []
        for endpoint in self.endpoints(service, port):
            pod = self.pod_at(endpoint.address) or self._pod_on_host(endpoint.address, service)
            if pod is not None and endpoint.is_ready:
                found.append(pod)
        return tuple(found)

    def _pod_on_host(self, address: str, service: Service) -> Pod | None:
        """The pod on the host network of a node that a Service selects."""
        wanted = service.selector.items()
        sharing = (pod for pod in self.pods if pod.is_host_network and pod.address == address)
        return next(
            (pod for pod in sharing if pod.namespace == service.namespace and wanted <= pod.labels.items()), None
        )

    def service_names(self) -> list[str]:
        """Bare names of Services, for messages; of a fleet, the first and the last."""
        fleet = self.fleet
        made = [] if fleet is None else [fleet.service_name(0), fleet.service_name(fleet.services - 1)]
        return [service.name for service in self.services] + made

    def pod_names(self) -> list[str]:
        """Bare names of pods, for messages; of a fleet, the first."""
        made = [] if self.fleet is None or not self.fleet.endpoints else [self.fleet.pod(0, 0).name]
        return [pod.name for pod in self.pods] + made

    @cached_property
    def _nodes_by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _pods_by_bare_name(self) -> dict[str, list[Pod]]:
        found: dict[str, list[Pod]] = {}
        for pod in self.pods:
            found.setdefault(pod.name, []).append(pod)
        return found

    @cached_property
    def _pods_by_address(self) -> dict[str, Pod]:
        return {pod.address: pod for pod in self.pods if not pod.is_host_network}

    @cached_property
    def _services_by_address(self) -> dict[str, Service]:
        addresses = ((one.cluster_ips or (one.cluster_ip,), one) for one in self.services)
        return {address: service for listed, service in addresses for address in listed if address is not None}

    @cached_property
    def _services_by_bare_name(self) -> dict[str, list[Service]]:
        found: dict[str, list[Service]] = {}
        for service in self.services:
            found.setdefault(service.name, []).append(service)
        return found
