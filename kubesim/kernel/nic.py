"""Network interface cards, and the Ethernet that joins them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kubesim.kernel.device import Device
from kubesim.kernel.receive_scaling import shared_hash, steer
from kubesim.kernel.walk import Context

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk

GATEWAY_MAC = "02:00:00:00:00:01"


class Offloads(NamedTuple):
    """What a card does in place of the kernel.

    Parameters
    ----------
    has_segmentation_offload
        Whether it cuts large buffers into frames (TSO, ``tx-tcp-segmentation``); if not, the kernel does, before the
        driver.
    has_tunnel_offload
        Whether it can do so inside a UDP tunnel too (``tx-udp_tnl-segmentation``).
    has_receive_offload
        Whether frames of one flow are merged as they are received (GRO), so that the kernel handles them as one.
    """

    has_segmentation_offload: bool = True
    has_tunnel_offload: bool = True
    has_receive_offload: bool = True

    def cuts(self, packet: Packet) -> bool:
        """Whether the card cuts this packet."""
        return self.has_segmentation_offload and (packet.inner is None or self.has_tunnel_offload)


ALL_OFFLOADS = Offloads()


class Router:
    """What joins layer-2 networks: it knows who is on which, and is the gateway of each."""

    def __init__(self) -> None:
        self.networks: list[Ethernet] = []
        self._announced: dict[str, tuple[str, ...]] = {}

    def announce(self, address: str, machines: tuple[str, ...]) -> None:
        """Send packets for an address to one of several machines, given by their own addresses.

        One machine stands for a leader that answers ARP for the address, several for as many equal routes of BGP, of
        which a router takes one per flow (ECMP).
        """
        self._announced[address] = machines

    def knows(self, address: str) -> bool:
        """Whether somebody has announced an address."""
        return address in self._announced

    def next_card(self, walk: Walk, destination: str) -> Nic | None:
        """The card that packets for an address are sent on to."""
        machines = self._announced.get(destination)
        address = destination if machines is None else walk.choose_way(machines)
        found = (network.card_at(address) for network in self.networks)
        return next((card for card in found if card is not None), None)


class Ethernet:
    """One layer-2 network: a switch that every card is plugged into.

    Parameters
    ----------
    gateway
        Address of the router to everywhere else.
    find
        Called with an address that nobody has yet, to plug in the card that has it.
    router
        What is at that address.
    """

    def __init__(
        self,
        gateway: str | None = None,
        find: Callable[[str], None] = lambda _address: None,
        router: Router | None = None,
    ) -> None:
        self.gateway = gateway
        self.router = router or Router()
        self.router.networks.append(self)
        self._find = find
        self._by_mac: dict[str, Nic] = {}
        self._by_address: dict[str, Nic] = {}

    def plug_in(self, nic: Nic) -> None:
        """Join a card whose addresses are set."""
        self._by_mac[nic.mac] = nic
        for address in nic.addresses:
            self._by_address[address] = nic

    def resolve(self, address: str) -> str | None:
        """Ask who has an address (ARP); the link-layer address, or None if nobody answers."""
        nic = self.card_at(address)
        if nic is None:
            return GATEWAY_MAC if address == self.gateway or self.router.knows(address) else None
        return nic.mac

    def card_at(self, address: str) -> Nic | None:
        """The card with an address, plugged in now if it is not yet."""
        if address not in self._by_address:
            self._find(address)
        return self._by_address.get(address)

    @property
    def cards(self) -> int:
        """How many are plugged in."""
        return len(self._by_mac)

    def card(self, mac: str) -> Nic | None:
        """The card with a link-layer address."""
        return self._by_mac.get(mac)


class Nic(Device):
    """A card with segmentation offload (TSO) and receive offload (GRO).

    Parameters
    ----------
    namespace, name, mtu
        As for every device.
    ethernet
        The network it is plugged into.
    offloads
        What it does for the kernel.

    Attributes
    ----------
    has_packet_steering
        Whether the kernel spreads what it receives over other cores (``rps_cpus`` of its queues is set).
    """

    def __init__(
        self, namespace: Namespace, name: str, mtu: int, ethernet: Ethernet, *, offloads: Offloads = ALL_OFFLOADS
    ) -> None:
        super().__init__(namespace, name, mtu)
        self.ethernet = ethernet
        self.offloads = offloads
        self.has_packet_steering = False

    def resolve(self, address: str) -> str | None:
        """Ask on the network who has an address (ARP)."""
        return super().resolve(address) or self.ethernet.resolve(address)

    def transmit(self, walk: Walk, packet: Packet) -> None:
        """Queue the packet to the card, which puts its frames on the wire."""
        frames = -(-packet.segments // walk.buffers)
        if frames > 1 and not self.offloads.cuts(packet):
            walk.pay("gso_segment", frames, size_bytes=packet.innermost.payload_bytes, at=self.name)
        walk.pay("nic_transmit", frames, at=self.name)
        walk.buffers = 1
        walk.context = Context.NIC
        walk.pay("nic_serialise", packet.segments, size_bytes=packet.wire_bytes, at=self.name)
        if packet.destination_mac == GATEWAY_MAC:
            self._transmit_to_router(walk, packet)
            return
        peer = self.ethernet.card(packet.destination_mac)
        if peer is None:
            walk.drop(f"no card on the network of {self.namespace.name} has the address {packet.destination_mac}")
            return
        walk.defer(peer.receive_frames, walk, packet)

    def _transmit_to_router(self, walk: Walk, packet: Packet) -> None:
        """Send the packet over the wire to the router, which passes it on where it knows the destination."""
        peer = self.ethernet.router.next_card(walk, packet.destination)
        if peer is None:
            walk.drop(f"{packet.destination} is not in the cluster: the packet leaves through {self.ethernet.gateway}")
            return
        walk.context = Context.WIRE
        walk.pay("wire", at="router")
        packet.ttl -= 1
        walk.defer(peer.receive_frames, walk, packet)

    def receive_frames(self, walk: Walk, packet: Packet) -> None:
        """Take the frames from the wire; the receive queue of the flow is polled by one core."""
        walk.context = Context.WIRE
        walk.pay("wire", at=self.name)
        walk.host = self.namespace.host.name
        walk.context = Context.PORT
        walk.pay("port_serialise", packet.segments, size_bytes=packet.wire_bytes, at=self.name)
        self.poll(walk, packet)

    def poll(self, walk: Walk, packet: Packet) -> None:
        """Take the frames out of the ring, merge what can be merged, and hand them up (``napi_gro_receive``).

        A card spreads flows over its queues by addresses and ports (RSS); of a tunnel whose outer headers are the same
        for all flows, and of fragments, which have no ports, all that two nodes send each other comes in by one queue.
        """
        walk.queue_hash = shared_hash(packet, self.namespace)
        walk.context = Context.SOFTIRQ
        walk.see(packet, self.namespace)
        walk.pay("nic_receive", packet.segments, at=self.name)
        if self.offloads.has_receive_offload:
            walk.pay("gro", packet.segments, at=self.name)
        if not (self.offloads.has_receive_offload and packet.is_mergeable):
            walk.buffers = packet.segments
        packet.scrub()
        if self.has_packet_steering:
            steer(walk, packet, self)
        else:
            self.receive(walk, packet)
