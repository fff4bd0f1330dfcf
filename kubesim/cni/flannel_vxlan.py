"""flannel with its VXLAN back end: a bridge on each node, and a tunnel endpoint that knows all others."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from kubesim.cni._flannel import install_rules
from kubesim.cni._linux_bridge import attach_to_bridge, install_bridge
from kubesim.kernel.address import Prefix, mac_address
from kubesim.kernel.route import Route
from kubesim.kernel.vxlan import VXLAN_OVERHEAD_BYTES, Vxlan

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node, Pod
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic


class Settings(BaseModel):
    """Settings of flannel's VXLAN back end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vni: int = Field(default=1, ge=1, lt=1 << 24, description="VXLAN network identifier")
    port: int = Field(default=8472, ge=1, le=65535, description="UDP port of the tunnel endpoints")


class Plugin:
    """Writes ``cni0``, ``flannel.1``, and a route, a neighbour and a forwarding entry for each other node."""

    settings_model: ClassVar[type[BaseModel]] = Settings

    def __init__(self, cluster: Cluster, settings: Settings, underlay_mtu: int) -> None:
        self._cluster = cluster
        self._settings = settings
        self.pod_mtu = underlay_mtu - VXLAN_OVERHEAD_BYTES

    def install(self, namespace: Namespace, node: Node, nic: Nic) -> None:
        """Make the bridge and the tunnel (pkg/backend/vxlan/vxlan_network.go: static neighbours, no learning)."""
        install_bridge(namespace, node, self.pod_mtu)
        name = f"flannel.{self._settings.vni}"
        tunnel = Vxlan(namespace, name, self.pod_mtu, local_address=nic.addresses[0], port=self._settings.port)
        namespace.add_address(tunnel, _endpoint_address(node))
        for other in self._cluster.nodes:
            if other is node:
                continue
            endpoint = _endpoint_address(other)
            mac = mac_address(other.name, other.name, name)
            namespace.routes.add(Route(Prefix(other.pod_cidr), tunnel, via=endpoint))
            namespace.neighbours[name, endpoint] = mac
            tunnel.forwarding_database[mac] = other.address
        install_rules(namespace, node, self._cluster)

    def attach(self, root: Namespace, pod: Pod) -> Namespace:
        """Hang a pod on the bridge."""
        return attach_to_bridge(root, pod, self._cluster.node(pod.node), self.pod_mtu)


def _endpoint_address(node: Node) -> str:
    """The address of a node's ``flannel.1``: the first of the node's range."""
    return str(ipaddress.IPv4Network(node.pod_cidr).network_address)
