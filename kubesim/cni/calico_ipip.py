"""Calico with IPIP: the nodes learn routes by BGP, and packets between them travel in IP of their own."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, Field

from kubesim.cni._calico import CalicoSettings, Felix, attach, install_node
from kubesim.cni._calico_rules import IPIP
from kubesim.kernel.address import Prefix
from kubesim.kernel.ipip import IPIP_OVERHEAD_BYTES, Ipip
from kubesim.kernel.route import Route

if TYPE_CHECKING:
    from pydantic import BaseModel

    from kubesim.cluster import Cluster, Node, Pod
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic


class Settings(CalicoSettings):
    """Settings of an IP pool."""

    ipip_mode: Literal["Always", "CrossSubnet"] = Field(
        default="Always",
        description="CrossSubnet leaves packets as they are between nodes on one layer-2 network",
    )


class Plugin:
    """Writes ``tunl0``, a /32 route for each pod here, and one through the tunnel for each other node's range."""

    settings_model: ClassVar[type[BaseModel]] = Settings

    def __init__(self, cluster: Cluster, settings: Settings, underlay_mtu: int) -> None:
        self._cluster = cluster
        self._is_always = settings.ipip_mode == "Always"
        self._felix = Felix(cluster, settings, IPIP)
        self.pod_mtu = self._felix.pod_mtu(underlay_mtu, IPIP_OVERHEAD_BYTES)

    def install(self, namespace: Namespace, node: Node, nic: Nic) -> None:
        """Make the tunnel, which has the first address of the node's range, and write the routes (confd, BIRD)."""
        install_node(namespace, node)
        tunnel = Ipip(namespace, IPIP.device, self.pod_mtu, local_address=nic.addresses[0])
        namespace.add_address(tunnel, str(ipaddress.IPv4Network(node.pod_cidr).network_address))
        for other in self._cluster.nodes:
            if other is not node:
                is_direct = not self._is_always and other.subnet == node.subnet
                device = nic if is_direct else tunnel
                namespace.routes.add(Route(Prefix(other.pod_cidr), device, via=other.address))
        self._felix.install(namespace, node, nic, self.pod_mtu)

    def settle(self, namespace: Namespace) -> None:
        """Have Felix's rules come first."""
        self._felix.settle(namespace)

    def attach(self, root: Namespace, pod: Pod) -> Namespace:
        """Route a pod by a veth pair."""
        return attach(root, pod, self.pod_mtu)
