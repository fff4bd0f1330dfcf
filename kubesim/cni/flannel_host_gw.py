"""flannel with its host-gw back end: a bridge on each node, and plain routes through the other nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from kubesim.cni._flannel import install_rules
from kubesim.cni._linux_bridge import BridgeSettings, attach_to_bridge, install_bridge
from kubesim.cni._underlay import require_one_network
from kubesim.kernel.address import Prefix
from kubesim.kernel.route import Route

if TYPE_CHECKING:
    from pydantic import BaseModel

    from kubesim.cluster import Cluster, Node, Pod
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic


class Plugin:
    """Writes ``cni0`` and a route for each other node; all nodes must be on one layer-2 network."""

    settings_model: ClassVar[type[BaseModel]] = BridgeSettings

    def __init__(self, cluster: Cluster, settings: BridgeSettings, underlay_mtu: int) -> None:
        require_one_network(cluster, "flannel-host-gw", "flannel-vxlan, with direct_routing if you like")
        self._cluster = cluster
        self._settings = settings
        self.pod_mtu = underlay_mtu

    def install(self, namespace: Namespace, node: Node, nic: Nic) -> None:
        """Make the bridge and the routes (pkg/backend/hostgw)."""
        is_filtered = self._settings.bridge_nf_call_iptables
        install_bridge(namespace, node, self.pod_mtu, is_bridge_nf_call_iptables=is_filtered)
        for other in self._cluster.nodes:
            if other is not node:
                namespace.routes.add(Route(Prefix(other.pod_cidr), nic, via=other.address))
        install_rules(namespace, node, self._cluster)

    def attach(self, root: Namespace, pod: Pod) -> Namespace:
        """Hang a pod on the bridge."""
        return attach_to_bridge(root, pod, self._cluster.node(pod.node), self.pod_mtu)
