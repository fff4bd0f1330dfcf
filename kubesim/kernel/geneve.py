"""Geneve: Ethernet in UDP with options (RFC 8926, drivers/net/geneve.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from kubesim.kernel.udp_tunnel import UdpTunnel

if TYPE_CHECKING:
    from kubesim.kernel.namespace import Namespace

GENEVE_PORT = 6081
"""RFC 8926, section 3.3."""

GENEVE_HEADER_BYTES = 8
GENEVE_OVERHEAD_BYTES = 50
"""Outer IP 20, UDP 8, Geneve 8 and the inner Ethernet header 14: what the inner MTU loses, and options besides."""

MOST_OPTION_BYTES = 63 * 4
"""The length of all options is counted in words of four bytes, and has six bits."""


class Geneve(UdpTunnel):
    """A tunnel device that is told the remote end with each packet (collect-metadata mode).

    Parameters
    ----------
    namespace, name, mtu
        As for every device.
    local_address
        Outer source address.
    port
        UDP port of all endpoints.
    option_bytes
        Length of the options that each packet has.
    """

    encapsulation: ClassVar[str] = "geneve_encapsulate"
    decapsulation: ClassVar[str] = "geneve_decapsulate"

    def __init__(
        self,
        namespace: Namespace,
        name: str,
        mtu: int,
        local_address: str,
        port: int = GENEVE_PORT,
        option_bytes: int = 0,
    ) -> None:
        super().__init__(namespace, name, mtu, local_address, port, GENEVE_HEADER_BYTES + option_bytes)
