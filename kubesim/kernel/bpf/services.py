"""Load balancing by programs: virtual addresses, who serves them, and clients that stay with a server, all in maps.

An address is looked up, then one of its slots, then the server that the slot names: each is one lookup, however many
addresses and servers there are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kubesim.kernel.bpf.connections import Direction, Place, Tracked
from kubesim.kernel.bpf.program import LOOKUP, UPDATE
from kubesim.kernel.ipvs.schedulers import Maglev, RealServer
from kubesim.kernel.walk import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubesim.kernel.address import Prefix
    from kubesim.kernel.bpf.connections import ConnectionMap
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk

_SERVICES, _BACKENDS, _AFFINITY, _SOURCES = "services", "backends", "affinity", "source ranges"


class Frontend(NamedTuple):
    """What a virtual address is found by."""

    address: str
    protocol: str
    port: int


class MaglevTable(Maglev):
    """Maglev hashing in an array of 16 381 places (a prime)."""

    TABLE_SIZE = 16_381


@dataclass(slots=True)
class VirtualService:
    """A virtual address and its servers.

    Parameters
    ----------
    frontend
        The address.
    servers
        Who serves it.
    is_sticky
        Whether a client stays with its server.
    has_maglev
        Whether a Maglev table chooses for clients outside, in place of chance.
    is_direct
        Whether servers on other hosts answer clients outside directly.
    sources
        Which clients outside may call it; empty for all.
    """

    frontend: Frontend
    servers: tuple[Place, ...]
    is_sticky: bool = False
    has_maglev: bool = False
    is_direct: bool = False
    sources: tuple[Prefix, ...] = ()
    _clients: dict[str, Place] = field(default_factory=dict)
    _table: MaglevTable | None = None

    def admits(self, walk: Walk, source: str) -> bool:
        """Whether a client outside may call it; one lookup of the longest prefix, where not all may."""
        if not self.sources:
            return True
        walk.pay(LOOKUP, at=_SOURCES)
        if any(source in prefix for prefix in self.sources):
            return True
        place = f"{self.frontend.address}:{self.frontend.port}"
        walk.drop(f"dropped by a program: {source} is in no source range of {place}", Refusal("DROP", None))
        return False

    def choose(self, walk: Walk, packet: Packet, client: str, *, is_from_outside: bool = False) -> Place | None:
        """A server for a new connection, or None where there is none.

        Parameters
        ----------
        walk, packet
            The connection's first packet.
        client
            By what a sticky client is known again.
        is_from_outside
            Whether it came in by the card.
        """
        if not self.servers:
            place = f"{self.frontend.address}:{self.frontend.port}"
            walk.drop(f"connection refused by a program: no server behind {place}", Refusal("REJECT", None))
            return None
        is_hashed = self.has_maglev and is_from_outside
        walk.pay(LOOKUP, 1 + is_hashed + 2 * self.is_sticky, at=_SERVICES)
        known = self._clients.get(client) if self.is_sticky else None
        if self.is_sticky and known is None:
            walk.pay(UPDATE, at=_AFFINITY)
        walk.pay(LOOKUP, at=_BACKENDS)
        if known is not None:
            server = known
            walk.decide(*server, is_sticky=True)
        elif is_hashed:
            chosen = walk.chance.server
            server = Place(*chosen) if chosen is not None else self._hashed(packet.source, packet.source_port)
            walk.decide(*server, schedule=self._scheduled, is_sticky=self.is_sticky, shares=self._shares)
        else:
            server = self.servers[walk.chance.pick(len(self.servers))]
            walk.decide(*server, is_sticky=self.is_sticky)
        if self.is_sticky:
            self._clients[client] = server
        return server

    def _hashed(self, source: str, source_port: int) -> Place:
        if self._table is None:
            self._table = MaglevTable([RealServer(*one) for one in self.servers], self.frontend.address)
        server = self._table.schedule(source, source_port)
        assert server is not None  # noqa: S101 - there are servers, and all have a weight
        return Place(server.address, server.port)

    def _scheduled(self, source: str, source_port: int) -> tuple[str, int]:
        """Who serves one more connection."""
        known = self._clients.get(source)
        server = known or self._hashed(source, source_port)
        if self.is_sticky:
            self._clients[source] = server
        return server

    def _shares(self) -> dict[tuple[str, int], float]:
        """A Maglev table gives all servers about as many places."""
        return {(one.address, one.port): 1 / len(self.servers) for one in self.servers}


class Services:
    """The maps of one host.

    Parameters
    ----------
    find
        Gives the virtual service at an address, or None; asked once for each.
    is_at_sockets
        Whether sockets are balanced when they connect, so that packets of endpoints need not be.
    is_at_card
        Whether packets that come in by the card are balanced, so that nothing else need do that.
    """

    def __init__(
        self, find: Callable[[Frontend], VirtualService | None], *, is_at_sockets: bool, is_at_card: bool
    ) -> None:
        self._find = find
        self._found: dict[Frontend, VirtualService | None] = {}
        self.is_at_sockets = is_at_sockets
        self.is_at_card = is_at_card

    def look_up(self, walk: Walk, packet: Packet) -> VirtualService | None:
        """The virtual service that a packet is for."""
        walk.pay(LOOKUP, at=_SERVICES)
        frontend = Frontend(packet.destination, packet.protocol, packet.destination_port)
        if frontend not in self._found:
            self._found[frontend] = self._find(frontend)
        return self._found[frontend]

    @staticmethod
    def translate(
        walk: Walk,
        packet: Packet,
        service: VirtualService,
        connections: ConnectionMap,
        *,
        is_from_outside: bool = False,
    ) -> bool:
        """Send a packet to the server of its connection, or of its choice; whether it goes on."""
        if is_from_outside and not service.admits(walk, packet.source):
            return False
        flow = packet.flow
        known = connections.find_exactly(walk, flow, Direction.SERVICE)
        server = None if known is None else known.server
        if server is not None:
            walk.pay(LOOKUP, at=_BACKENDS)
        else:
            server = service.choose(walk, packet, packet.source, is_from_outside=is_from_outside)
            if server is None or walk.is_over:
                return False
            connections.add(walk, flow, Direction.SERVICE, Tracked(server=server))
        walk.pay("bpf_nat", at=_SERVICES)
        packet.destination, packet.destination_port = server
        return True
