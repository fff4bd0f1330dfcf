"""Cilium: programs at the devices of pods and nodes forward packets, and keep connections in maps of their own."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from kubesim.cni._cilium_datapath import Datapath, Surroundings
from kubesim.cni._cilium_rules import install_rules
from kubesim.cni._underlay import require_one_network
from kubesim.errors import InputError
from kubesim.kernel.address import Prefix
from kubesim.kernel.bpf.connections import Place
from kubesim.kernel.bpf.services import Services, VirtualService
from kubesim.kernel.bpf.state import Bpf
from kubesim.kernel.route import Route
from kubesim.kernel.veth import veth_pair
from kubesim.kernel.vxlan import VXLAN_OVERHEAD_BYTES, Vxlan
from kubesim.kernel.wireguard import WIREGUARD_OVER_IPV6_OVERHEAD_BYTES, Wireguard

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node, Pod
    from kubesim.kernel.bpf.services import Frontend
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic

VXLAN_PORT = 8472
WIREGUARD_PORT = 51871
HOST_DEVICE, HOST_PEER, OVERLAY_DEVICE = "cilium_host", "cilium_net", "cilium_vxlan"
WIREGUARD_DEVICE = "cilium_wg0"


class Settings(BaseModel):
    """Values of Cilium's Helm chart."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    routing: Literal["tunnel", "native"] = Field(
        default="tunnel", description="how packets get to other nodes: in a tunnel, or by routes of the nodes"
    )
    tunnel_protocol: Literal["vxlan"] = Field(default="vxlan", description="what the tunnel is")
    host_routing: Literal["auto", "bpf", "legacy"] = Field(
        default="auto",
        description="whether packets bypass the node's IP layer and iptables (bpf), which needs the proxy cilium-ebpf, "
        "or go through them (legacy); auto is bpf where it can be",
    )
    encryption: Literal["none", "wireguard"] = Field(
        default="none", description="wireguard encrypts what pods send to those of other nodes, tunnel and all"
    )


class Plugin:
    """Attaches programs to each pod's device, the card, the tunnel and ``cilium_host``, and writes routes.

    Without its own replacement of kube-proxy it still balances the virtual addresses that pods call, packet by packet:
    what comes out of the tunnel does not pass the rules in which kube-proxy would translate answers back.
    """

    settings_model: ClassVar[type[BaseModel]] = Settings

    def __init__(self, cluster: Cluster, settings: Settings, underlay_mtu: int) -> None:
        self._cluster = cluster
        self._settings = settings
        self._is_tunnel = settings.routing == "tunnel"
        if not self._is_tunnel:
            require_one_network(cluster, "cilium with native routing", "routing: tunnel")
        self._is_encrypted = settings.encryption == "wireguard"
        overhead_bytes = WIREGUARD_OVER_IPV6_OVERHEAD_BYTES if self._is_encrypted else 0
        self.pod_mtu = underlay_mtu - overhead_bytes - (VXLAN_OVERHEAD_BYTES if self._is_tunnel else 0)
        self._node_addresses = {router_address(node): node.address for node in cluster.nodes}
        self._node_addresses |= {node.address: node.address for node in cluster.nodes}
        self._datapaths: dict[str, Datapath] = {}

    def install(self, namespace: Namespace, node: Node, nic: Nic) -> None:
        """Make maps, devices and programs, and the routes to other nodes' pods."""
        namespace.is_forwarding = True
        bpf = Bpf(Services(self._cluster_service, is_at_sockets=False, is_at_card=False))
        namespace.host.bpf = bpf
        overlay = Vxlan(namespace, OVERLAY_DEVICE, self.pod_mtu, node.address, VXLAN_PORT) if self._is_tunnel else None
        router = router_address(node)
        encryption = self._encryption(namespace, node, nic) if self._is_encrypted else None
        around = Surroundings(namespace, node.address, router, self._node_of, overlay, encryption)
        datapath = self._datapaths[node.name] = Datapath(bpf, around, self._settings.host_routing)
        nic.ingress_program, nic.egress_program = datapath.from_netdev, datapath.to_netdev
        host_device, _ = veth_pair((namespace, HOST_DEVICE), (namespace, HOST_PEER), self.pod_mtu)
        namespace.add_address(host_device, router)
        host_device.egress_program = datapath.from_host
        if overlay is not None:
            overlay.ingress_program = datapath.from_overlay
        if encryption is not None:
            encryption.ingress_program = datapath.from_netdev
        namespace.routes.add(Route(Prefix(node.pod_cidr), None))
        for other in self._cluster.nodes:
            if other is not node:
                way = Route(Prefix(other.pod_cidr), host_device, via=router, source=router)
                direct = Route(Prefix(other.pod_cidr), nic, via=other.address)
                namespace.routes.add(way if self._is_tunnel else direct)
        install_rules(namespace, node, self._cluster)

    def attach(self, root: Namespace, pod: Pod) -> Namespace:
        """Make a pod an endpoint: a veth pair with programs, and an entry in the map of endpoints."""
        self._check_host_routing(root)
        datapath = self._datapaths[pod.node]
        gateway = router_address(self._cluster.node(pod.node))
        inside = root.host.add_namespace(pod.full_name)
        eth0, outside = veth_pair((inside, "eth0"), (root, f"lxc-{pod.full_name}"), self.pod_mtu)
        outside.ingress_program, outside.egress_program = datapath.from_container, datapath.to_container
        inside.add_address(eth0, pod.address)
        inside.routes.add(Route(Prefix("0.0.0.0/0"), eth0, via=gateway))
        outside.is_proxy_arp = True
        root.routes.add(Route(Prefix(pod.address), outside))
        datapath.endpoints[pod.address] = outside
        return inside

    def _encryption(self, namespace: Namespace, node: Node, nic: Nic) -> Wireguard:
        """The device through which the card's program sends what pods say to other nodes (pkg/wireguard/agent)."""
        mtu = nic.mtu - WIREGUARD_OVER_IPV6_OVERHEAD_BYTES
        device = Wireguard(namespace, WIREGUARD_DEVICE, mtu, node.address, WIREGUARD_PORT)
        for other in self._cluster.nodes:
            if other is not node:
                device.allow(Prefix(other.pod_cidr), other.address)
                device.allow(Prefix(other.address), other.address)
        return device

    def _check_host_routing(self, root: Namespace) -> None:
        """Refuse to bypass the rules of a kube-proxy, which would then see half of a connection."""
        bpf = root.host.bpf
        if self._settings.host_routing == "bpf" and bpf is not None and not bpf.services.is_at_card:
            raise InputError(
                "cni.host_routing: bpf needs Cilium's own replacement of kube-proxy, which is proxy: cilium-ebpf; "
                "with any other proxy it is legacy"
            )

    def _node_of(self, address: str) -> str | None:
        """The address of the node that has an address, or whose pod or router has it."""
        pod = self._cluster.pod_at(address)
        return self._node_addresses.get(address) if pod is None else self._cluster.node(pod.node).address

    def _cluster_service(self, frontend: Frontend) -> VirtualService | None:
        """A Service at its virtual address, with its ready endpoints."""
        service = self._cluster.service_at(frontend.address)
        ports = () if service is None or not service.is_proxied else service.ports
        for port in ports:
            if service is not None and (port.protocol, port.port) == (frontend.protocol, frontend.port):
                listed = self._cluster.endpoints(service, port)
                usable = [one for one in listed if one.is_ready and ":" not in one.address]
                servers = tuple(Place(one.address, one.port) for one in sorted(usable, key=str))
                return VirtualService(frontend, servers, service.affinity_timeout_s is not None)
        return None


def router_address(node: Node) -> str:
    """The address of a node's ``cilium_host``: the first of the node's range."""
    return str(ipaddress.IPv4Network(node.pod_cidr)[1])
