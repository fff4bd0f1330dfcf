"""What plugins with VXLAN share: a tunnel endpoint on each node, which knows all others from the start."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from kubesim.kernel.address import Prefix, mac_address
from kubesim.kernel.route import Route
from kubesim.kernel.vxlan import Vxlan

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic


def install_tunnel(
    namespace: Namespace, node: Node, nic: Nic, cluster: Cluster, tunnel: Vxlan, *, is_direct: bool
) -> None:
    """Write a route, a neighbour and a forwarding entry for each other node; nothing is learnt from packets.

    Parameters
    ----------
    namespace, node, nic
        Where.
    cluster
        Who the others are.
    tunnel
        The endpoint here; those of other nodes have the same name.
    is_direct
        Whether packets to nodes on the same layer-2 network go as they are, by a plain route.
    """
    namespace.add_address(tunnel, _endpoint_address(node))
    for other in cluster.nodes:
        if other is node:
            continue
        endpoint = _endpoint_address(other)
        mac = mac_address(other.name, other.name, tunnel.name)
        namespace.neighbours[tunnel.name, endpoint] = mac
        tunnel.forwarding_database[mac] = other.address
        if is_direct and other.subnet == node.subnet:
            namespace.routes.add(Route(Prefix(other.pod_cidr), nic, via=other.address))
        else:
            namespace.routes.add(Route(Prefix(other.pod_cidr), tunnel, via=endpoint))


def _endpoint_address(node: Node) -> str:
    """The address of a node's tunnel endpoint: the first of the node's range."""
    return str(ipaddress.IPv4Network(node.pod_cidr).network_address)
