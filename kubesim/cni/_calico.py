"""What Calico's ways of joining nodes share: each pod is routed by a veth of its own, past Felix's rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from kubesim.cni._calico_rules import INTERFACES, bring_jumps_to_front, install_rules
from kubesim.kernel.address import Prefix
from kubesim.kernel.route import Route
from kubesim.kernel.veth import veth_pair

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node, Pod
    from kubesim.cni._calico_rules import Encapsulation
    from kubesim.kernel.namespace import Namespace

GATEWAY = "169.254.1.1"
"""The next hop of every pod; the host end of its veth answers for it by proxy ARP."""


class CalicoSettings(BaseModel):
    """What all of them can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    has_policy_chains: bool = Field(
        default=True, description="Felix's chains in iptables, which every packet passes with and without any policy"
    )


class PolicyChains:
    """Felix on the nodes: writes its rules, and keeps them in front of others'."""

    def __init__(self, cluster: Cluster, settings: CalicoSettings, encapsulation: Encapsulation | None = None) -> None:
        self._cluster = cluster
        self._is_there = settings.has_policy_chains
        self._encapsulation = encapsulation

    def install(self, namespace: Namespace, node: Node) -> None:
        """Write the rules of a node."""
        if self._is_there:
            install_rules(namespace, node, self._cluster, self._encapsulation)

    def settle(self, namespace: Namespace) -> None:
        """Come back to the front."""
        if self._is_there:
            bring_jumps_to_front(namespace)


def install_node(namespace: Namespace, node: Node) -> None:
    """Forward packets; what is left of the node's own range leads nowhere."""
    namespace.is_forwarding = True
    namespace.routes.add(Route(Prefix(node.pod_cidr), None))


def attach(root: Namespace, pod: Pod, mtu: int) -> Namespace:
    """Route a pod by a veth pair (cni-plugin, dataplane_linux.go)."""
    inside = root.host.add_namespace(pod.full_name)
    eth0, outside = veth_pair((inside, "eth0"), (root, f"{INTERFACES}{pod.full_name}"), mtu)
    outside.is_proxy_arp = True
    inside.add_address(eth0, pod.address)
    inside.routes.add(Route(Prefix("0.0.0.0/0"), eth0, via=GATEWAY))
    root.routes.add(Route(Prefix(pod.address), outside))
    return inside
