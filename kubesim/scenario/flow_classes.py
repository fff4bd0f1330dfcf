"""Flow classes: what connections have in common that go the same way, and so pay the same.

:mod:`kubesim.scenario.classification` finds them, and says why a way is taken apart into a route and an opening.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kubesim.scenario.distinct import distinct
from kubesim.scenario.visits import Lookup, PricedHop, first_lookup

if TYPE_CHECKING:
    import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod is, as far as packets can tell.

    Parameters
    ----------
    node
        On which node.
    is_host_network
        Whether it is in the node's own namespace.
    address
        The pod's, where rules may tell pods of a node apart; else empty.
    """

    node: str
    is_host_network: bool
    address: str = ""


@dataclass(frozen=True, slots=True)
class RouteKey:
    """What the cost of a packet depends on once its connection is open.

    Parameters
    ----------
    client, server
        Where the two ends are.
    is_same_pod
        Whether they are one and the same pod.
    is_virtual
        Whether the client uses a virtual address.
    is_tunnel_known
        Whether conntrack knows the tunnel's source port from another connection.
    kinds
        What is sent there, by number.
    entry
        Where no part of the way is the opening: which destination it is, and by which machines, or by the address of
        which endpoint, the connection comes there.
    is_cached
        Whether Open vSwitch has megaflows from another connection.
    """

    client: Place
    server: Place
    is_same_pod: bool
    is_virtual: bool
    is_tunnel_known: bool
    kinds: tuple[int, ...]
    entry: tuple[int, tuple[str, ...]] | None
    is_cached: bool


@dataclass(frozen=True)
class KindPath:
    """How packets of one kind go along a route.

    Parameters
    ----------
    hops
        Priced; for the opening packet without the hops up to the choice of an endpoint.
    reason
        Why they get nowhere, None if they arrive.
    queue_hash
        What chooses the receive queue, where that is not the flow.
    steering_hash
        What RPS chooses its core by, where that is not the flow.
    """

    hops: tuple[PricedHop, ...]
    reason: str | None
    queue_hash: int | None = None
    steering_hash: int | None = None


Route = dict[int, KindPath]
"""How each kind of message goes along a route, by its number; kinds behind one that gets nowhere are left out."""


@dataclass(frozen=True, slots=True)
class Opening:
    """The way of a connection's first packet up to the choice of an endpoint."""

    hops: tuple[PricedHop, ...]
    mean_ns: int
    deviation_ns: float
    lookup: Lookup | None

    @classmethod
    def of(cls, hops: tuple[PricedHop, ...]) -> Opening:
        """Add up its hops."""
        return cls(hops, sum(hop.cost_ns for hop in hops), sum(hop.deviation_ns for hop in hops), first_lookup(hops))


class Socket(NamedTuple):
    """An address and a port."""

    address: str
    port: int


class SourceNat(NamedTuple):
    """What conntrack of a machine on a route gives connections a new source for.

    Parameters
    ----------
    host
        The machine.
    address
        The new source.
    destination
        Where packets go from there; None for the endpoint of each flow.
    protocol
        ``"tcp"`` or the like.
    """

    host: str
    address: str
    destination: Socket | None
    protocol: str


@dataclass
class FlowClasses:
    """Which route, opening and server each flow has.

    Parameters
    ----------
    routes, openings, servers, endpoints
        All that are in use; servers by name, endpoints by where they listen.
    source_nats
        Which sources are translated along each of the routes, once per machine at the most.
    route, opening, server, endpoint : array of int64, shape (f,)
        Of each flow, as positions in these lists; a flow that nobody serves has the server and the endpoint −1.
    """

    routes: list[Route]
    openings: list[Opening]
    servers: list[str]
    endpoints: list[Socket]
    source_nats: list[tuple[SourceNat, ...]]
    route: npt.NDArray[np.int64]
    opening: npt.NDArray[np.int64]
    server: npt.NDArray[np.int64]
    endpoint: npt.NDArray[np.int64]

    def sorts(
        self, flow: npt.NDArray[np.int64], kind: npt.NDArray[np.int64], opens: npt.NDArray[np.bool_]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The sorts of messages that there are, by route, kind and opening, shape (t, 3), and that of each, shape (m,).

        Messages are given by their flows and kinds, of which some open connections; the opening is 0 for all others.
        """
        kinds, openings = len(opens), len(self.openings)
        opening = np.where(opens.take(kind), self.opening.take(flow), 0)
        numbers, row = distinct((self.route.take(flow) * kinds + kind) * openings + opening)
        return np.column_stack([*np.divmod(numbers // openings, kinds), numbers % openings]), row
