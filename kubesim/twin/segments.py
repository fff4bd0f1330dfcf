"""How TCP is sent and received in a twin: segment by segment, and nobody answers by itself.

A connection of the kernel's own would answer within the time that is measured. Segments are sent through raw sockets
instead, and received by listening sockets with a filter that takes none: the kernel then counts them (``sk_drops``, of
``tcp_filter`` in ``net/ipv4/tcp_ipv4.c``) and says nothing.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import TYPE_CHECKING

from kubesim.twin.inside import inside
from kubesim.twin.transport import DISCARD_PORT, Sender, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SYN, _SYN_ACK, _ACK = 0x02, 0x12, 0x10
_CLIENT_SEQUENCE, _SERVER_SEQUENCE = 1000, 5000
_WINDOW = 65_000
_SO_ATTACH_FILTER, _SO_MEMINFO = 26, 55  # include/uapi/asm-generic/socket.h
_MEMINFO = struct.Struct("=9I")
_DROPS = 8  # SK_MEMINFO_DROPS, include/uapi/linux/sock_diag.h
_TAKE_NOTHING = struct.pack("=HBBI", 0x06, 0, 0, 0)  # BPF_RET | BPF_K, 0 bytes


class Segments(Transport):
    """Raw sockets that send, and listening sockets that only count.

    Parameters
    ----------
    servers
        Names of the namespaces that receive, and their addresses.
    port
        The port they listen on.
    ports
        Where clients send from, in turn.
    """

    def __init__(self, servers: Sequence[tuple[str, str]], port: int, ports: Iterator[int]) -> None:
        super().__init__(ports)
        self._addresses = [address for _, address in servers]
        self._port = port
        self._sockets = [_counting(name, ("0.0.0.0", port)) for name, _ in servers]  # noqa: S104 - of its own namespace
        self._raw = [_raw(name) for name, _ in servers]
        self._seen = [0] * len(servers)

    def sender(self, client: str, address: str, target: tuple[str, int], payload_bytes: int) -> Sender:
        """A raw socket of the client, with a SYN to send."""
        source = (address, next(self._ports))
        made = _raw(client)
        made.connect((target[0], 0))
        message = segment(source, target, _SYN, _CLIENT_SEQUENCE, 0, payload_bytes)
        return _TcpSender([made], message, client, source, target, payload_bytes)

    def arrived(self) -> int | None:
        """At which server the count is another than before."""
        found: int | None = None
        for number, one in enumerate(self._sockets):
            drops: int = _MEMINFO.unpack(one.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size))[_DROPS]
            if drops != self._seen[number]:
                self._seen[number] = drops
                found = number
        return found

    def answer(self, server: int, sender: Sender) -> None:
        """Accept the connection, which the client hears and leaves at that; it sends data from now on."""
        assert isinstance(sender, _TcpSender)  # noqa: S101 - made by this transport
        sender.sockets.append(_counting(sender.client, sender.source))
        here = (self._addresses[server], self._port)
        accepted = _CLIENT_SEQUENCE + 1 + sender.payload_bytes
        synack = segment(here, sender.source, _SYN_ACK, _SERVER_SEQUENCE, accepted, 0)
        self._raw[server].sendto(synack, (sender.source[0], 0))
        sender.message = segment(
            sender.source, sender.target, _ACK, accepted, _SERVER_SEQUENCE + 1, sender.payload_bytes
        )

    def announce(self, address: str) -> None:
        """Send a datagram from each server."""
        for one, own in zip(self._raw, self._addresses, strict=True):
            one.sendto(segment((own, self._port), (address, DISCARD_PORT), _ACK, 0, 0, 0), (address, 0))

    def close(self) -> None:
        """Close all sockets."""
        for one in [*self._sockets, *self._raw]:
            one.close()


class _TcpSender(Sender):
    """A connection of segments."""

    def __init__(
        self,
        sockets: list[socket.socket],
        message: bytes,
        client: str,
        source: tuple[str, int],
        target: tuple[str, int],
        payload_bytes: int,
    ) -> None:
        super().__init__(sockets, message)
        self.client, self.source, self.target, self.payload_bytes = client, source, target, payload_bytes


def segment(
    source: tuple[str, int], target: tuple[str, int], flags: int, sequence: int, acknowledged: int, payload_bytes: int
) -> bytes:
    """A TCP segment (RFC 9293, section 3.1) with its checksum, without options."""
    words = struct.pack("!HHIIBBHHH", source[1], target[1], sequence, acknowledged, 5 << 4, flags, _WINDOW, 0, 0)
    made = words + b"x" * payload_bytes
    pseudo_header = socket.inet_aton(source[0]) + socket.inet_aton(target[0]) + struct.pack("!HH", 6, len(made))
    return made[:16] + struct.pack("!H", _checksum(pseudo_header + made)) + made[18:]


def _checksum(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _raw(namespace: str) -> socket.socket:
    with inside(namespace):
        return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)


def _counting(namespace: str, address: tuple[str, int]) -> socket.socket:
    """A listening socket that takes nothing."""
    with inside(namespace):
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    program = ctypes.create_string_buffer(_TAKE_NOTHING)
    made.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(program)))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(address)
    made.listen()
    return made
