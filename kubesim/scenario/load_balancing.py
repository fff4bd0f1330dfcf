"""Load balancers in front of a cluster: who gets packets for their addresses, and where they aim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.load_balancer import Listener, LoadBalancer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubesim.cluster import Cluster, LoadBalancing, Service
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic


def announced(cluster: Cluster, load_balancing: LoadBalancing) -> dict[str, tuple[str, ...]]:
    """Which machines the router sends packets to for each load balancer's address.

    A machine in front gets them all; by ``l2`` one node, which has been elected, here by the address, among those that
    may serve; by ``bgp`` all of these. Where ``externalTrafficPolicy`` is ``Local``, only nodes with an endpoint may.
    """
    found: dict[str, tuple[str, ...]] = {}
    for service in _balanced(cluster):
        for number, address in enumerate(service.load_balancer_ips):
            if cluster.load_balancer is not None:
                found[address] = (cluster.load_balancer.address,)
                continue
            nodes = {node.address for port in service.ports for node in cluster.nodes_in_turn(service, port)}
            speakers = [node.address for node in cluster.nodes if node.address in nodes]
            if load_balancing == "l2" and speakers:
                speakers = [speakers[(int(address.rpartition(".")[2]) + number) % len(speakers)]]
            if speakers:
                found[address] = tuple(speakers)
    return found


def balance(cluster: Cluster, namespace: Namespace, nic: Nic) -> None:
    """Make a machine the load balancer of all Services that have one: it aims at node ports."""
    targets: dict[Listener, tuple[tuple[str, int], ...]] = {}
    for service in _balanced(cluster):
        for address in service.load_balancer_ips:
            namespace.add_address(nic, address)
            for port in service.ports:
                if port.node_port is not None:
                    nodes = cluster.nodes_in_turn(service, port)
                    aims = tuple((node.address, port.node_port) for node in nodes)
                    targets[Listener(address, port.protocol, port.port)] = aims
    LoadBalancer(namespace, targets)


def _balanced(cluster: Cluster) -> Iterator[Service]:
    """Services with a load balancer."""
    return (service for service in cluster.services if service.kind == "LoadBalancer")
