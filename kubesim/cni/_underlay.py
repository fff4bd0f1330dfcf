"""What plugins that route pods' packets without a tunnel need of the network between the nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.errors import InputError

if TYPE_CHECKING:
    from kubesim.cluster import Cluster


def require_one_network(cluster: Cluster, plugin: str, instead: str) -> None:
    """Refuse nodes on several layer-2 networks: the router between them does not know the pods' addresses.

    Raises
    ------
    InputError
        If there are several.
    """
    networks = {node.subnet for node in cluster.nodes}
    if len(networks) > 1:
        raise InputError(
            f"cni: {plugin} sends pods' packets to other nodes as they are, so all nodes must be on one layer-2 "
            f"network, and cluster.node_subnets is {len(networks)}: take {instead}"
        )
