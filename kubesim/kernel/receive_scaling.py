"""Which core a received packet is worked on: by the card's queues (RSS), then by RPS (scaling.rst; net/core/dev.c).

A core that takes the card's interrupts polls and merges frames. With RPS on it then puts each buffer into the backlog
of the core that the flow's hash chooses (``get_rps_cpu``, ``enqueue_to_backlog``), which does all the rest. RPS is on
for cards only: each device has a setting of its own (``rps_cpus``), and nobody sets it for virtual ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel import backlog, ipip
from kubesim.kernel.address import flow_hash
from kubesim.kernel.walk import Context

if TYPE_CHECKING:
    from kubesim.kernel.device import Device
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk

_HASHED_BY_CARDS = ("tcp", "udp")


def shared_hash(packet: Packet, namespace: Namespace) -> int | None:
    """The hash that many flows have in common, None where each flow has its own.

    Hashes are of addresses and ports: a tunnel's whose outer headers are the same for all flows, and those of
    fragments, which have no ports, are the same for all that two nodes send each other.
    """
    if not namespace.is_one_flow_tunnel(packet) and not packet.cut_to_bytes:
        return None
    return flow_hash(packet.source, packet.destination, packet.protocol, 0, 0)


def steer(walk: Walk, packet: Packet, device: Device) -> None:
    """Hand the packet to the core that RPS chooses.

    The card tells the hash of a packet with ports, of its outer headers; any other is dissected by the kernel
    (``skb_get_hash``), which looks into IPIP, but not into UDP tunnels (``__skb_flow_dissect``).
    """
    walk.steering_hash = shared_hash(_dissected(packet), device.namespace)
    if packet.protocol not in _HASHED_BY_CARDS or packet.cut_to_bytes:
        walk.pay("rps_flow_dissect", at=device.name)
    walk.pay("rps_steer", at=device.name)
    backlog.enqueue(walk, packet, device, Context.STEERED)


def _dissected(packet: Packet) -> Packet:
    """The packet whose headers are hashed; what is in a fragment cannot be seen."""
    while packet.protocol == ipip.PROTOCOL and packet.inner is not None and not packet.cut_to_bytes:
        packet = packet.inner
    return packet
