"""flannel with its WireGuard back end: a bridge on each node, and an encrypted tunnel to all others."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from kubesim.cni._flannel import install_rules
from kubesim.cni._linux_bridge import attach_to_bridge, install_bridge
from kubesim.kernel.address import Prefix
from kubesim.kernel.route import Route
from kubesim.kernel.wireguard import DEFAULT_PORT, WIREGUARD_OVER_IPV6_OVERHEAD_BYTES, Wireguard

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node, Pod
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic

DEVICE = "flannel-wg"


class Settings(BaseModel):
    """Settings of flannel's WireGuard back end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen_port: int = Field(default=DEFAULT_PORT, ge=1, le=65535, description="UDP port of all nodes")


class Plugin:
    """Writes ``cni0``, ``flannel-wg``, and a route and a peer for each other node."""

    settings_model: ClassVar[type[BaseModel]] = Settings

    def __init__(self, cluster: Cluster, settings: Settings, underlay_mtu: int) -> None:
        self._cluster = cluster
        self._port = settings.listen_port
        self.pod_mtu = underlay_mtu - WIREGUARD_OVER_IPV6_OVERHEAD_BYTES

    def install(self, namespace: Namespace, node: Node, nic: Nic) -> None:
        """Make the bridge and the tunnel (pkg/backend/wireguard/wireguard_network.go, device.go)."""
        install_bridge(namespace, node, self.pod_mtu)
        tunnel = Wireguard(namespace, DEVICE, self.pod_mtu, local_address=nic.addresses[0], port=self._port)
        namespace.add_address(tunnel, str(ipaddress.IPv4Network(node.pod_cidr).network_address))
        for other in self._cluster.nodes:
            if other is not node:
                tunnel.allow(Prefix(other.pod_cidr), other.address)
                namespace.routes.add(Route(Prefix(other.pod_cidr), tunnel))
        install_rules(namespace, node, self._cluster)

    def attach(self, root: Namespace, pod: Pod) -> Namespace:
        """Hang a pod on the bridge."""
        return attach_to_bridge(root, pod, self._cluster.node(pod.node), self.pod_mtu)
