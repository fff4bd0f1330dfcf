"""Weave Net 2.8: one Ethernet over all nodes, carried by Open vSwitch (fastdp) or by Weave's own process (sleeve)."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from kubesim.cni._iptables import append_rules
from kubesim.cni._weave_router import DATAPATH_PORT, TUNNEL, Router, bridge_address
from kubesim.errors import InputError
from kubesim.kernel.address import Prefix
from kubesim.kernel.bridge import Bridge
from kubesim.kernel.openvswitch import Datapath
from kubesim.kernel.packet import ETHERNET_HEADER_BYTES, IP_HEADER_BYTES, TRANSPORT_HEADER_BYTES
from kubesim.kernel.packet_relay import PacketRelay
from kubesim.kernel.route import Route
from kubesim.kernel.veth import veth_pair
from kubesim.kernel.vxlan import VXLAN_OVERHEAD_BYTES, Vxlan

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node, Pod
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic

BRIDGE, BRIDGE_PORT, PCAP_PORT = "weave", "vethwe-bridge", "vethwe-pcap"

SLEEVE_PORT = 6783
FASTDP_PORT = SLEEVE_PORT + 1
"""UDP ports of Weave's process and of its VXLAN (router/fastdp.go)."""

_NAME_BYTES = 6
"""Nodes, called peers, are named by MAC addresses (mesh, peer_name_mac.go)."""

_FRAME_BYTES = _NAME_BYTES + _NAME_BYTES + 2 + ETHERNET_HEADER_BYTES
"""Before each frame: its source and destination peer, and its length (router/frame_crypto.go)."""

_PLAIN_BYTES = _NAME_BYTES + _FRAME_BYTES
_ENCRYPTED_BYTES = _NAME_BYTES + 8 + 16 + _FRAME_BYTES
"""Before that: the sender, and where it is encrypted a counter and NaCl's tag (router/sleeve.go)."""

_VXLAN_MTU = 65470
"""A VXLAN device that takes its remote end from each packet has about the longest MTU there is."""

_RULES = {
    "filter": (
        (),
        (
            "-A FORWARD -i weave -o weave -j ACCEPT",
            "-A FORWARD -i weave ! -o weave -j ACCEPT",
            "-A FORWARD -o weave -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        ),
    ),
    "nat": (
        ("WEAVE",),
        (
            "-A POSTROUTING -j WEAVE",
            "-A WEAVE -s {range} -d 224.0.0.0/4 -j RETURN",
            "-A WEAVE ! -s {range} -d {range} -j MASQUERADE",
            "-A WEAVE -s {range} ! -d {range} -j MASQUERADE",
        ),
    ),
}
"""Rules where Weave's network policies are off (net/bridge.go with ``EXPECT_NPC=0``, prog/weaver)."""


class Settings(BaseModel):
    """Settings of Weave, and how often its caches are missed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    mode: Literal["fastdp", "sleeve"] = Field(
        default="fastdp", description="who carries frames: Open vSwitch and VXLAN, or Weave's own process"
    )
    mtu: int = Field(default=1376, ge=576, le=65535, description="MTU of pods (WEAVE_MTU)")
    is_encrypted: bool = Field(default=False, description="whether sleeve encrypts frames (WEAVE_PASSWORD)")
    upcall_ratio: float = Field(
        default=0.0, ge=0, le=1, description="share of connections for which Open vSwitch asks Weave's process"
    )


class Plugin:
    """Writes the bridge ``weave``, the pair of devices behind it, what carries its frames, and Weave's rules."""

    settings_model: ClassVar[type[BaseModel]] = Settings

    def __init__(self, cluster: Cluster, settings: Settings, underlay_mtu: int) -> None:
        self._cluster = cluster
        self._settings = settings
        self._network = ipaddress.IPv4Network(cluster.pod_cidr)
        self.pod_mtu = settings.mtu
        self.upcall_ratio = settings.upcall_ratio if settings.mode == "fastdp" else None
        if settings.is_encrypted and settings.mode == "fastdp":
            raise InputError("cni.is_encrypted: fastdp encrypts by IPsec, which is not modelled: use mode: sleeve")
        overhead_bytes = IP_HEADER_BYTES + TRANSPORT_HEADER_BYTES["udp"] + self._sleeve_bytes
        if settings.mode == "fastdp":
            overhead_bytes = VXLAN_OVERHEAD_BYTES
        if settings.mtu + overhead_bytes > underlay_mtu:
            raise InputError(
                f"cni.mtu: packets of {settings.mtu} bytes and {overhead_bytes} of Weave's do not fit the nodes' MTU "
                f"of {underlay_mtu}: at most {underlay_mtu - overhead_bytes} do"
            )

    @property
    def _sleeve_bytes(self) -> int:
        """What sleeve puts between UDP and an inner IP header."""
        return _ENCRYPTED_BYTES if self._settings.is_encrypted else _PLAIN_BYTES

    def install(self, namespace: Namespace, node: Node, nic: Nic) -> None:
        """Make the bridge and what is behind it (net/bridge.go); it has an address of its node's range."""
        namespace.is_forwarding = True
        namespace.is_bridge_nf_call_iptables = True
        bridge = Bridge(namespace, BRIDGE, self.pod_mtu)
        namespace.add_address(bridge, f"{bridge_address(node)}/{self._network.prefixlen}")
        router = Router(self._cluster, node, BRIDGE)
        is_fastdp = self._settings.mode == "fastdp"
        behind = DATAPATH_PORT if is_fastdp else PCAP_PORT
        port, outlet = veth_pair((namespace, BRIDGE_PORT), (namespace, behind), self.pod_mtu)
        if is_fastdp:
            datapath = Datapath(namespace, "datapath", router)
            datapath.add_port(outlet)
            datapath.add_port(Vxlan(namespace, TUNNEL, _VXLAN_MTU, nic.addresses[0], FASTDP_PORT))
        else:
            header_bytes, is_encrypted = self._sleeve_bytes, self._settings.is_encrypted
            address = nic.addresses[0]
            PacketRelay(namespace, outlet, address, SLEEVE_PORT, header_bytes, router, is_encrypted=is_encrypted)
        bridge.add_port(port)
        for table, (chains, lines) in _RULES.items():
            append_rules(namespace, table, chains, [line.format(range=self._network) for line in lines])

    def attach(self, root: Namespace, pod: Pod) -> Namespace:
        """Hang a pod on the bridge; all pods of the cluster are on its link (net/veth.go)."""
        bridge = root.devices[BRIDGE]
        assert isinstance(bridge, Bridge)  # noqa: S101 - made by install
        inside = root.host.add_namespace(pod.full_name)
        eth0, port = veth_pair((inside, "eth0"), (root, f"vethwepl-{pod.full_name}"), self.pod_mtu)
        port.is_hairpin = True
        inside.add_address(eth0, f"{pod.address}/{self._network.prefixlen}")
        inside.routes.add(Route(Prefix("0.0.0.0/0"), eth0, via=bridge_address(self._cluster.node(pod.node))))
        bridge.add_port(port)
        root.neighbours[BRIDGE, pod.address] = eth0.mac
        return inside
