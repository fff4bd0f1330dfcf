"""flannel with its VXLAN back end: a bridge on each node, and a tunnel endpoint that knows all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, Field

from kubesim.cni._flannel import install_rules
from kubesim.cni._linux_bridge import BridgeSettings, attach_to_bridge, install_bridge
from kubesim.cni._vxlan import install_tunnel
from kubesim.kernel.vxlan import VXLAN_OVERHEAD_BYTES, Vxlan

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node, Pod
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic


class Settings(BridgeSettings):
    """Settings of flannel's VXLAN back end."""

    vni: int = Field(default=1, ge=1, lt=1 << 24, description="VXLAN network identifier")
    port: int = Field(default=8472, ge=1, le=65535, description="UDP port of the tunnel endpoints")
    direct_routing: bool = Field(
        default=False,
        description="flannel's DirectRouting: packets between nodes on one layer-2 network go as they are",
    )


class Plugin:
    """Writes ``cni0``, ``flannel.1``, and a route, a neighbour and a forwarding entry for each other node."""

    settings_model: ClassVar[type[BaseModel]] = Settings

    def __init__(self, cluster: Cluster, settings: Settings, underlay_mtu: int) -> None:
        self._cluster = cluster
        self._settings = settings
        self.pod_mtu = underlay_mtu - VXLAN_OVERHEAD_BYTES

    def install(self, namespace: Namespace, node: Node, nic: Nic) -> None:
        """Make the bridge and the tunnel (pkg/backend/vxlan/vxlan_network.go: static neighbours, no learning)."""
        settings = self._settings
        install_bridge(namespace, node, self.pod_mtu, is_bridge_nf_call_iptables=settings.bridge_nf_call_iptables)
        tunnel = Vxlan(
            namespace,
            f"flannel.{settings.vni}",
            self.pod_mtu,
            local_address=nic.addresses[0],
            port=settings.port,
            vni=settings.vni,
        )
        install_tunnel(namespace, node, nic, self._cluster, tunnel, is_direct=settings.direct_routing)
        install_rules(namespace, node, self._cluster)

    def attach(self, root: Namespace, pod: Pod) -> Namespace:
        """Hang a pod on the bridge."""
        return attach_to_bridge(root, pod, self._cluster.node(pod.node), self.pod_mtu)
