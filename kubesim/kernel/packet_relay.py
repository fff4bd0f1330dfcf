"""A tunnel that is a process: it captures frames from a device, and sends them in UDP to a process like it.

Frames come by a packet socket (net/packet/af_packet.c), which libpcap reads, and are put on the device again at the
other end by one. The process handles one frame at a time: a buffer of many segments is as many frames to it. What the
kernel does between is counted once per buffer, as elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kubesim.kernel import gso, ip
from kubesim.kernel.packet import Packet
from kubesim.kernel.walk import Context

if TYPE_CHECKING:
    from kubesim.kernel.device import Device
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.walk import Walk


class Peers(Protocol):
    """What the process knows of who is where."""

    def answer(self, address: str) -> str | None:
        """The link-layer address of an address behind another process (ARP)."""

    def peer_of(self, mac: str) -> str | None:
        """The host behind which a link-layer address is."""


class PacketRelay:
    """The process, its packet socket on a device, and its UDP socket.

    Parameters
    ----------
    namespace
        Where both sockets are.
    device
        The device that frames are captured from and put on.
    local_address
        Outer source address.
    port
        UDP port of all such processes, to send from and to.
    overhead_bytes
        Headers between UDP and the inner IP header.
    peers
        Who is where.
    is_encrypted
        Whether frames are encrypted on the way.
    """

    def __init__(
        self,
        namespace: Namespace,
        device: Device,
        local_address: str,
        port: int,
        overhead_bytes: int,
        peers: Peers,
        *,
        is_encrypted: bool = False,
    ) -> None:
        self._namespace = namespace
        self._device = device
        self._local_address = local_address
        self._port = port
        self._overhead_bytes = overhead_bytes
        self._peers = peers
        self._is_encrypted = is_encrypted
        device.master = self
        namespace.encapsulation_sockets["udp", port] = self.decapsulate
        namespace.one_flow_tunnels.add(("udp", port))

    def answer(self, address: str) -> str | None:
        """Frames that ask for an address are carried over, as all are."""
        return self._peers.answer(address)

    def receive_from(self, port: Device, walk: Walk, packet: Packet) -> None:
        """Copy a frame to the packet socket, from which the process reads it (``packet_rcv``)."""
        gso.segment(walk, packet, at=port.name)
        walk.pay("packet_socket_receive", size_bytes=packet.innermost.payload_bytes, at=port.name)
        walk.defer(self._forward, walk, packet)

    def decapsulate(self, walk: Walk, outer: Packet) -> None:
        """Queue a datagram to the UDP socket of the process."""
        walk.pay("udp_receive", at=self._namespace.name)
        if outer.inner is None:
            walk.drop(f"port {self._port} of {self._namespace.name} got a packet that carries none")
            return
        walk.defer(self._inject, walk, outer.inner)

    def _forward(self, walk: Walk, packet: Packet) -> None:
        """Send a frame in UDP to the process behind which its destination is."""
        self._relay(walk, packet)
        remote = self._peers.peer_of(packet.destination_mac)
        if remote is None:
            walk.drop(f"nobody behind {self._device.name} of {self._namespace.name} has {packet.destination_mac}")
            return
        walk.pay("relay_send", size_bytes=packet.innermost.payload_bytes, at=self._namespace.name)
        outer = Packet(
            source=self._local_address,
            destination=remote,
            protocol="udp",
            source_port=self._port,
            destination_port=self._port,
            payload_bytes=0,
            inner=packet,
            is_opaque=True,
            is_dont_fragment=False,
            overhead_bytes=self._overhead_bytes,
        )
        packet.forget_connection()
        ip.send(walk, outer, self._namespace)

    def _inject(self, walk: Walk, packet: Packet) -> None:
        """Put a frame that has arrived on the device (``packet_snd``)."""
        self._relay(walk, packet)
        packet.scrub()
        size_bytes = packet.innermost.payload_bytes
        walk.pay("packet_socket_send", size_bytes=size_bytes, at=self._device.name)
        self._device.transmit(walk, packet)

    def _relay(self, walk: Walk, packet: Packet) -> None:
        """What the process itself does with each frame."""
        walk.context = Context.DAEMON
        size_bytes, at = packet.innermost.payload_bytes, self._namespace.name
        walk.pay("relay_read", size_bytes=size_bytes, at=at)
        walk.pay("relay_frame", at=at)
        if self._is_encrypted:
            walk.pay("relay_encrypt", size_bytes=size_bytes, at=at)
