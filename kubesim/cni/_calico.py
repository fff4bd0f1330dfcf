"""What Calico's ways of joining nodes share: each pod is routed by a veth of its own, past Felix's rules."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from kubesim.cni._calico_rules import INTERFACES, bring_jumps_to_front, install_rules
from kubesim.kernel.address import Prefix
from kubesim.kernel.route import Route
from kubesim.kernel.veth import veth_pair
from kubesim.kernel.wireguard import WIREGUARD_OVERHEAD_BYTES, Wireguard

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node, Pod
    from kubesim.cni._calico_rules import Encapsulation
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic

GATEWAY = "169.254.1.1"
"""The next hop of every pod; the host end of its veth answers for it by proxy ARP."""

WIREGUARD_DEVICE = "wireguard.cali"


class CalicoSettings(BaseModel):
    """What can be set for all of Calico's ways of joining nodes (FelixConfiguration)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    has_policy_chains: bool = Field(
        default=True, description="Felix's chains in iptables, which every packet passes with and without any policy"
    )
    encryption: Literal["none", "wireguard"] = Field(
        default="none", description="wireguard sends packets to pods of other nodes encrypted, and in no other tunnel"
    )


class Felix:
    """Felix on the nodes: writes its rules and keeps them in front of others', and encrypts if that is wanted.

    Parameters
    ----------
    cluster
        What exists.
    settings
        What was set.
    encapsulation
        The tunnel between nodes, None if there is none.
    """

    def __init__(self, cluster: Cluster, settings: CalicoSettings, encapsulation: Encapsulation | None = None) -> None:
        self._cluster = cluster
        self._has_chains = settings.has_policy_chains
        self._is_encrypted = settings.encryption == "wireguard"
        self._encapsulation = encapsulation

    def pod_mtu(self, underlay_mtu: int, overhead_bytes: int = 0) -> int:
        """MTU of pods that fits the headers of the tunnel, of so many bytes, and of encryption."""
        return underlay_mtu - max(overhead_bytes, WIREGUARD_OVERHEAD_BYTES if self._is_encrypted else 0)

    def install(self, namespace: Namespace, node: Node, nic: Nic, pod_mtu: int) -> None:
        """Write the rules of a node, and the routes of what is encrypted."""
        if self._is_encrypted:
            _encrypt(namespace, node, nic, self._cluster, pod_mtu)
        if self._has_chains:
            install_rules(namespace, node, self._cluster, self._encapsulation)

    def settle(self, namespace: Namespace) -> None:
        """Come back to the front."""
        if self._has_chains:
            bring_jumps_to_front(namespace)


def _encrypt(namespace: Namespace, node: Node, nic: Nic, cluster: Cluster, mtu: int) -> None:
    """Make the WireGuard device, and route the other nodes' pods into it (felix/wireguard, whose table comes first).

    Processes of nodes send from the node's address here, so that peers are allowed to have it, as with
    wireguardHostEncryptionEnabled.
    """
    tunnel = Wireguard(namespace, WIREGUARD_DEVICE, mtu, local_address=nic.addresses[0])
    namespace.add_address(tunnel, str(ipaddress.IPv4Network(node.pod_cidr).network_address))
    for other in cluster.nodes:
        if other is not node:
            tunnel.allow(Prefix(other.pod_cidr), other.address)
            tunnel.allow(Prefix(other.address), other.address)
            namespace.routes.add(Route(Prefix(other.pod_cidr), tunnel))


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
