"""The reference plugin ``bridge``, to which flannel delegates: pods hang on a bridge by veth pairs; so do Docker's."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field

from kubesim.kernel.address import Prefix
from kubesim.kernel.bridge import Bridge
from kubesim.kernel.route import Route
from kubesim.kernel.veth import veth_pair

if TYPE_CHECKING:
    from kubesim.cluster import Node, Pod
    from kubesim.kernel.namespace import Namespace

BRIDGE = "cni0"


class BridgeSettings(BaseModel):
    """What all plugins with a bridge can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bridge_nf_call_iptables: bool = Field(
        default=True,
        description="net.bridge.bridge-nf-call-iptables: packets between pods of one bridge pass iptables, as kubeadm "
        "asks for; without it replies of pods on the same bridge are not translated back, so that Services fail there",
    )


def install_bridge(
    namespace: Namespace, node: Node, mtu: int, name: str = BRIDGE, *, is_bridge_nf_call_iptables: bool = True
) -> Bridge:
    """Make the bridge with the first address of the node's range, and let the node forward packets."""
    network = ipaddress.IPv4Network(node.pod_cidr)
    bridge = Bridge(namespace, name, mtu)
    namespace.add_address(bridge, f"{network[1]}/{network.prefixlen}")
    namespace.is_forwarding = True
    namespace.is_bridge_nf_call_iptables = is_bridge_nf_call_iptables
    return bridge


def attach_to_bridge(root: Namespace, pod: Pod, node: Node, mtu: int, name: str = BRIDGE) -> Namespace:
    """Give a pod ``eth0``, its address, and a default route through the bridge, whose port is in hairpin mode."""
    network = ipaddress.IPv4Network(node.pod_cidr)
    bridge = root.devices[name]
    assert isinstance(bridge, Bridge)  # noqa: S101 - made by install_bridge
    inside = root.host.add_namespace(pod.full_name)
    eth0, port = veth_pair((inside, "eth0"), (root, f"veth-{pod.full_name}"), mtu)
    port.is_hairpin = True
    inside.add_address(eth0, f"{pod.address}/{network.prefixlen}")
    inside.routes.add(Route(Prefix("0.0.0.0/0"), eth0, via=str(network[1])))
    bridge.add_port(port)
    root.neighbours[name, pod.address] = eth0.mac
    return inside
