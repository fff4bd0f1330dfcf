"""Calico without encapsulation: each pod is routed by a veth of its own, the nodes learn routes by BGP."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from kubesim.cni._calico import EncryptionSettings, attach, install_encryption, install_node
from kubesim.kernel.address import Prefix
from kubesim.kernel.route import Route

if TYPE_CHECKING:
    from pydantic import BaseModel

    from kubesim.cluster import Cluster, Node, Pod
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic


class Settings(EncryptionSettings):
    """Settings of Calico without encapsulation."""


class Plugin:
    """Writes a /32 route for each pod here, and one for each other node's range, as BIRD would."""

    settings_model: ClassVar[type[BaseModel]] = Settings

    def __init__(self, cluster: Cluster, settings: Settings, underlay_mtu: int) -> None:
        self._cluster = cluster
        self._is_encrypted = settings.encryption == "wireguard"
        self.pod_mtu = settings.pod_mtu(underlay_mtu)

    def install(self, namespace: Namespace, node: Node, nic: Nic) -> None:
        """Write the routes."""
        install_node(namespace, node)
        for other in self._cluster.nodes:
            if other is not node:
                namespace.routes.add(Route(Prefix(other.pod_cidr), nic, via=other.address))
        if self._is_encrypted:
            install_encryption(namespace, node, nic, self._cluster, self.pod_mtu)

    def attach(self, root: Namespace, pod: Pod) -> Namespace:
        """Route a pod by a veth pair."""
        return attach(root, pod, self.pod_mtu)
