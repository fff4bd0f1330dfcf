"""Programs at the sockets of a host, which exchange virtual addresses for servers' (connect4, sendmsg4, recvmsg4).

A connected socket talks to the server from then on, and no packet is translated. A socket that names an address for
each datagram is asked each time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.bpf.connections import Place
from kubesim.kernel.bpf.program import LOOKUP, UPDATE

if TYPE_CHECKING:
    from kubesim.kernel.bpf.services import Services, VirtualService
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import FlowTuple, Packet
    from kubesim.kernel.walk import Walk

_MAP = "reverse NAT of sockets"
_LOOKUPS_AGAIN = 3
"""Of the slot that the socket's cookie names, of its server, and of the address for replies, which is there already."""


class SocketPrograms:
    """The programs of one host, and what they know of its sockets.

    Parameters
    ----------
    services
        The virtual addresses.
    namespaces
        Names of the namespaces whose sockets they are for; None for all.
    """

    def __init__(self, services: Services, namespaces: frozenset[str] | None = None) -> None:
        self._services = services
        self._namespaces = namespaces
        self._servers: dict[FlowTuple, Place] = {}
        self._called: dict[FlowTuple, Place] = {}

    def send(self, walk: Walk, packet: Packet, namespace: Namespace) -> bool:
        """Give a packet that starts here its real destination; whether it goes on, as one that nobody serves does not.

        Sockets that connect are asked when they do, others for each datagram.
        """
        if not self._is_for(namespace):
            return True
        flow = packet.flow
        if packet.protocol == "tcp" and not packet.is_opening:
            server = self._servers.get(flow)
        else:
            walk.pay("bpf_program", at="connect4" if packet.protocol == "tcp" else "sendmsg4")
            service = self._services.look_up(walk, packet)
            if service is None:
                return True
            server = self._serve(walk, packet, service, namespace.name)
            if server is None:
                return False
        if server is not None:
            packet.destination, packet.destination_port = server
        return True

    def receive(self, walk: Walk, packet: Packet, namespace: Namespace) -> None:
        """Let a reply come from where the process has sent to (getpeername4, recvmsg4)."""
        if not self._is_for(namespace):
            return
        if packet.protocol == "udp":
            walk.pay("bpf_program", at="recvmsg4")
            walk.pay(LOOKUP, at=_MAP)
        called = self._called.get(packet.flow)
        if called is not None:
            packet.source, packet.source_port = called

    def flush(self) -> None:
        """Forget all sockets."""
        self._servers.clear()
        self._called.clear()

    def _is_for(self, namespace: Namespace) -> bool:
        return self._namespaces is None or namespace.name in self._namespaces

    def _serve(self, walk: Walk, packet: Packet, service: VirtualService, client: str) -> Place | None:
        """The server of a socket that connects, or of a datagram; None where the walk ends."""
        flow = packet.flow
        known = self._servers.get(flow) if packet.protocol == "udp" else None
        if known is not None:
            walk.pay(LOOKUP, _LOOKUPS_AGAIN, at=_MAP)
            return known
        server = service.choose(walk, packet, client)
        if server is None or walk.is_over:
            return None
        walk.pay(LOOKUP, at=_MAP)
        walk.pay(UPDATE, at=_MAP)
        self._servers[flow] = server
        reply = flow._replace(destination=server.address, destination_port=server.port).reversed()
        self._called[reply] = Place(flow.destination, flow.destination_port)
        return server
