"""IPIP: IPv4 in IPv4 (RFC 2003, net/ipv4/ipip.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from kubesim.kernel import ip
from kubesim.kernel.packet import IP_HEADER_BYTES, Packet
from kubesim.kernel.tunnel import Tunnel

if TYPE_CHECKING:
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.walk import Walk

PROTOCOL = "ipencap"
"""IP protocol 4, as /etc/protocols and iptables call it; it has no ports."""

IPIP_OVERHEAD_BYTES = IP_HEADER_BYTES
"""The outer IP header: what the inner MTU loses."""


class Ipip(Tunnel):
    """A tunnel device without a fixed remote end, as Calico's ``tunl0``: the route's next hop is where packets go.

    Parameters
    ----------
    namespace, name, mtu
        As for every device.
    local_address
        Outer source address.
    """

    decapsulation: ClassVar[str] = "ipip_decapsulate"
    is_one_flow: ClassVar[bool] = True

    def __init__(self, namespace: Namespace, name: str, mtu: int, local_address: str) -> None:
        super().__init__(namespace, name, mtu, local_address, PROTOCOL, 0)

    def resolve(self, address: str) -> str | None:
        """There is no link layer (``NOARP``): the next hop stands for itself."""
        return address

    def transmit(self, walk: Walk, packet: Packet) -> None:
        """Put a header in front and send the outer packet, which passes netfilter on its own (``ip_tunnel_xmit``)."""
        walk.pay("ipip_encapsulate", at=self.name)
        outer = Packet(
            source=self.local_address,
            destination=packet.destination_mac,
            protocol=PROTOCOL,
            source_port=0,
            destination_port=0,
            payload_bytes=0,
            mark=packet.mark,
            inner=packet,
            is_dont_fragment=packet.is_dont_fragment,  # ip_tunnel_xmit: df |= inner_iph->frag_off & htons(IP_DF)
        )
        packet.forget_connection()
        ip.send(walk, outer, self.namespace, tunnel=self)
