"""The per-core backlog: where a virtual device hands a packet to softirq on the same core (``__netif_rx``).

Its limit (``netdev_max_backlog``, 1000 packets) is not modelled, as nothing here reaches it: a softirq run takes at
most ``netdev_budget`` = 300 packets from the card before it works the backlog of its own core off, so that under load
packets wait, and are dropped, in the card's ring, which has a limit. On Linux it overflows where other cores fill it
(RPS), which is off by default.
"""

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
