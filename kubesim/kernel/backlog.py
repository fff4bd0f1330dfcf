"""The per-core backlog: where a virtual device hands a packet to softirq on the same core (``__netif_rx``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.walk import Context

if TYPE_CHECKING:
    from kubesim.kernel.device import Device
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk


def enqueue(walk: Walk, packet: Packet, device: Device) -> None:
    """Queue the packet for ``device``; softirq takes it from there."""
    walk.defer(_process, walk, packet, device)


def _process(walk: Walk, packet: Packet, device: Device) -> None:
    """What ``process_backlog`` and ``__netif_receive_skb`` cost (net/core/dev.c)."""
    walk.context = Context.SOFTIRQ
    walk.see(packet, device.namespace)
    walk.pay("backlog", at=device.name)
    device.receive(walk, packet)
