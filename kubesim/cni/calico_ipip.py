"""Calico with IPIP: the nodes learn routes by BGP, and packets between them travel in IP of their own."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from kubesim.cni._calico import EncryptionSettings, attach, install_encryption, install_node
from kubesim.kernel.address import Prefix
from kubesim.kernel.ipip import IPIP_OVERHEAD_BYTES, Ipip
from kubesim.kernel.route import Route

if TYPE_CHECKING:
    from pydantic import BaseModel

    from kubesim.cluster import Cluster, Node, Pod
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic

DEVICE = "tunl0"


class Settings(EncryptionSettings):
    """Settings of an IP pool, and of encryption."""

    ipip_mode: Literal["Always", "CrossSubnet"] = Field(
        default="Always",
        description="CrossSubnet leaves packets as they are between nodes of one network, which all nodes here are of",
    )


class Plugin:
    """Writes ``tunl0``, a /32 route for each pod here, and one through the tunnel for each other node's range."""

    settings_model: ClassVar[type[BaseModel]] = Settings

    def __init__(self, cluster: Cluster, settings: Settings, underlay_mtu: int) -> None:
        self._cluster = cluster
        self._is_always = settings.ipip_mode == "Always"
        self._is_encrypted = settings.encryption == "wireguard"
        self._tunnel_mtu = underlay_mtu - IPIP_OVERHEAD_BYTES
        self.pod_mtu = settings.pod_mtu(underlay_mtu, IPIP_OVERHEAD_BYTES)

    def install(self, namespace: Namespace, node: Node, nic: Nic) -> None:
        """Make the tunnel, which has the first address of the node's range, and write the routes (confd, BIRD)."""
        install_node(namespace, node)
        tunnel = Ipip(namespace, DEVICE, self._tunnel_mtu, local_address=nic.addresses[0])
        namespace.add_address(tunnel, str(ipaddress.IPv4Network(node.pod_cidr).network_address))
        for other in self._cluster.nodes:
            if other is not node:
                device = tunnel if self._is_always else nic
                namespace.routes.add(Route(Prefix(other.pod_cidr), device, via=other.address))
        if self._is_encrypted:
            install_encryption(namespace, node, nic, self._cluster, self.pod_mtu)

    def attach(self, root: Namespace, pod: Pod) -> Namespace:
        """Route a pod by a veth pair."""
        return attach(root, pod, self.pod_mtu)
