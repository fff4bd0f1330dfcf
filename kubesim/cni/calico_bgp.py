"""Calico without encapsulation: each pod is routed by a veth of its own, the nodes learn routes by BGP."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from kubesim.kernel.address import Prefix
from kubesim.kernel.route import Route
from kubesim.kernel.veth import veth_pair

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node, Pod
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic

GATEWAY = "169.254.1.1"
"""The next hop of every pod; the host end of its veth answers for it by proxy ARP."""


class Settings(BaseModel):
    """There is nothing to set."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Plugin:
    """Writes a /32 route for each pod here, and one for each other node's range, as BIRD would."""

    settings_model: ClassVar[type[BaseModel]] = Settings

    def __init__(self, cluster: Cluster, _settings: Settings, underlay_mtu: int) -> None:
        self._cluster = cluster
        self.pod_mtu = underlay_mtu

    def install(self, namespace: Namespace, node: Node, nic: Nic) -> None:
        """Write the routes; what is left of the node's own range leads nowhere."""
        namespace.is_forwarding = True
        namespace.routes.add(Route(Prefix(node.pod_cidr), None))
        for other in self._cluster.nodes:
            if other is not node:
                namespace.routes.add(Route(Prefix(other.pod_cidr), nic, via=other.address))

    def attach(self, root: Namespace, pod: Pod) -> Namespace:
        """Route a pod by a veth pair (cni-plugin, dataplane_linux.go)."""
        inside = root.host.add_namespace(pod.full_name)
        eth0, outside = veth_pair((inside, "eth0"), (root, f"cali-{pod.full_name}"), self.pod_mtu)
        outside.is_proxy_arp = True
        inside.add_address(eth0, pod.address)
        inside.routes.add(Route(Prefix("0.0.0.0/0"), eth0, via=GATEWAY))
        root.routes.add(Route(Prefix(pod.address), outside))
        return inside
