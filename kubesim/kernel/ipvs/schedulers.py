"""IPVS schedulers: which real server gets the next connection (net/netfilter/ipvs/ip_vs_rr.c and its siblings)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import gcd

from kubesim.kernel.address import address_number


@dataclass(slots=True)
class RealServer:
    """A real server of one virtual service.

    Parameters
    ----------
    address, port
        Where it is.
    weight
        Its share; with 0 it gets no new connections.
    active_connections, inactive_connections
        Connections that were scheduled to it and still count.
    """

    address: str
    port: int
    weight: int = 1
    active_connections: int = 0
    inactive_connections: int = 0

    @property
    def overhead(self) -> int:
        """Load as lc and wlc see it: an active connection counts as 256 idle ones (``ip_vs_dest_conn_overhead``)."""
        return (self.active_connections << 8) + self.inactive_connections


class Scheduler:
    """Chooses real servers; one object per virtual service, since some remember where they are.

    Parameters
    ----------
    servers
        The service's real servers.
    """

    scans_servers = False
    """Whether a choice looks at every server, and so costs more with more of them."""

    def __init__(self, servers: list[RealServer]) -> None:
        self.servers = servers

    def schedule(self, source: str, source_port: int) -> RealServer | None:
        """The server for a new connection from this client, None if none takes any."""
        raise NotImplementedError


class RoundRobin(Scheduler):
    """``rr``: the next in the list."""

    def __init__(self, servers: list[RealServer]) -> None:
        super().__init__(servers)
        self._last = -1

    def schedule(self, _source: str, _source_port: int) -> RealServer | None:
        """Take the next server that has a weight."""
        for step in range(1, len(self.servers) + 1):
            position = (self._last + step) % len(self.servers)
            if self.servers[position].weight > 0:
                self._last = position
                return self.servers[position]
        return None


class WeightedRoundRobin(Scheduler):
    """``wrr``: in rounds, servers of more weight more often, spread out (ip_vs_wrr.c)."""

    scans_servers = True

    def __init__(self, servers: list[RealServer]) -> None:
        super().__init__(servers)
        self._position = -1
        self._current_weight = 0

    def schedule(self, _source: str, _source_port: int) -> RealServer | None:
        """Go round with a falling threshold; take the next server whose weight reaches it."""
        highest = max((server.weight for server in self.servers), default=0)
        if highest <= 0:
            return None
        step = gcd(*(server.weight for server in self.servers))
        while True:
            self._position = (self._position + 1) % len(self.servers)
            if self._position == 0:
                self._current_weight -= step
                if self._current_weight <= 0:
                    self._current_weight = highest
            if self.servers[self._position].weight >= self._current_weight:
                return self.servers[self._position]


class _Least(Scheduler):
    """Takes the server with the least load per weight; the first of equals."""

    scans_servers = True

    @staticmethod
    def load(server: RealServer) -> int:
        """The load that is compared."""
        return server.overhead

    @staticmethod
    def share(server: RealServer) -> int:
        """What the load is divided by."""
        return server.weight

    def schedule(self, _source: str, _source_port: int) -> RealServer | None:
        """Compare all servers, cross-multiplied as the kernel does to stay with whole numbers."""
        best: RealServer | None = None
        for server in self.servers:
            if server.weight > 0 and (
                best is None or self.load(server) * self.share(best) < self.load(best) * self.share(server)
            ):
                best = server
        return best


class LeastConnection(_Least):
    """``lc``: the fewest connections, whatever the weight."""

    @staticmethod
    def share(_server: RealServer) -> int:
        """All servers are alike."""
        return 1


class WeightedLeastConnection(_Least):
    """``wlc``: the fewest connections per weight."""


class ShortestExpectedDelay(_Least):
    """``sed``: the fewest connections per weight, the one to come counted in."""

    @staticmethod
    def load(server: RealServer) -> int:
        """Connections there would be."""
        return server.active_connections + 1


class NeverQueue(ShortestExpectedDelay):
    """``nq``: an idle server if there is one, else as ``sed``."""

    def schedule(self, source: str, source_port: int) -> RealServer | None:
        """Take the first server without connections."""
        for server in self.servers:
            if server.weight > 0 and server.active_connections == 0:
                return server
        return super().schedule(source, source_port)


class SourceHash(Scheduler):
    """``sh``: a client always gets the same server, through a table of 256 buckets filled by weight (ip_vs_sh.c)."""

    BUCKETS = 256
    _MULTIPLIER = 2654435761  # Knuth's multiplicative hash, as in ip_vs_sh_hashkey

    def __init__(self, servers: list[RealServer]) -> None:
        super().__init__(servers)
        self._table: list[RealServer] = []

    def schedule(self, source: str, _source_port: int) -> RealServer | None:
        """Look the source up; a server that has lost its weight takes no new connection."""
        if not self._table:
            self._fill()
        if not self._table:
            return None
        number = address_number(source) & 0xFFFFFFFF
        server = self._table[(number * self._MULTIPLIER & 0xFFFFFFFF) >> 24]
        return server if server.weight > 0 else None

    def _fill(self) -> None:
        """Give each server as many buckets in a row as its weight, round and round."""
        turns = [server for server in self.servers for _ in range(server.weight)]
        if turns:
            self._table = [turns[bucket % len(turns)] for bucket in range(self.BUCKETS)]


SCHEDULERS: dict[str, Callable[[list[RealServer]], Scheduler]] = {
    "rr": RoundRobin,
    "wrr": WeightedRoundRobin,
    "lc": LeastConnection,
    "wlc": WeightedLeastConnection,
    "sh": SourceHash,
    "sed": ShortestExpectedDelay,
    "nq": NeverQueue,
}
"""Schedulers by the name that ``ipvsadm -s`` takes."""
