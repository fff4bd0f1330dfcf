"""The per-core backlog (``input_pkt_queue``): where a packet is handed to softirq (net/core/dev.c).

A virtual device puts packets into the backlog of its own core (``__netif_rx``); with RPS, a card's core puts them into
another's (:mod:`kubesim.kernel.receive_scaling`). Its limit is ``netdev_max_backlog``, 1000 packets.

Between a virtual device and its own core the limit is not modelled, as nothing reaches it: a softirq run takes at most
``netdev_budget`` = 300 packets from the card before it works the backlog of its own core off, so that under load
packets wait, and are dropped, in the card's ring, which has a limit. A backlog that other cores fill overflows: there
the limit is that of the station that the core is.

The kernel counts only what it has not yet taken over to work off (``process_queue``), so that for moments up to twice
the limit waits; here the limit is for all that wait. What an RPS core hands to itself on a packet's way (a veth pair's
other end) goes on at once, not through the queue again. The limit per flow (``flow_limit_cpu_bitmap``) is off, as by
default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.walk import Context

if TYPE_CHECKING:
    from kubesim.kernel.device import Device
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk


def enqueue(walk: Walk, packet: Packet, device: Device, context: Context = Context.SOFTIRQ) -> None:
    """Queue the packet for ``device``; softirq takes it from there, on the same core or on that of ``context``."""
    walk.defer(_process, walk, packet, device, context)


def _process(walk: Walk, packet: Packet, device: Device, context: Context) -> None:
    """What ``process_backlog`` and ``__netif_receive_skb`` cost (net/core/dev.c)."""
    walk.context = context
    walk.see(packet, device.namespace)
    walk.pay("backlog", at=device.name)
    walk.context = Context.SOFTIRQ
    device.receive(walk, packet)
