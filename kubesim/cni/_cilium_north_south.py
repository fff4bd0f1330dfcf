"""What Cilium's programs do at the card for clients outside, where no kube-proxy does (bpf/lib/nodeport.h).

A virtual address is exchanged for a server's. Where the server is on another node, either the source becomes this
node's, so that answers come back here (SNAT), or an IP option tells the other node what the client has called, so that
it answers the client itself (DSR).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.bpf.connections import Direction, Place, Tracked
from kubesim.kernel.bpf.program import LOOKUP, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubesim.kernel.bpf.state import Bpf
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk


class NorthSouth:
    """The part of one node's programs.

    Parameters
    ----------
    bpf
        Maps.
    source
        From where clients seem to call servers on other nodes.
    is_here
        Whether an address is on this node.
    """

    def __init__(self, bpf: Bpf, source: str, is_here: Callable[[str], bool]) -> None:
        self._bpf = bpf
        self._source = source
        self._is_here = is_here

    def receive(self, walk: Walk, packet: Packet) -> Verdict | None:
        """Translate what comes in: None if it is not for here, PASS if it is to be sent on (``nodeport_lb4``)."""
        if packet.called is not None:
            self._note_call(walk, packet, Place(*packet.called))
            packet.called = None
            return None
        service = self._bpf.services.look_up(walk, packet)
        if service is None:
            return self.receive_reply(walk, packet)
        called = Place(packet.destination, packet.destination_port)
        if not self._bpf.services.translate(walk, packet, service, self._bpf.connections, is_from_outside=True):
            return Verdict.TAKEN
        self._note_call(walk, packet, called)
        if self._is_here(packet.destination):
            return Verdict.PASS
        if not service.is_direct:
            self._bpf.source_nat.translate(walk, packet, self._source)
        elif packet.is_opening or packet.protocol != "tcp":
            walk.pay("bpf_option")
            packet.called = called
        return Verdict.PASS

    def receive_reply(self, walk: Walk, packet: Packet) -> Verdict | None:
        """Translate an answer to what has left under this node's address: None if it is none (``rev_nodeport_lb4``)."""
        if not self._bpf.source_nat.revert(walk, packet):
            return None
        self.restore(walk, packet, self._bpf.connections.find_reply(walk, packet.flow, Direction.IN))
        return Verdict.PASS

    def transmit(self, walk: Walk, packet: Packet, masquerade_as: str | None) -> None:
        """Translate what the host sends: answers of its own servers, and what is masqueraded (``handle_nat_fwd``)."""
        found = self._bpf.connections.find_reply(walk, packet.flow, Direction.IN)
        if found is not None and found.is_from_card:
            self.restore(walk, packet, found)
        elif masquerade_as is not None:
            self._bpf.source_nat.translate(walk, packet, masquerade_as)

    @staticmethod
    def restore(walk: Walk, packet: Packet, found: Tracked | None) -> None:
        """Let an answer come from where the client has called (``lb4_rev_nat``)."""
        if found is not None and found.called is not None:
            walk.pay(LOOKUP, at="reverse NAT")
            walk.pay("bpf_nat", at="reverse NAT")
            packet.source, packet.source_port = found.called

    def _note_call(self, walk: Walk, packet: Packet, called: Place) -> None:
        """Remember what a connection has called."""
        flow, connections = packet.flow, self._bpf.connections
        if connections.find_exactly(walk, flow, Direction.OUT) is None:
            connections.add(walk, flow, Direction.OUT, Tracked(called, is_from_card=True))
