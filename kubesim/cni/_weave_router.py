"""What Weave's process on a node knows, and tells Open vSwitch: behind which node which MAC address is."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from kubesim.kernel.address import mac_address
from kubesim.kernel.openvswitch import Discard, Mask, Megaflow, Output

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node
    from kubesim.kernel.openvswitch import FlowKey

DATAPATH_PORT, TUNNEL = "vethwe-datapath", "vxlan-6784"


class Router:
    """The process of one node (router/network_router.go, router/fastdp.go).

    It learns MAC addresses from frames, of which an answer to ARP is the first that two pods exchange.

    Parameters
    ----------
    cluster
        Who exists.
    node
        Where it runs.
    bridge
        Name of the bridge, on every node.
    """

    def __init__(self, cluster: Cluster, node: Node, bridge: str) -> None:
        self._cluster = cluster
        self._node = node
        self._bridge = bridge
        self._bridges = {bridge_address(other): other for other in cluster.nodes if other is not node}
        self._peers: dict[str, str] = {}

    def answer(self, address: str) -> str | None:
        """Ask all other nodes: a pod answers, or the bridge of a node."""
        other, owner = self._bridges.get(address), self._bridge
        namespace = "" if other is None else other.name
        pod = self._cluster.pod_at(address)
        if pod is not None and not pod.is_host_network and pod.node != self._node.name:
            other, namespace, owner = self._cluster.node(pod.node), pod.full_name, "eth0"
        if other is None:
            return None
        mac = mac_address(other.name, namespace, owner)
        self._peers[mac] = other.address
        return mac

    def peer_of(self, mac: str) -> str | None:
        """The node behind which a MAC address is."""
        return self._peers.get(mac)

    def translate(self, key: FlowKey) -> Megaflow:
        """Send frames from here to the node that has their destination, and those from there to the bridge."""
        mask = Mask(("in_port", "destination_mac"))
        if key.in_port == TUNNEL:
            return Megaflow(mask, Output(DATAPATH_PORT), 1)
        peer = self.peer_of(key.destination_mac)
        if peer is None:
            return Megaflow(mask, Discard(f"no peer of {self._node.name} has {key.destination_mac}"), 1)
        return Megaflow(mask, Output(TUNNEL, peer), 1)


def bridge_address(node: Node) -> str:
    """The address of a node's bridge: one of the range that the node gives addresses from."""
    return str(ipaddress.IPv4Network(node.pod_cidr)[1])
