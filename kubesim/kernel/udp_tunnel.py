"""Tunnels that carry Ethernet in UDP: VXLAN and Geneve wrap packets alike (net/ipv4/udp_tunnel_core.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from kubesim.kernel import ip
from kubesim.kernel.packet import ETHERNET_HEADER_BYTES, Packet
from kubesim.kernel.tunnel import Tunnel

if TYPE_CHECKING:
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.walk import Walk

_FIRST_PORT, _LAST_PORT = 32768, 60999  # net.ipv4.ip_local_port_range, which tunnels take source ports from

SOURCE_PORTS = _LAST_PORT + 1 - _FIRST_PORT
"""How many source ports a tunnel has for all flows between two endpoints (``udp_flow_src_port``)."""


class UdpTunnel(Tunnel):
    """A tunnel device whose outer source port is a hash of the inner flow.

    Parameters
    ----------
    namespace, name, mtu
        As for every device.
    local_address
        Outer source address.
    port
        UDP port of all endpoints.
    header_bytes
        The tunnel's own header, between UDP and the inner Ethernet header.
    """

    encapsulation: ClassVar[str]
    """The operation of wrapping."""

    def __init__(
        self, namespace: Namespace, name: str, mtu: int, local_address: str, port: int, header_bytes: int
    ) -> None:
        super().__init__(namespace, name, mtu, local_address, "udp", port)
        self._overhead_bytes = header_bytes + ETHERNET_HEADER_BYTES

    def send_to(self, walk: Walk, packet: Packet, remote: str, *, is_dont_fragment: bool = False) -> None:
        """Wrap the packet and send the outer one, which passes netfilter on its own (``udp_tunnel_xmit_skb``).

        A program at another device, or a switch, can have chosen the endpoint (collect-metadata mode), and whether
        routers may cut the outer packet: by default they may (``df unset``, ip-link(8)).
        """
        walk.pay(self.encapsulation, at=self.name)
        outer = Packet(
            source=self.local_address,
            destination=remote,
            protocol="udp",
            source_port=_FIRST_PORT + packet.flow_hash % SOURCE_PORTS,
            destination_port=self.port,
            payload_bytes=0,
            mark=packet.mark,
            inner=packet,
            is_dont_fragment=is_dont_fragment,
            overhead_bytes=self._overhead_bytes,
        )
        packet.forget_connection()
        ip.send(walk, outer, self.namespace, tunnel=self)
