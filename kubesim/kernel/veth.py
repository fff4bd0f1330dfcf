"""A pair of virtual Ethernet devices, usually with one end in a pod's namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel import backlog
from kubesim.kernel.device import Device

if TYPE_CHECKING:
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk


class Veth(Device):
    """One end of a pair (drivers/net/veth.c); without a peer it drops what it is given."""

    peer: Veth | None = None
    is_hairpin = False

    def transmit(self, walk: Walk, packet: Packet) -> None:
        """Scrub the packet and put it into this core's backlog for the peer."""
        walk.pay("veth_transmit", at=self.name)
        if self.peer is None:
            walk.drop(f"{self.name} of {self.namespace.name} has no peer")
            return
        if self.peer.namespace is not self.namespace:
            packet.scrub()
        backlog.enqueue(walk, packet, self.peer)

    def resolve(self, address: str) -> str | None:
        """Ask over the link: the peer's namespace answers for its own addresses, or its bridge asks on."""
        known = super().resolve(address)
        if known is not None or self.peer is None:
            return known
        if self.peer.master is not None:
            return self.peer.master.answer(address)
        if self.peer.namespace.is_local(address) or self.peer.is_proxy_arp:
            return self.peer.mac
        return None

    is_proxy_arp = False


def veth_pair(first: tuple[Namespace, str], second: tuple[Namespace, str], mtu: int) -> tuple[Veth, Veth]:
    """Make two devices that are each other's peer, as ``ip link add … type veth peer …`` does."""
    one, two = Veth(*first, mtu), Veth(*second, mtu)
    one.peer, two.peer = two, one
    return one, two
