"""VXLAN: Ethernet in UDP (RFC 7348, drivers/net/vxlan)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from kubesim.kernel import ip
from kubesim.kernel.packet import ETHERNET_HEADER_BYTES, Packet
from kubesim.kernel.tunnel import Tunnel

if TYPE_CHECKING:
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.walk import Walk

VXLAN_HEADER_BYTES = 8
VXLAN_OVERHEAD_BYTES = 50
"""Outer IP 20, UDP 8, VXLAN 8 and the inner Ethernet header 14: what the inner MTU loses."""

_FIRST_PORT, _LAST_PORT = 32768, 60999  # net.ipv4.ip_local_port_range, which vxlan takes source ports from

SOURCE_PORTS = _LAST_PORT + 1 - _FIRST_PORT
"""How many source ports a tunnel has for all flows between two endpoints (``udp_flow_src_port``)."""


class Vxlan(Tunnel):
    """A tunnel endpoint (VTEP) with a static forwarding database, as flannel makes it.

    Parameters
    ----------
    namespace, name, mtu
        As for every device.
    local_address
        Outer source address.
    port
        UDP port of all endpoints.
    vni
        VXLAN network identifier.
    """

    decapsulation: ClassVar[str] = "vxlan_decapsulate"

    def __init__(self, namespace: Namespace, name: str, mtu: int, local_address: str, port: int, vni: int = 1) -> None:
        super().__init__(namespace, name, mtu, local_address, "udp", port)
        self.vni = vni
        self.forwarding_database: dict[str, str] = {}

    def transmit(self, walk: Walk, packet: Packet) -> None:
        """Find the endpoint, and wrap the packet for it (``vxlan_xmit``)."""
        walk.pay("vxlan_fdb_lookup", at=self.name)
        remote = self.forwarding_database.get(packet.destination_mac)
        if remote is None:
            walk.drop(f"{self.name} of {self.namespace.name} knows no endpoint for {packet.destination_mac}")
            return
        self.encapsulate(walk, packet, remote)

    def encapsulate(self, walk: Walk, packet: Packet, remote: str) -> None:
        """Wrap the packet and send the outer one, which passes netfilter on its own (``vxlan_xmit_one``).

        A program at another device can have chosen the endpoint (``bpf_skb_set_tunnel_key``).
        """
        walk.pay("vxlan_encapsulate", at=self.name)
        outer = Packet(
            source=self.local_address,
            destination=remote,
            protocol="udp",
            source_port=_FIRST_PORT + packet.flow_hash % SOURCE_PORTS,
            destination_port=self.port,
            payload_bytes=0,
            mark=packet.mark,
            inner=packet,
            is_dont_fragment=False,  # "df unset", as ip-link(8) has it by default
            overhead_bytes=VXLAN_HEADER_BYTES + ETHERNET_HEADER_BYTES,
        )
        packet.forget_connection()
        ip.send(walk, outer, self.namespace, tunnel=self)
