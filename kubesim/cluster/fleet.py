"""Services and pods made by number: what they are follows from their position, so that few of them are ever built."""

from __future__ import annotations

import ipaddress
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from socket import inet_aton

from kubesim.cluster.records import ContainerPort, Endpoint, Node, Pod, Service, ServicePort

NAMESPACE = "default"
PORT = 80
TARGET_PORT = 8080


@dataclass(frozen=True)
class Fleet:
    """``services`` Services, each with ``endpoints`` pods of its own, spread over nodes in turn.

    Parameters
    ----------
    services, endpoints
        How many Services, and how many endpoints each has.
    nodes
        Nodes the pods are put on, in turn.
    first_service_ip
        Virtual address of the first Service; the others follow.
    first_pod_ips
        Per node, the address of the fleet's first pod there; the others follow.
    protocol
        Protocol of their ports.
    prefix
        What names begin with.
    """

    services: int
    endpoints: int
    nodes: tuple[Node, ...]
    first_service_ip: str
    first_pod_ips: tuple[str, ...]
    protocol: str = "tcp"
    prefix: str = "svc"

    @cached_property
    def _ports(self) -> tuple[ServicePort, ...]:
        return (ServicePort(PORT, TARGET_PORT, self.protocol),)

    @cached_property
    def _digits(self) -> int:
        return len(str(max(1, self.services)))

    @cached_property
    def _first_numbers(self) -> tuple[int, ...]:
        return tuple(int(ipaddress.ip_address(address)) for address in self.first_pod_ips)

    @cached_property
    def _blocks(self) -> list[tuple[int, int]]:
        """Where each node's pods begin, and the node, in order of their addresses."""
        return sorted((first, node) for node, first in enumerate(self._first_numbers))

    @cached_property
    def _service_base(self) -> int:
        return int(ipaddress.ip_address(self.first_service_ip))

    def service_name(self, index: int) -> str:
        """``svc-0001`` for the first of up to 9999: names sort as numbers do."""
        return f"{self.prefix}-{index + 1:0{self._digits}}"

    def service(self, index: int) -> Service:
        """The Service at a position, from 0."""
        name = self.service_name(index)
        address = _dotted(self._service_base + index)
        return Service(NAMESPACE, name, address, self._ports, {"app": name})

    def service_index(self, name: str) -> int | None:
        """The position of a Service by its name, None if it is not of this fleet."""
        number = name.removeprefix(f"{self.prefix}-")
        if len(number) != self._digits or not number.isdecimal() or not 0 < int(number) <= self.services:
            return None
        return int(number) - 1

    def service_at(self, address: str) -> Service | None:
        """The Service with this virtual address, None if it is not of this fleet."""
        if ":" in address:
            return None
        index = int.from_bytes(inet_aton(address)) - self._service_base
        return self.service(index) if 0 <= index < self.services else None

    def endpoint_list(self, index: int) -> tuple[Endpoint, ...]:
        """The endpoints of the Service at a position."""
        first = index * self.endpoints
        return tuple(self._endpoint(pod) for pod in range(first, first + self.endpoints))

    def _endpoint(self, pod: int) -> Endpoint:
        turn, node = divmod(pod, len(self.nodes))
        return Endpoint(_dotted(self._first_numbers[node] + turn), TARGET_PORT, self.nodes[node].name)

    def pod(self, service: int, endpoint: int) -> Pod:
        """The pod that is a Service's endpoint at a position."""
        name = self.service_name(service)
        place = self._endpoint(service * self.endpoints + endpoint)
        return Pod(
            NAMESPACE,
            f"{name}-{endpoint}",
            str(place.node),
            place.address,
            {"app": name},
            (ContainerPort(TARGET_PORT, protocol=self.protocol),),
            owner=name,
        )

    def pods_on(self, node: Node) -> int:
        """How many of the pods a node has."""
        names = [one.name for one in self.nodes]
        if node.name not in names:
            return 0
        everywhere, rest = divmod(self.services * self.endpoints, len(names))
        return everywhere + (names.index(node.name) < rest)

    def pod_named(self, name: str) -> Pod | None:
        """The pod of this name, None if it is not of this fleet."""
        service_name, _, endpoint = name.rpartition("-")
        service = self.service_index(service_name)
        if service is None or not endpoint.isdecimal() or int(endpoint) >= self.endpoints:
            return None
        return self.pod(service, int(endpoint))

    def pod_at(self, address: str) -> Pod | None:
        """The pod with this address, None if it is not of this fleet."""
        if ":" in address:
            return None
        number = int.from_bytes(inet_aton(address))
        place = bisect_right(self._blocks, (number, len(self.nodes))) - 1
        if place < 0:
            return None
        first, node = self._blocks[place]
        pod = (number - first) * len(self.nodes) + node
        if pod >= self.services * self.endpoints:
            return None
        return self.pod(*divmod(pod, self.endpoints))


def _dotted(number: int) -> str:
    """An IPv4 address from its number; faster than the standard library's, which matters for a hundred thousand."""
    return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
