"""Network interface cards, and the Ethernet that joins them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.device import Device
from kubesim.kernel.walk import Context

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk

GATEWAY_MAC = "02:00:00:00:00:01"


class Ethernet:
    """One layer-2 network: a switch that every card is plugged into.

    Parameters
    ----------
    gateway
        Address of the router to everywhere else.
    find
        Called with an address that nobody has yet, to plug in the card that has it.
    """

    def __init__(self, gateway: str | None = None, find: Callable[[str], None] = lambda _address: None) -> None:
        self.gateway = gateway
        self._find = find
        self._by_mac: dict[str, Nic] = {}
        self._by_address: dict[str, Nic] = {}
        self._announced: dict[str, tuple[str, ...]] = {}

    def announce(self, address: str, machines: tuple[str, ...]) -> None:
        """Have the router send packets for an address to one of several machines, given by their own addresses.

        One machine stands for a leader that answers ARP for the address, several for as many equal routes of BGP, of
        which a router takes one per flow (ECMP).
        """
        self._announced[address] = machines

    def plug_in(self, nic: Nic) -> None:
        """Join a card whose addresses are set."""
        self._by_mac[nic.mac] = nic
        for address in nic.addresses:
            self._by_address[address] = nic

    def resolve(self, address: str) -> str | None:
        """Ask who has an address (ARP); the link-layer address, or None if nobody answers."""
        if address not in self._by_address:
            self._find(address)
        nic = self._by_address.get(address)
        if nic is None:
            return GATEWAY_MAC if address == self.gateway else None
        return nic.mac

    @property
    def cards(self) -> int:
        """How many are plugged in."""
        return len(self._by_mac)

    def card(self, walk: Walk, packet: Packet) -> Nic | None:
        """The card that a frame is for; what is for the gateway goes on to who has announced its destination."""
        if packet.destination_mac != GATEWAY_MAC:
            return self._by_mac.get(packet.destination_mac)
        machines = self._announced.get(packet.destination)
        mac = None if machines is None else self.resolve(walk.choose_way(machines))
        return None if mac is None else self._by_mac.get(mac)


class Nic(Device):
    """A card with segmentation offload (TSO) and receive offload (GRO).

    Parameters
    ----------
    namespace, name, mtu
        As for every device.
    ethernet
        The network it is plugged into.
    has_tunnel_offload
        Whether it can cut packets inside a UDP tunnel (``tx-udp_tnl-segmentation``); if not, the kernel cuts them.
    """

    def __init__(
        self, namespace: Namespace, name: str, mtu: int, ethernet: Ethernet, *, has_tunnel_offload: bool = True
    ) -> None:
        super().__init__(namespace, name, mtu)
        self.ethernet = ethernet
        self.has_tunnel_offload = has_tunnel_offload

    def resolve(self, address: str) -> str | None:
        """Ask on the network who has an address (ARP)."""
        return super().resolve(address) or self.ethernet.resolve(address)

    def transmit(self, walk: Walk, packet: Packet) -> None:
        """Queue the packet to the card, which puts its frames on the wire."""
        frames = packet.segments
        if frames > 1 and packet.inner is not None and not self.has_tunnel_offload:
            walk.pay("gso_segment", frames, size_bytes=packet.innermost.payload_bytes, at=self.name)
        walk.pay("nic_transmit", frames, at=self.name)
        walk.context = Context.NIC
        walk.pay("nic_serialise", frames, size_bytes=packet.wire_bytes, at=self.name)
        peer = self.ethernet.card(walk, packet)
        if peer is None and packet.destination_mac == GATEWAY_MAC:
            walk.drop(f"{packet.destination} is not in the cluster: the packet leaves through {self.ethernet.gateway}")
            return
        if peer is None:
            walk.drop(f"no card on the network of {self.namespace.name} has the address {packet.destination_mac}")
            return
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

        A card looks for ports behind the IP header to spread flows over its queues (RSS); where there are none, as in
        IP in IP, all that two nodes send each other comes in by one.
        """
        walk.queue_hash = None if packet.destination_port else packet.flow_hash
        walk.context = Context.SOFTIRQ
        walk.pay("nic_receive", packet.segments, at=self.name)
        walk.pay("gro", packet.segments, at=self.name)
        packet.forget_connection()
        packet.mark = 0
        packet.is_ipvs = False
        self.receive(walk, packet)
