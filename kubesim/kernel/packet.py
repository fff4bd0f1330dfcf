"""A packet as the kernel carries it: one socket buffer, which may stand for many frames on the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from kubesim.kernel.address import flow_hash

if TYPE_CHECKING:
    from kubesim.kernel.netfilter.conntrack import Connection

IP_HEADER_BYTES = 20
"""RFC 791, no options."""

ADDRESS_OPTION_BYTES = 8
"""An IP option with an address and a port, by which a load balancer tells a server's host what was called."""

TRANSPORT_HEADER_BYTES = {"tcp": 32, "udp": 8, "sctp": 12}
"""TCP with the timestamp option that Linux sends (RFC 9293, RFC 7323); UDP (RFC 768); SCTP (RFC 9260)."""

ETHERNET_HEADER_BYTES = 14
FRAME_CHECK_BYTES = 4
PREAMBLE_AND_GAP_BYTES = 20
MINIMUM_FRAME_BYTES = 64
"""IEEE 802.3: header 14, frame check 4, preamble 8 and gap 12; no frame is shorter than 64 bytes."""

DEFAULT_TTL = 64


def fragments(length_bytes: int, mtu_bytes: int) -> tuple[int, ...]:
    """Lengths of the fragments that an IP packet is cut into; all but the last carry a multiple of 8 (RFC 791)."""
    if length_bytes <= mtu_bytes:
        return (length_bytes,)
    carried = (mtu_bytes - IP_HEADER_BYTES) // 8 * 8
    full, rest = divmod(length_bytes - IP_HEADER_BYTES, carried)
    return (IP_HEADER_BYTES + carried,) * full + ((IP_HEADER_BYTES + rest,) if rest else ())


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
    called
        The address and port that the client called, in an IP option: so the server's host can answer by itself.
    is_ipvs
        Whether IPVS has handled it already (``skb->ipvs_property``).
    is_dont_fragment
        Whether routers may not cut it (DF); Linux sets that for TCP, and for datagrams that fit where they start.
    cut_to_bytes
        Lengths that it was cut to while it is in fragments, one after the other; empty while it is whole.
    largest_fragment_bytes
        Longest of the fragments that it was in before somebody put it together (``IPCB(skb)->frag_max_size``).
    is_opaque
        Whether cards and GRO cannot look into it: encrypted, or a process's own datagrams.
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
    is_dont_fragment: bool = True
    cut_to_bytes: tuple[int, ...] = ()
    largest_fragment_bytes: int = 0
    is_opaque: bool = False
    destination_mac: str = ""
    called: tuple[str, int] | None = None

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
        """IP and transport headers, and a tunnel's headers up to ``inner``'s IP header."""
        option = ADDRESS_OPTION_BYTES if self.called is not None else 0
        own = IP_HEADER_BYTES + option + TRANSPORT_HEADER_BYTES.get(self.protocol, 0)  # IP in IP has none
        return own if self.inner is None else own + self.overhead_bytes

    @property
    def innermost(self) -> Packet:
        """The packet that carries the payload, behind all tunnel headers."""
        packet = self
        while packet.inner is not None:
            packet = packet.inner
        return packet

    @property
    def whole_lengths(self) -> tuple[int, ...]:
        """Lengths in bytes of the IP packets that this buffer becomes on the wire, if none of them is in fragments."""
        if self.inner is not None:
            return tuple(self.header_bytes + length for length in self.inner.frame_lengths)
        if not self.segment_bytes or self.payload_bytes <= self.segment_bytes:
            return (self.header_bytes + self.payload_bytes,)
        full, rest = divmod(self.payload_bytes, self.segment_bytes)
        last = (self.header_bytes + rest,) if rest else ()
        return (self.header_bytes + self.segment_bytes,) * full + last

    @property
    def frame_lengths(self) -> tuple[int, ...]:
        """Lengths in bytes of the IP packets, or fragments of them, that are a frame each on the wire."""
        lengths = self.whole_lengths
        for limit_bytes in self.cut_to_bytes:
            lengths = tuple(piece for length in lengths for piece in fragments(length, limit_bytes))
        return lengths

    @property
    def segments(self) -> int:
        """Frames this buffer is on the wire."""
        return len(self.frame_lengths)

    @property
    def is_mergeable(self) -> bool:
        """Whether a receiver may merge its frames into one buffer (GRO): no fragments, nothing that is opaque."""
        return not self.is_opaque and not self.cut_to_bytes and (self.inner is None or self.inner.is_mergeable)

    @property
    def length_bytes(self) -> int:
        """Longest IP packet that this buffer becomes: what an MTU is held against."""
        return max(self.frame_lengths)

    @property
    def ip_bytes(self) -> int:
        """All IP packets that the buffer becomes, with their headers."""
        return sum(self.frame_lengths)

    @property
    def wire_bytes(self) -> int:
        """What the buffer occupies of an Ethernet, all frames with headers, frame checks, preambles and gaps."""
        link_bytes = ETHERNET_HEADER_BYTES + FRAME_CHECK_BYTES
        frames = (max(length + link_bytes, MINIMUM_FRAME_BYTES) for length in self.frame_lengths)
        return sum(frame + PREAMBLE_AND_GAP_BYTES for frame in frames)

    def scrub(self) -> None:
        """Drop what another namespace or host must not see (``skb_scrub_packet`` between namespaces)."""
        self.forget_connection()
        self.mark = 0
        self.is_ipvs = False

    def forget_connection(self) -> None:
        """Drop the conntrack reference, as crossing into another namespace or a tunnel does."""
        self.connection = None
        self.is_reply = False
        self.state = "UNTRACKED"
        self.is_untracked = False
