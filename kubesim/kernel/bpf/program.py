"""eBPF programs at devices, and the ways they send a packet on (net/core/filter.c, net/sched/cls_bpf.c).

A program is called with the walk, the packet and its device; it pays for what it does, and gives a verdict.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kubesim.kernel.device import Device
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.veth import Veth
    from kubesim.kernel.walk import Walk

LOOKUP, UPDATE = "bpf_map_lookup", "bpf_map_update"
"""Finding an element of a hash map, and adding one."""


class Verdict(Enum):
    """What a program says."""

    PASS = auto()
    """The packet goes on as if there were no program (``TC_ACT_OK``)."""
    TAKEN = auto()
    """The program has sent it elsewhere, or dropped it (``TC_ACT_REDIRECT``, ``TC_ACT_SHOT``)."""


class Program(Protocol):
    """What is attached to a device, at its ingress or egress."""

    def __call__(self, walk: Walk, packet: Packet, device: Device, /) -> Verdict:
        """Look at a packet."""


def redirect(walk: Walk, packet: Packet, device: Device) -> None:
    """Send the packet out of another device of the namespace (``bpf_redirect``)."""
    walk.pay("bpf_redirect", at=device.name)
    device.send(walk, packet)


def redirect_peer(walk: Walk, packet: Packet, device: Veth) -> None:
    """Let the packet come in at a device's peer at once, without the peer's backlog (``bpf_redirect_peer``)."""
    walk.pay("bpf_redirect_peer", at=device.name)
    if device.peer is None:
        walk.drop(f"{device.name} of {device.namespace.name} has no peer")
        return
    packet.forget_connection()
    packet.mark = 0
    device.peer.receive(walk, packet)


def redirect_neigh(walk: Walk, packet: Packet, namespace: Namespace) -> None:
    """Route the packet and send it to its next hop, past the IP layer (``bpf_fib_lookup``, ``bpf_redirect_neigh``)."""
    walk.pay("bpf_fib_lookup", at=namespace.name)
    route = namespace.routes.lookup(packet.destination)
    if route is None or route.device is None:
        walk.drop(f"no route to {packet.destination} in {namespace.name}: network unreachable")
        return
    device = route.device
    if packet.length_bytes > device.mtu:
        walk.drop(
            f"a packet of {packet.length_bytes} bytes does not fit the MTU of {device.mtu} "
            f"of {device.name} in {namespace.name}"
        )
        return
    packet.ttl -= 1
    next_hop = route.next_hop(packet.destination)
    mac = device.resolve(next_hop)
    if mac is None or packet.ttl <= 0:
        walk.drop(f"nobody answers for {next_hop} on {device.name} of {namespace.name}: host unreachable")
        return
    walk.pay("bpf_redirect_neigh", at=device.name)
    packet.destination_mac = mac
    device.send(walk, packet)
