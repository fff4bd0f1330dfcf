"""What makes a cluster reachable from outside: machines beside it, node ports, addresses of load balancers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from kubesim.cluster.addresses import AddressPool
from kubesim.cluster.records import OutsideHost
from kubesim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubesim.cluster.records import Node, Service, ServicePort
    from kubesim.cluster.spec import ClusterSpec

FIRST_NODE_PORT, LAST_NODE_PORT = 30_000, 32_767
"""``--service-node-port-range`` of kube-apiserver."""

LOAD_BALANCER = "load-balancer"


def outside_hosts(spec: ClusterSpec, nodes: Iterable[Node], count: int) -> tuple[tuple[OutsideHost, ...], OutsideHost]:
    """Machines called ``outside-1`` and so on, and one for a load balancer, with addresses of the nodes' network.

    Raises
    ------
    InputError
        If a node has such a name, or the network has no addresses left.
    """
    taken = {node.name: node.address for node in nodes}
    pool = AddressPool(spec.node_cidr, "cluster.node_cidr", "machines outside", taken.values(), first=_FIRST_ADDRESS)
    names = [LOAD_BALANCER, *(f"outside-{number + 1}" for number in range(count))]
    for name in names:
        if name in taken:
            raise InputError(f"a node cannot be called {name}: that is a machine outside of the cluster")
    balancer, *hosts = (OutsideHost(name, pool.take()) for name in names)
    return tuple(hosts), balancer


_FIRST_ADDRESS = 2
"""The network's first address is the gateway's."""


def reachable(services: Iterable[Service], spec: ClusterSpec) -> list[Service]:
    """The same Services with the node ports and load balancers' addresses that a cluster would give them.

    One with a load balancer's address is left as it is: without node ports it does without
    (``allocateLoadBalancerNodePorts``).
    """
    found = list(services)
    given = {port.node_port for one in found for port in one.ports} | {one.health_check_port for one in found}
    numbers = iter(range(FIRST_NODE_PORT, LAST_NODE_PORT + 1))
    balanced = [address for one in found for address in one.load_balancer_ips]
    pool = AddressPool(spec.load_balancer_cidr, "cluster.load_balancer_cidr", "load balancers", balanced)

    def with_node_port(port: ServicePort) -> ServicePort:
        if port.node_port is not None:
            return port
        number = next((one for one in numbers if one not in given), None)
        if number is None:
            raise InputError(f"Services need more node ports than {FIRST_NODE_PORT} to {LAST_NODE_PORT}")
        return replace(port, node_port=number)

    for position, service in enumerate(found):
        is_external = service.kind in ("NodePort", "LoadBalancer") and service.cluster_ip is not None
        if is_external and not service.load_balancer_ips:
            ports = tuple(with_node_port(port) for port in service.ports)
            addresses = (pool.take(),) if service.kind == "LoadBalancer" else ()
            found[position] = replace(service, ports=ports, load_balancer_ips=addresses)
    return found
