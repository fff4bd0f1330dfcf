"""flannel with its UDP back end: a bridge on each node, and a process that carries packets between the nodes."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from kubesim.cni._flannel import install_rules
from kubesim.cni._linux_bridge import attach_to_bridge, install_bridge
from kubesim.kernel.address import Prefix
from kubesim.kernel.route import Route
from kubesim.kernel.tun import UDP_OVERHEAD_BYTES, Tun, TunDaemon

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node, Pod
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic

DEVICE = "flannel0"


class Settings(BaseModel):
    """Settings of flannel's UDP back end."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    port: int = Field(default=8285, ge=1, le=65535, description="UDP port of flanneld on all nodes")


class Plugin:
    """Writes ``cni0`` and ``flannel0``, a route to all pods, and what flanneld knows of the other nodes."""

    settings_model: ClassVar[type[BaseModel]] = Settings

    def __init__(self, cluster: Cluster, settings: Settings, underlay_mtu: int) -> None:
        self._cluster = cluster
        self._port = settings.port
        self.pod_mtu = underlay_mtu - UDP_OVERHEAD_BYTES

    def install(self, namespace: Namespace, node: Node, nic: Nic) -> None:
        """Make the bridge and the device, and start flanneld (pkg/backend/udp/udp_network_amd64.go)."""
        install_bridge(namespace, node, self.pod_mtu)
        device = Tun(namespace, DEVICE, self.pod_mtu)
        namespace.add_address(device, str(ipaddress.IPv4Network(node.pod_cidr).network_address))
        namespace.routes.add(Route(Prefix(self._cluster.pod_cidr), device))
        flanneld = TunDaemon(device, nic.addresses[0], self._port)
        for other in self._cluster.nodes:
            if other is not node:
                flanneld.add_host(Prefix(other.pod_cidr), other.address)
        install_rules(namespace, node, self._cluster)

    def attach(self, root: Namespace, pod: Pod) -> Namespace:
        """Hang a pod on the bridge."""
        return attach_to_bridge(root, pod, self._cluster.node(pod.node), self.pod_mtu)
