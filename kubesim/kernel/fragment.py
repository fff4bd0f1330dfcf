"""Fragments of IP packets (RFC 791): who cuts them, and who puts them together (ip_output.c, ip_fragment.c).

A datagram in fragments stays one packet here, in several buffers; it is lost as a whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubesim.kernel.device import Device
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk


def fits(walk: Walk, packet: Packet, device: Device) -> bool:
    """Whether a packet may go out of a device, as it is or in fragments; if not, the walk ends.

    The router that drops it tells the sender by ICMP, and what MTU there is (RFC 1191). The sender here does not learn
    from that: as where the message is lost on its way, which happens to it behind tunnels and firewalls.
    """
    if packet.length_bytes <= device.mtu or not packet.is_dont_fragment:
        return True
    walk.drop(
        f"fragmentation needed and DF set: a packet of {packet.length_bytes} bytes does not fit the MTU "
        f"of {device.mtu} of {device.name} in {device.namespace.name}"
    )
    return False


def cut(walk: Walk, packet: Packet, device: Device) -> None:
    """Cut a packet that does not fit a device, or that came in fragments which were put together on the way.

    Fragments are no longer than those that came (``ip_do_fragment``). A buffer that a card would have cut into frames
    is cut by the kernel before (``ip_finish_output_gso``).
    """
    if packet.length_bytes <= device.mtu and not packet.largest_fragment_bytes:
        return
    frames = -(-len(packet.whole_lengths) // walk.buffers)
    if frames > 1:
        walk.pay("gso_segment", frames, size_bytes=packet.innermost.payload_bytes, at=device.name)
    packet.cut_to_bytes += (min(device.mtu, packet.largest_fragment_bytes or device.mtu),)
    packet.largest_fragment_bytes = 0
    walk.buffers = packet.segments
    walk.pay("ip_fragment", at=device.name)


def reassemble(walk: Walk, packet: Packet, at: str) -> None:
    """Put a packet together whose fragments have arrived (``ip_defrag``)."""
    if packet.cut_to_bytes:
        walk.pay("ip_defrag", at=at)
        packet.largest_fragment_bytes = packet.length_bytes
        packet.cut_to_bytes = ()
        walk.buffers = len(packet.whole_lengths)
