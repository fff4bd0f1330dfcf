"""WireGuard: IP in encrypted UDP (drivers/net/wireguard). Handshakes, which come every 120 s, are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from kubesim.kernel import gso, ip
from kubesim.kernel.packet import IP_HEADER_BYTES, TRANSPORT_HEADER_BYTES, Packet
from kubesim.kernel.route import Route, RoutingTable
from kubesim.kernel.tunnel import Tunnel
from kubesim.kernel.walk import Context

if TYPE_CHECKING:
    from kubesim.kernel.address import Prefix
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.walk import Walk

DEFAULT_PORT = 51820

_HEADER_BYTES = 16
_TAG_BYTES = 16
_PADDING_MULTIPLE_BYTES = 16
"""messages.h: ``struct message_data`` with type, index and counter; Poly1305's tag; ``MESSAGE_PADDING_MULTIPLE``."""

WIREGUARD_OVERHEAD_BYTES = IP_HEADER_BYTES + TRANSPORT_HEADER_BYTES["udp"] + _HEADER_BYTES + _TAG_BYTES
"""60 bytes over IPv4: what the inner MTU loses."""

WIREGUARD_OVER_IPV6_OVERHEAD_BYTES = WIREGUARD_OVERHEAD_BYTES + 20
"""What it loses where the outer header may be IPv6's, 40 bytes long (RFC 8200)."""


class Wireguard(Tunnel):
    """A WireGuard interface: which peer gets a packet, and may send it, is by the addresses it is allowed to have.

    Encryption and decryption are done by the kernel's threads on all cores; what a peer is sent, and what has come from
    it, is put in order on one. The sending threads are woken once for a large buffer, of which they get all pieces; the
    receiving ones for each packet, since each goes to the next core's. Its packets stay together here all the same:
    that matters to the latency of large messages, not to throughput.

    Parameters
    ----------
    namespace, name, mtu
        As for every device.
    local_address
        Outer source address.
    port
        UDP port of all peers.
    """

    decapsulation: ClassVar[str] = "wireguard_receive"
    is_one_flow: ClassVar[bool] = True

    def __init__(self, namespace: Namespace, name: str, mtu: int, local_address: str, port: int = DEFAULT_PORT) -> None:
        super().__init__(namespace, name, mtu, local_address, "udp", port)
        self._allowed = RoutingTable()

    def allow(self, prefix: Prefix, endpoint: str) -> None:
        """Let the peer at an endpoint have a range of addresses (``AllowedIPs``)."""
        self._allowed.add(Route(prefix, self, via=endpoint))

    def resolve(self, address: str) -> str | None:
        """There is no link layer (``NOARP``): the next hop stands for itself."""
        return address

    def transmit(self, walk: Walk, packet: Packet) -> None:
        """Find the peer, cut the packet, and queue it to be encrypted (``wg_xmit``)."""
        walk.pay("wireguard_allowed_ips", at=self.name)
        endpoint = self._endpoint(packet.destination)
        if endpoint is None:
            walk.drop(f"{self.name} of {self.namespace.name} has no peer for {packet.destination}")
            return
        gso.segment(walk, packet, at=self.name)
        with walk.for_first_buffer():
            walk.pay("wireguard_queue", at=self.name)
            walk.pay("worker_wakeup", at=self.name)
        packet.scrub()
        outer = Packet(
            source=self.local_address,
            destination=endpoint,
            protocol="udp",
            source_port=self.port,
            destination_port=self.port,
            payload_bytes=0,
            inner=packet,
            is_opaque=True,
            is_dont_fragment=False,
            overhead_bytes=_HEADER_BYTES + _TAG_BYTES + self._padding_bytes(packet.length_bytes),
        )
        walk.defer(self._encrypt, walk, outer)

    def decapsulate(self, walk: Walk, outer: Packet) -> None:
        """Queue a packet that has arrived to be decrypted (``wg_packet_receive``)."""
        walk.pay(self.decapsulation, at=self.name)
        walk.pay("wireguard_queue", at=self.name)
        walk.pay("worker_wakeup", at=self.name)
        if outer.inner is None:
            walk.drop(f"{self.name} of {self.namespace.name} got a packet that carries none")
            return
        walk.defer(self._decrypt, walk, outer, outer.inner)

    def _encrypt(self, walk: Walk, outer: Packet) -> None:
        """Fill in checksums and encrypt (``wg_packet_encrypt_worker``)."""
        walk.context = Context.WORKER
        with walk.for_first_buffer():
            walk.pay("worker_switch", at=self.name)
        walk.pay("checksum", size_bytes=outer.innermost.ip_bytes, at=self.name)
        walk.pay("wireguard_encrypt", size_bytes=_plain_bytes(outer), at=self.name)
        with walk.for_first_buffer():
            walk.pay("worker_wakeup", at=self.name)
        walk.defer(self._send, walk, outer)

    def _send(self, walk: Walk, outer: Packet) -> None:
        """Send what is encrypted in order; it passes netfilter on its own (``wg_packet_tx_worker``)."""
        walk.context = Context.PEER
        with walk.for_first_buffer():
            walk.pay("worker_switch", at=self.name)
        walk.pay("wireguard_send", at=self.name)
        ip.send(walk, outer, self.namespace, tunnel=self)

    def _decrypt(self, walk: Walk, outer: Packet, packet: Packet) -> None:
        """Decrypt (``wg_packet_decrypt_worker``)."""
        walk.context = Context.WORKER
        walk.pay("worker_switch", at=self.name)
        walk.pay("wireguard_decrypt", size_bytes=_plain_bytes(outer), at=self.name)
        walk.defer(self._poll, walk, packet, outer.source)

    def _poll(self, walk: Walk, packet: Packet, endpoint: str) -> None:
        """Hand up what is decrypted in order, where the peer may have sent it (``wg_packet_rx_poll``)."""
        walk.context = Context.PEER
        walk.pay("wireguard_poll", at=self.name)
        walk.pay("wireguard_allowed_ips", at=self.name)
        if self._endpoint(packet.source) != endpoint:
            walk.drop(f"{self.name} of {self.namespace.name} does not allow {packet.source} to come from {endpoint}")
            return
        gso.merge(walk, packet, at=self.name)
        self.receive(walk, packet)

    def _endpoint(self, address: str) -> str | None:
        route = self._allowed.lookup(address)
        return None if route is None else route.next_hop(address)

    def _padding_bytes(self, length_bytes: int) -> int:
        """What is added to the longest segment, which is never padded beyond the MTU (``calculate_skb_padding``)."""
        padded = -(-length_bytes // _PADDING_MULTIPLE_BYTES) * _PADDING_MULTIPLE_BYTES
        return min(self.mtu, padded) - length_bytes


def _plain_bytes(outer: Packet) -> int:
    """What is encrypted in a packet, or in all that a buffer was cut into: inner headers, payload and padding."""
    return outer.ip_bytes - outer.segments * WIREGUARD_OVERHEAD_BYTES
