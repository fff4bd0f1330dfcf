"""Generic segmentation: what the kernel does in software to a large buffer where no card does it later."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk


def segment(walk: Walk, packet: Packet, at: str) -> None:
    """Cut a large buffer into one for each frame (``skb_gso_segment``): from here each pays for itself."""
    if walk.buffers == 1 and packet.segments > 1:
        walk.pay("gso_segment", packet.segments, size_bytes=packet.innermost.payload_bytes, at=at)
        walk.buffers = packet.segments


def merge(walk: Walk, packet: Packet, at: str) -> None:
    """Hand buffers to GRO, which makes one of TCP's segments again (``napi_gro_receive``)."""
    walk.pay("gro", at=at)
    if packet.protocol == "tcp":
        walk.buffers = 1
