"""IPVS schedulers: which real server gets the next connection (net/netfilter/ipvs/ip_vs_rr.c and its siblings)."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from kubesim.kernel.address import address_number, flow_hash


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
    destination
        The virtual address, which some choose by.
    """

    scans_servers = False
    """Whether a choice looks at every server, and so costs more with more of them."""

    def __init__(self, servers: list[RealServer], destination: str = "0.0.0.0") -> None:  # noqa: S104 - any address
        self.servers = servers
        self.destination = destination

    def schedule(self, source: str, source_port: int) -> RealServer | None:
        """The server for a new connection from this client, None if none takes any."""
        raise NotImplementedError


class RoundRobin(Scheduler):
    """``rr``: the next in the list."""

    def __init__(self, servers: list[RealServer], destination: str = "") -> None:
        super().__init__(servers, destination)
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

    def __init__(self, servers: list[RealServer], destination: str = "") -> None:
        super().__init__(servers, destination)
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


class Failover(Scheduler):
    """``fo``: the server of the greatest weight, as long as it has any (ip_vs_fo.c)."""

    scans_servers = True

    def schedule(self, _source: str, _source_port: int) -> RealServer | None:
        """Compare all weights; the first of equals."""
        best = max(self.servers, key=lambda server: server.weight, default=None)
        return best if best is not None and best.weight > 0 else None


class Overflow(Scheduler):
    """``ovf``: the server of the greatest weight that has fewer connections than its weight (ip_vs_ovf.c)."""

    scans_servers = True

    def schedule(self, _source: str, _source_port: int) -> RealServer | None:
        """Pass over full servers; where all are full, nobody takes the connection."""
        free = [server for server in self.servers if server.weight > 0 and server.active_connections <= server.weight]
        return max(free, key=lambda server: server.weight, default=None)


HASH_BUCKETS = 256
"""Buckets of the tables of ``sh`` and ``dh``."""

_MULTIPLIER = 2654435761  # Knuth's multiplicative hash, as in ip_vs_sh_hashkey


def _hash_bucket(address: str) -> int:
    number = address_number(address) & 0xFFFFFFFF
    return (number * _MULTIPLIER & 0xFFFFFFFF) >> 24


class SourceHash(Scheduler):
    """``sh``: a client always gets the same server, through a table of 256 buckets filled by weight (ip_vs_sh.c)."""

    def __init__(self, servers: list[RealServer], destination: str = "") -> None:
        super().__init__(servers, destination)
        self._table: list[RealServer] = []

    def schedule(self, source: str, _source_port: int) -> RealServer | None:
        """Look the source up; a server that has lost its weight takes no new connection."""
        if not self._table:
            self._fill()
        if not self._table:
            return None
        server = self._table[_hash_bucket(source)]
        return server if server.weight > 0 else None

    def _fill(self) -> None:
        """Give each server as many buckets in a row as its weight, round and round."""
        turns = [server for server in self.servers for _ in range(server.weight)]
        if turns:
            self._table = [turns[bucket % len(turns)] for bucket in range(HASH_BUCKETS)]


class DestinationHash(Scheduler):
    """``dh``: a virtual address always gets the same server, whatever the weights (ip_vs_dh.c)."""

    def schedule(self, _source: str, _source_port: int) -> RealServer | None:
        """Look the virtual address up; a server without weight is not replaced by another."""
        if not self.servers:
            return None
        server = self.servers[_hash_bucket(self.destination or "0.0.0.0") % len(self.servers)]  # noqa: S104
        return server if server.weight > 0 else None


class LocalityBased(WeightedLeastConnection):
    """``lblc``: a virtual address stays with its server until that is overloaded (ip_vs_lblc.c)."""

    def __init__(self, servers: list[RealServer], destination: str = "") -> None:
        super().__init__(servers, destination)
        self._current: RealServer | None = None

    def schedule(self, source: str, source_port: int) -> RealServer | None:
        """Keep the server; look for the least loaded one where there is none, or another is half idle."""
        if self._current is None or self._current.weight <= 0 or self._is_overloaded(self._current):
            self._current = super().schedule(source, source_port)
        return self._current

    def _is_overloaded(self, server: RealServer) -> bool:
        return server.active_connections > server.weight and any(
            other.active_connections * 2 < other.weight for other in self.servers
        )


class LocalityBasedReplicated(LocalityBased):
    """``lblcr``: as ``lblc``, but a virtual address has a set of servers, which grows under load (ip_vs_lblcr.c)."""

    def __init__(self, servers: list[RealServer], destination: str = "") -> None:
        super().__init__(servers, destination)
        self._serving: list[RealServer] = []

    def schedule(self, source: str, source_port: int) -> RealServer | None:
        """Take the least loaded of the set; where that is overloaded, add the least loaded of all."""
        best = WeightedLeastConnection(self._serving).schedule(source, source_port)
        if best is None or self._is_overloaded(best):
            best = WeightedLeastConnection(self.servers).schedule(source, source_port)
            if best is not None and best not in self._serving:
                self._serving.append(best)
        return best


class Maglev(Scheduler):
    """``mh``: consistent hashing by source, with the flag ``mh-port`` that kube-proxy sets (ip_vs_mh.c).

    The kernel's table of permutations, with another hash than its own, whose key is random.
    """

    TABLE_SIZE = 4093  # a prime: primes[IP_VS_MH_TAB_INDEX - 8] for the default index 12

    def __init__(self, servers: list[RealServer], destination: str = "") -> None:
        super().__init__(servers, destination)
        self._table: list[RealServer] = []

    def schedule(self, source: str, source_port: int) -> RealServer | None:
        """Look source and port up; servers without weight are not in the table."""
        if not self._table:
            self._fill()
        if not self._table:
            return None
        server = self._table[flow_hash(source, source_port) % self.TABLE_SIZE]
        return server if server.weight > 0 else None

    def _fill(self) -> None:
        """Let servers take turns, as many as their weight, in choosing the next free place they like best."""
        step = gcd(*(server.weight for server in self.servers))
        if step == 0:
            return
        table: list[RealServer | None] = [None] * self.TABLE_SIZE
        wishes = [self._wishes(server) for server in self.servers]
        left = self.TABLE_SIZE
        while left:
            for number, server in enumerate(self.servers):
                for _ in range(min(server.weight // step, left)):
                    offset, skip = wishes[number]
                    while table[offset] is not None:
                        offset = (offset + skip) % self.TABLE_SIZE
                    table[offset] = server
                    wishes[number] = ((offset + skip) % self.TABLE_SIZE, skip)
                    left -= 1
        self._table = [server for server in table if server is not None]

    def _wishes(self, server: RealServer) -> tuple[int, int]:
        offset = flow_hash(server.address, server.port, "offset") % self.TABLE_SIZE
        return offset, flow_hash(server.address, server.port, "skip") % (self.TABLE_SIZE - 1) + 1


class TwoChoices(Scheduler):
    """``twos``: of two servers drawn by weight, the one with less load for its weight (ip_vs_twos.c).

    The kernel draws random numbers; here they are hashes of the client's address and port.
    """

    scans_servers = True

    def schedule(self, source: str, source_port: int) -> RealServer | None:
        """Draw two, which may be one and the same; the first where they are equally loaded."""
        if not any(server.weight > 0 for server in self.servers):
            return None
        first, second = (self._drawn(flow_hash(source, source_port, draw)) for draw in ("first", "second"))
        return second if second.weight * first.overhead > first.weight * second.overhead else first

    def _drawn(self, number: int) -> RealServer:
        """The server in whose share of all weights a number lies; its bounds count in, as in the kernel."""
        usable = [server for server in self.servers if server.weight > 0]
        left = number % (sum(server.weight for server in usable) + 1)
        for server in usable:
            left -= server.weight
            if left <= 0:
                return server
        return usable[-1]


SCHEDULERS: dict[str, type[Scheduler]] = {
    "rr": RoundRobin,
    "wrr": WeightedRoundRobin,
    "lc": LeastConnection,
    "wlc": WeightedLeastConnection,
    "lblc": LocalityBased,
    "lblcr": LocalityBasedReplicated,
    "sh": SourceHash,
    "dh": DestinationHash,
    "sed": ShortestExpectedDelay,
    "nq": NeverQueue,
    "mh": Maglev,
    "fo": Failover,
    "ovf": Overflow,
    "twos": TwoChoices,
}
"""Schedulers by the name that ``ipvsadm -s`` takes."""
