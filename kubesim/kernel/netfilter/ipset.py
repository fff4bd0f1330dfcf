"""IP sets: what iptables rules look addresses and ports up in, at a cost that does not grow with the set."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

    from kubesim.kernel.packet import Packet

Entry = tuple[str | int, ...]


class IpSet:
    """A set of tuples, such as ``("10.96.0.1", "tcp", 443)`` for the type ``hash:ip,port``.

    Parameters
    ----------
    name
        Its name.
    kind
        Its type as ipset calls it.
    entries
        What is in it; shared, not copied.
    """

    def __init__(self, name: str, kind: str, entries: Container[Entry] = frozenset()) -> None:
        self.name = name
        self.kind = kind
        self._entries = entries

    def contains(self, packet: Packet, directions: tuple[str, ...]) -> bool:
        """Whether the packet is in the set; ``directions`` are ipset's flags, such as ``("dst", "dst", "src")``."""
        return self.key(packet, directions) in self._entries

    def key(self, packet: Packet, directions: tuple[str, ...]) -> Entry:
        """The tuple looked for, dimension by dimension of the set's type."""
        found: list[str | int] = []
        for dimension, direction in zip(self.kind.partition(":")[2].split(","), directions, strict=True):
            is_source = direction == "src"
            if dimension == "port":
                if self.kind.startswith("hash"):
                    found.append(packet.protocol)
                found.append(packet.source_port if is_source else packet.destination_port)
            else:
                found.append(packet.source if is_source else packet.destination)
        return tuple(found)
