"""What Calico's ways of joining nodes share: each pod is routed by a veth of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.address import Prefix
from kubesim.kernel.route import Route
from kubesim.kernel.veth import veth_pair

if TYPE_CHECKING:
    from kubesim.cluster import Node, Pod
    from kubesim.kernel.namespace import Namespace

GATEWAY = "169.254.1.1"
"""The next hop of every pod; the host end of its veth answers for it by proxy ARP."""


def install_node(namespace: Namespace, node: Node) -> None:
    """Forward packets; what is left of the node's own range leads nowhere."""
    namespace.is_forwarding = True
    namespace.routes.add(Route(Prefix(node.pod_cidr), None))


def attach(root: Namespace, pod: Pod, mtu: int) -> Namespace:
    """Route a pod by a veth pair (cni-plugin, dataplane_linux.go)."""
    inside = root.host.add_namespace(pod.full_name)
    eth0, outside = veth_pair((inside, "eth0"), (root, f"cali-{pod.full_name}"), mtu)
    outside.is_proxy_arp = True
    inside.add_address(eth0, pod.address)
    inside.routes.add(Route(Prefix("0.0.0.0/0"), eth0, via=GATEWAY))
    root.routes.add(Route(Prefix(pod.address), outside))
    return inside
