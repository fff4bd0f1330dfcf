"""A packet as the kernel carries it: one socket buffer, which may stand for many frames on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from kubesim.kernel.address import flow_hash

if TYPE_CHECKING:
    from kubesim.kernel.netfilter.conntrack import Connection

IP_HEADER_BYTES = 20
"""RFC 791, no options."""

TRANSPORT_HEADER_BYTES = {"tcp": 32, "udp": 8, "sctp": 12}
"""TCP with the timestamp option that Linux sends (RFC 9293, RFC 7323); UDP (RFC 768); SCTP (RFC 9260)."""

ETHERNET_HEADER_BYTES = 14
FRAME_CHECK_BYTES = 4
PREAMBLE_AND_GAP_BYTES = 20
MINIMUM_FRAME_BYTES = 64
"""IEEE 802.3: header 14, frame check 4, preamble 8 and gap 12; no frame is shorter than 64 bytes."""

DEFAULT_TTL = 64


class FlowTuple(NamedTuple):
    """What tells one flow from another, in one direction."""

    source: str
    destination: str
    protocol: str
    source_port: int
    destination_port: int

    def reversed(self) -> FlowTuple:
        """The same flow seen by the other side."""
        return FlowTuple(self.destination, self.source, self.protocol, self.destination_port, self.source_port)


@dataclass(slots=True)
class Packet:
    """One socket buffer on its way.

    Parameters
    ----------
    source, destination, protocol, source_port, destination_port
        The flow as the headers have it now; NAT rewrites them.
    payload_bytes
        What the application sent; for an encapsulated packet see ``inner``.
    segment_bytes
        Payload of one frame where the NIC will cut this buffer (GSO); 0 when it is one frame.
    is_opening
        Whether it opens a connection: a SYN, or the first datagram of a flow.
    mark
        The buffer's mark, which survives encapsulation within a namespace.
    inner
        The packet inside a tunnel's packet.
    overhead_bytes
        Tunnel headers between this packet's transport header and ``inner``'s IP header.
    is_untracked
        Whether a rule in the raw table has exempted it from connection tracking.
    is_ipvs
        Whether IPVS has handled it already (``skb->ipvs_property``).
    """

    source: str
    destination: str
    protocol: str
    source_port: int
    destination_port: int
    payload_bytes: int
    segment_bytes: int = 0
    is_opening: bool = False
    mark: int = 0
    ttl: int = DEFAULT_TTL
    inner: Packet | None = None
    overhead_bytes: int = 0
    connection: Connection | None = None
    is_reply: bool = False
    state: str = "UNTRACKED"
    is_untracked: bool = False
    is_ipvs: bool = False
    destination_mac: str = ""

    @property
    def flow(self) -> FlowTuple:
        """The flow by its headers as they are now."""
        return FlowTuple(self.source, self.destination, self.protocol, self.source_port, self.destination_port)

    @property
    def flow_hash(self) -> int:
        """The hash that chooses a tunnel's source port and a receive queue."""
        return flow_hash(*self.flow)

    @property
    def header_bytes(self) -> int:
        """IP and transport headers, and all of a tunnel's headers down to the payload."""
        own = IP_HEADER_BYTES + TRANSPORT_HEADER_BYTES.get(self.protocol, 0)  # IP in IP has none
        return own if self.inner is None else own + self.overhead_bytes + self.inner.header_bytes

    @property
    def innermost(self) -> Packet:
        """The packet that carries the payload, behind all tunnel headers."""
        packet = self
        while packet.inner is not None:
            packet = packet.inner
        return packet

    @property
    def segments(self) -> int:
        """Frames this buffer is on the wire."""
        carried = self.innermost
        if not carried.segment_bytes:
            return 1
        return max(1, -(-carried.payload_bytes // carried.segment_bytes))

    @property
    def length_bytes(self) -> int:
        """Longest IP packet that this buffer becomes: what an MTU is held against."""
        carried = self.innermost
        largest = min(carried.payload_bytes, carried.segment_bytes or carried.payload_bytes)
        return self.header_bytes + largest

    @property
    def ip_bytes(self) -> int:
        """All IP packets that the buffer becomes, with their headers."""
        return self.innermost.payload_bytes + self.segments * self.header_bytes

    @property
    def wire_bytes(self) -> int:
        """What the buffer occupies of an Ethernet, all frames with headers, frame checks, preambles and gaps."""
        frames = self.segments
        frame_bytes = self.ip_bytes + frames * (ETHERNET_HEADER_BYTES + FRAME_CHECK_BYTES)
        return max(frame_bytes, MINIMUM_FRAME_BYTES) + frames * PREAMBLE_AND_GAP_BYTES

    def forget_connection(self) -> None:
        """Drop the conntrack reference, as crossing into another namespace or a tunnel does."""
        self.connection = None
        self.is_reply = False
        self.state = "UNTRACKED"
        self.is_untracked = False
