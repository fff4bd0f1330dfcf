"""How UDP is sent and received in a twin."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

from kubesim.twin.inside import inside
from kubesim.twin.transport import DISCARD_PORT, Sender, Transport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LARGEST_DATAGRAM = 65_535


class Datagrams(Transport):
    """Connected sockets that send, and sockets that receive.

    Parameters
    ----------
    servers
        Names of the namespaces that receive.
    port
        The port they listen on.
    ports
        Where clients send from, in turn.
    """

    def __init__(self, servers: Sequence[str], port: int, ports: Iterator[int]) -> None:
        super().__init__(ports)
        self._sockets = [self._listening(name, port) for name in servers]
        self._last_sources: dict[int, tuple[str, int]] = {}

    def sender(self, client: str, address: str, target: tuple[str, int], payload_bytes: int) -> Sender:
        """A socket of the client, connected from the next port."""
        with inside(client):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, next(self._ports)))
        made.connect(target)
        return Sender([made], b"x" * payload_bytes)

    def arrived(self) -> int | None:
        """Take what has arrived; at which server, None if at none."""
        found: int | None = None
        for number, one in enumerate(self._sockets):
            with contextlib.suppress(BlockingIOError):
                while True:
                    _, self._last_sources[number] = one.recvfrom(_LARGEST_DATAGRAM)
                    found = number
        return found

    def answer(self, server: int, sender: Sender) -> None:
        """Send back what came."""
        self._sockets[server].sendto(sender.message, self._last_sources[server])

    def announce(self, address: str) -> None:
        """Send something from each server."""
        for one in self._sockets:
            one.sendto(b"", (address, DISCARD_PORT))

    def close(self) -> None:
        """Close all sockets."""
        for one in self._sockets:
            one.close()

    @staticmethod
    def _listening(namespace: str, port: int) -> socket.socket:
        with inside(namespace):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        made.bind(("0.0.0.0", port))  # noqa: S104 - of a namespace of its own
        return made
