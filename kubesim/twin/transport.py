"""How packets are sent and received in a twin, whatever the transport protocol."""

from __future__ import annotations

import abc
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

DISCARD_PORT = 9  # RFC 863
_FIRST_PORT, _PORTS = 20_000, 40_000


@dataclass
class Sender:
    """One connection's sending side.

    Parameters
    ----------
    sockets
        The first one sends.
    message
        What is sent.
    """

    sockets: list[socket.socket]
    message: bytes

    def send(self) -> None:
        """Send one packet."""
        self.sockets[0].send(self.message)

    def idle(self) -> None:
        """Do what :meth:`send` does, without a system call."""
        self.sockets[0].fileno()

    def close(self) -> None:
        """Close all."""
        for one in self.sockets:
            one.close()


def source_ports() -> Iterator[int]:
    """Ports for clients of one twin, none of which comes again for long."""
    return itertools.cycle(range(_FIRST_PORT, _FIRST_PORT + _PORTS))


class Transport(abc.ABC):
    """The servers of one Service port, and clients that send to them.

    Parameters
    ----------
    ports
        Where clients send from, in turn; one twin's transports share them.
    """

    def __init__(self, ports: Iterator[int]) -> None:
        self._ports = ports

    @abc.abstractmethod
    def sender(self, client: str, address: str, target: tuple[str, int], payload_bytes: int) -> Sender:
        """A new connection, from a port that has not been used for long: conntrack knows nothing of it.

        Parameters
        ----------
        client
            Name of the namespace.
        address
            The client's.
        target
            Address and port that are sent to.
        payload_bytes
            Of each packet.
        """

    @abc.abstractmethod
    def arrived(self) -> int | None:
        """Take what has arrived; the number of the server where, None if nowhere."""

    @abc.abstractmethod
    def answer(self, server: int, sender: Sender) -> None:
        """Answer what came last, so that the connection is established."""

    @abc.abstractmethod
    def announce(self, address: str) -> None:
        """Send from each server to a pod, so that bridges on the way know where it is."""

    @abc.abstractmethod
    def close(self) -> None:
        """Stop listening."""
