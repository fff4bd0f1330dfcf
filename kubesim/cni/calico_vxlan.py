"""Calico with VXLAN: Felix writes the routes, and packets between nodes travel in UDP that conntrack does not see."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, Field

from kubesim.cni._calico import CalicoSettings, Felix, attach, install_node
from kubesim.cni._calico_rules import VXLAN
from kubesim.cni._vxlan import install_tunnel
from kubesim.kernel.vxlan import VXLAN_OVERHEAD_BYTES, Vxlan

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node, Pod
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic

_PORT = 4789
_VNI = 4096


class Settings(CalicoSettings):
    """Settings of an IP pool."""

    vxlan_mode: Literal["Always", "CrossSubnet"] = Field(
        default="Always",
        description="CrossSubnet leaves packets as they are between nodes on one layer-2 network",
    )


class Plugin:
    """Writes ``vxlan.calico``, a /32 route for each pod here, and one through the tunnel for each other node's."""

    settings_model: ClassVar[type[BaseModel]] = Settings

    def __init__(self, cluster: Cluster, settings: Settings, underlay_mtu: int) -> None:
        self._cluster = cluster
        self._is_direct = settings.vxlan_mode == "CrossSubnet"
        self._felix = Felix(cluster, settings, VXLAN)
        self.pod_mtu = self._felix.pod_mtu(underlay_mtu, VXLAN_OVERHEAD_BYTES)

    def install(self, namespace: Namespace, node: Node, nic: Nic) -> None:
        """Make the tunnel and the routes (felix/dataplane/linux/vxlan_mgr.go), and write the rules."""
        install_node(namespace, node)
        local = nic.addresses[0]
        tunnel = Vxlan(namespace, VXLAN.device, self.pod_mtu, local_address=local, port=_PORT, vni=_VNI)
        install_tunnel(namespace, node, nic, self._cluster, tunnel, is_direct=self._is_direct)
        self._felix.install(namespace, node, nic, self.pod_mtu)

    def settle(self, namespace: Namespace) -> None:
        """Have Felix's rules come first."""
        self._felix.settle(namespace)

    def attach(self, root: Namespace, pod: Pod) -> Namespace:
        """Route a pod by a veth pair."""
        return attach(root, pod, self.pod_mtu)
