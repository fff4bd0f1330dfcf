"""Calico without encapsulation: each pod is routed by a veth of its own, the nodes learn routes by BGP."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from kubesim.cni._calico import CalicoSettings, Felix, attach, install_node
from kubesim.cni._underlay import require_one_network
from kubesim.kernel.address import Prefix
from kubesim.kernel.route import Route

if TYPE_CHECKING:
    from pydantic import BaseModel

    from kubesim.cluster import Cluster, Node, Pod
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic


class Plugin:
    """Writes a /32 route for each pod here, and one for each other node's range, as BIRD would."""

    settings_model: ClassVar[type[BaseModel]] = CalicoSettings

    def __init__(self, cluster: Cluster, settings: CalicoSettings, underlay_mtu: int) -> None:
        require_one_network(cluster, "calico-bgp", "calico-ipip or calico-vxlan, with mode CrossSubnet if you like")
        self._cluster = cluster
        self._felix = Felix(cluster, settings)
        self.pod_mtu = self._felix.pod_mtu(underlay_mtu)

    def install(self, namespace: Namespace, node: Node, nic: Nic) -> None:
        """Write the routes."""
        install_node(namespace, node)
        for other in self._cluster.nodes:
            if other is not node:
                namespace.routes.add(Route(Prefix(other.pod_cidr), nic, via=other.address))
        self._felix.install(namespace, node, nic, self.pod_mtu)

    def settle(self, namespace: Namespace) -> None:
        """Have Felix's rules come first."""
        self._felix.settle(namespace)

    def attach(self, root: Namespace, pod: Pod) -> Namespace:
        """Route a pod by a veth pair."""
        return attach(root, pod, self.pod_mtu)
