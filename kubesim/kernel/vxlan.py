"""VXLAN: Ethernet in UDP (RFC 7348, drivers/net/vxlan)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from kubesim.kernel.udp_tunnel import UdpTunnel

if TYPE_CHECKING:
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk

VXLAN_HEADER_BYTES = 8
VXLAN_OVERHEAD_BYTES = 50
"""Outer IP 20, UDP 8, VXLAN 8 and the inner Ethernet header 14: what the inner MTU loses."""


class Vxlan(UdpTunnel):
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

    encapsulation: ClassVar[str] = "vxlan_encapsulate"
    decapsulation: ClassVar[str] = "vxlan_decapsulate"

    def __init__(self, namespace: Namespace, name: str, mtu: int, local_address: str, port: int, vni: int = 1) -> None:
        super().__init__(namespace, name, mtu, local_address, port, VXLAN_HEADER_BYTES)
        self.vni = vni
        self.forwarding_database: dict[str, str] = {}

    def transmit(self, walk: Walk, packet: Packet) -> None:
        """Find the endpoint behind which the packet's destination is, and send it there (``vxlan_xmit``)."""
        walk.pay("vxlan_fdb_lookup", at=self.name)
        remote = self.forwarding_database.get(packet.destination_mac)
        if remote is None:
            walk.drop(f"{self.name} of {self.namespace.name} knows no endpoint for {packet.destination_mac}")
        else:
            self.send_to(walk, packet, remote)
