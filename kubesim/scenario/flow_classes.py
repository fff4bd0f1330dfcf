"""Flow classes: every way that packets go is walked once, however many packets go there.

What a packet pays depends on where its connection was sent (the *opening*: everything up to the choice of an endpoint,
different for each Service and endpoint) and then only on the nodes of the two pods (the *route*), since a CNI plugin
wires all pods of a node alike. Openings and routes are walked apart and put together, so that ten thousand Services
cost ten thousand short walks at most, and established packets none.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from kubesim.kernel import socket
from kubesim.kernel.packet import Packet
from kubesim.kernel.walk import Chance, Path
from kubesim.scenario.visits import PricedHop, priced
from kubesim.workload import NODE_LOCAL_DNS, MessageKind, Messages, Part, Through

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from kubesim.cluster import Pod, Service, ServicePort
    from kubesim.cost import CostSet
    from kubesim.scenario.deployment import Deployment


@dataclass(frozen=True, slots=True)
class Place:
    """Where a pod is, as far as packets can tell."""

    node: str
    is_host_network: bool


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
    """

    client: Place
    server: Place
    is_same_pod: bool
    is_virtual: bool
    is_tunnel_known: bool
    kinds: tuple[int, ...]


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
    """

    hops: tuple[PricedHop, ...]
    reason: str | None
    queue_hash: int | None = None


Route = dict[int, KindPath]
"""How each kind of message goes along a route, by its number; kinds behind one that gets nowhere are left out."""


@dataclass(frozen=True, slots=True)
class Opening:
    """The way of a connection's first packet up to the choice of an endpoint."""

    hops: tuple[PricedHop, ...]
    mean_ns: int
    deviation_ns: float

    @classmethod
    def of(cls, hops: tuple[PricedHop, ...]) -> Opening:
        """Add up its hops."""
        return cls(hops, sum(hop.cost_ns for hop in hops), sum(hop.deviation_ns for hop in hops))


@dataclass
class FlowClasses:
    """Which route, opening and server each flow has.

    Parameters
    ----------
    routes, openings, servers
        All that are in use; servers by name.
    route, opening, server : array of int64, shape (f,)
        Of each flow, as positions in these lists; a flow that nobody serves has the server −1.
    """

    routes: list[Route]
    openings: list[Opening]
    servers: list[str]
    route: npt.NDArray[np.int64]
    opening: npt.NDArray[np.int64]
    server: npt.NDArray[np.int64]


def classify(
    deployment: Deployment,
    costs: CostSet,
    messages: Messages,
    numbers: npt.NDArray[np.float64],
    is_tunnel_known: npt.NDArray[np.bool_],
) -> FlowClasses:
    """Find each flow's endpoint, and walk what has not been walked yet.

    Parameters
    ----------
    deployment
        The cluster's kernel state.
    costs
        Prices.
    messages
        The workload.
    numbers : array of float, shape (f,)
        A random number in [0, 1) for each flow: its luck in the choice of an endpoint.
    is_tunnel_known : array of bool, shape (f,)
        Whether conntrack knows the source port that a tunnel gives to the flow from another connection.
    """
    return _Classifier(deployment, costs, messages).run(numbers, is_tunnel_known)


@dataclass(frozen=True, slots=True)
class _Server:
    """Who serves a flow, and which opening led there."""

    address: str
    port: int
    opening: int
    is_scheduled: bool = False


@dataclass(slots=True)
class _Choices:
    """What is known of where flows from one place to one Service go.

    The intervals of flows' numbers that were seen to lead to one server are kept in order; a scheduler decides anew
    for each flow.
    """

    starts: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    servers: list[_Server] = field(default_factory=list)
    schedule: Callable[[str, int], tuple[str, int]] | None = None
    scheduled_opening: int = 0

    def find(self, number: float, source: str, source_port: int) -> _Server | None:
        """The server of a flow, None if that has to be walked."""
        if self.schedule is not None:
            return _Server(*self.schedule(source, source_port), self.scheduled_opening, is_scheduled=True)
        place = bisect_right(self.starts, number) - 1
        return self.servers[place] if place >= 0 and number < self.ends[place] else None

    def learn(self, interval: tuple[float, float], server: _Server) -> None:
        """Remember where numbers of an interval lead."""
        place = bisect_right(self.starts, interval[0])
        self.starts.insert(place, interval[0])
        self.ends.insert(place, interval[1])
        self.servers.insert(place, server)


@dataclass(frozen=True, slots=True)
class _Flow:
    """One connection."""

    client: Pod
    service_index: int
    service: Service
    port: ServicePort
    through: Through
    source_port: int
    number: float
    is_tunnel_known: bool


class _Classifier:
    """Remembers what has been walked."""

    def __init__(self, deployment: Deployment, costs: CostSet, messages: Messages) -> None:
        self._deployment = deployment
        self._costs = costs
        self._messages = messages
        self._choices: dict[tuple[Place | str, int], _Choices] = {}
        self._sticky_services: set[int] = set()
        self._openings: dict[tuple[PricedHop, ...], int] = {(): 0}
        self._routes: dict[object, int] = {}
        self._route_list: list[Route] = []
        self._servers: dict[str, int] = {}
        self._kinds_by_service = messages.kinds_by_service()

    def run(self, numbers: npt.NDArray[np.float64], is_tunnel_known: npt.NDArray[np.bool_]) -> FlowClasses:
        """Classify all flows, in order."""
        flows = self._messages.flows
        table = np.zeros((len(flows), 3), np.int64)
        columns = (flows.client, flows.service, flows.source_port, numbers, is_tunnel_known)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        for row, (client, service, *rest) in enumerate(rows):
            destination = self._messages.services[service]
            table[row] = self._classify(_Flow(self._messages.clients[client], service, *destination, *rest))
        openings = [Opening.of(hops) for hops in self._openings]
        return FlowClasses(self._route_list, openings, list(self._servers), table[:, 0], table[:, 1], table[:, 2])

    def _classify(self, flow: _Flow) -> tuple[int, int, int]:
        """Route, opening and server of one flow."""
        if flow.through is Through.NODE_LOCAL_DNS:
            node = self._deployment.cluster.node(flow.client.node)
            server: _Server | Path = _Server(node.address, flow.port.port, opening=0)
        elif not self._is_virtual(flow):
            server = self._resolve_by_name(flow)
        else:
            place: Place | str = _place(flow.client)
            if flow.service_index in self._sticky_services:
                place = flow.client.full_name
            choices = self._choices.setdefault((place, flow.service_index), _Choices())
            found = choices.find(flow.number, flow.client.address, flow.source_port)
            server = found or self._open(flow, choices)
        if isinstance(server, Path):
            return self._dead_end(flow, server), 0, -1
        name = self._deployment.server_name(server.address, server.port)
        number = self._servers.setdefault(name, len(self._servers))
        return self._route(flow, server), server.opening, number

    def _is_virtual(self, flow: _Flow) -> bool:
        """Whether a flow goes to a virtual address; else its client has an endpoint's address from DNS."""
        if flow.through in (Through.ENDPOINTS, Through.NODE_LOCAL_DNS) or self._deployment.proxy.is_headless:
            return False
        return flow.service.cluster_ip is not None

    def _resolve_by_name(self, flow: _Flow) -> _Server | Path:
        """Choose an endpoint as a client does who got all addresses from DNS."""
        listed = self._deployment.cluster.endpoints(flow.service, flow.port)
        ready = [one for one in listed if one.is_ready and ":" not in one.address]
        if not ready:
            reason = f"name resolution of {flow.service.full_name} gives no address: it has no ready endpoints"
            return Path((), (), {}, None, reason, self._packet(flow, self._kinds(flow)[0][1], "", 0), None)
        endpoint = ready[min(len(ready) - 1, int(flow.number * len(ready)))]
        return _Server(endpoint.address, endpoint.port, opening=0)

    def _kinds(self, flow: _Flow) -> list[tuple[int, MessageKind]]:
        """The kinds of message of a flow, by number."""
        return [(kind, self._messages.kinds[kind]) for kind in self._kinds_by_service[flow.service_index]]

    def _open(self, flow: _Flow, choices: _Choices) -> _Server | Path:
        """Walk a first packet up to the choice of a server; the path where it ends without one."""
        kind = next(kind for _, kind in self._kinds(flow) if kind.is_opening)
        packet = self._packet(flow, kind, str(flow.service.cluster_ip), flow.port.port)
        path = self._send(flow.client, packet, kind, Chance(flow.number), stop_at_decision=True)
        decision = path.decision
        if decision is None:
            return path
        hops = priced(path.hops[: decision.hops_before], self._costs)
        opening = self._openings.setdefault(hops, len(self._openings))
        server = _Server(decision.destination, decision.port, opening, is_scheduled=decision.schedule is not None)
        if decision.schedule is not None:
            choices.schedule, choices.scheduled_opening = decision.schedule, opening
        elif decision.is_sticky and flow.service_index not in self._sticky_services:
            self._sticky_services.add(flow.service_index)
        elif not decision.is_sticky or decision.interval == (0.0, 1.0):
            choices.learn(decision.interval or (0.0, 1.0), server)
        return server

    def _route(self, flow: _Flow, server: _Server) -> int:
        """The route between a flow's ends, walked if it is new."""
        deployment = self._deployment
        pod = deployment.cluster.pod_at(server.address)
        node = deployment.node_at(server.address)
        kinds = self._kinds_by_service[flow.service_index]
        key: object = (server.address, flow.is_tunnel_known, kinds)
        if pod is not None or node is not None:
            place = _place(pod) if pod is not None else Place(str(node), is_host_network=True)
            is_same, is_virtual = pod == flow.client, self._is_virtual(flow)
            key = RouteKey(_place(flow.client), place, is_same, is_virtual, flow.is_tunnel_known, kinds)
        if key not in self._routes:
            self._routes[key] = len(self._route_list)
            self._deployment.forget_connections()
            route = self._walk(flow, server)
            if flow.is_tunnel_known:
                self._deployment.forget_connections(keeps_tunnels=True)
                route = self._walk(flow, server)
            self._deployment.forget_connections()
            self._route_list.append(route)
        return self._routes[key]

    def _walk(self, flow: _Flow, server: _Server) -> Route:
        """Send one message of each kind along a route, as a new connection would."""
        luck = Chance(flow.number, (server.address, server.port) if server.is_scheduled else None)
        virtual = (server.address, server.port)
        if self._is_virtual(flow):
            virtual = (str(flow.service.cluster_ip), flow.port.port)
        elif flow.through is Through.NODE_LOCAL_DNS:
            virtual = (NODE_LOCAL_DNS, flow.port.port)
        opening: Path | None = None
        path: Path | None = None
        route: Route = {}
        for number, kind in self._kinds(flow):
            if kind.part is not Part.ARRIVAL or path is None:
                if kind.is_request:
                    packet = self._packet(flow, kind, *virtual)
                    path = self._send(flow.client, packet, kind, Chance(luck.number, luck.server))
                else:
                    assert opening is not None  # noqa: S101 - a reply follows what it answers
                    path = self._reply(flow, server, kind, opening)
            before = path.decision.hops_before if kind.is_opening and path.decision is not None else 0
            route[number] = KindPath(priced(path.hops, self._costs)[before:], path.reason, path.queue_hash)
            if path.reason is not None:
                break
            opening = opening or path
        return route

    def _dead_end(self, flow: _Flow, path: Path) -> int:
        """The route of flows that are refused before a server is chosen."""
        key = (_place(flow.client), flow.service_index)
        if key not in self._routes:
            self._routes[key] = len(self._route_list)
            first = self._kinds(flow)[0][0]
            self._route_list.append({first: KindPath(priced(path.hops, self._costs), path.reason)})
        return self._routes[key]

    def _packet(self, flow: _Flow, kind: MessageKind, destination: str, port: int) -> Packet:
        """What the client sends."""
        return self._of_kind(kind, flow, (flow.client.address, flow.source_port), (destination, port))

    def _reply(self, flow: _Flow, server: _Server, kind: MessageKind, opening: Path) -> Path:
        """Send what the server answers, to whom the client seemed to be."""
        seen = opening.packet.flow
        ends = (seen.destination, seen.destination_port), (seen.source, seen.source_port)
        packet = self._of_kind(kind, flow, *ends)
        namespace = self._deployment.namespace_at(server.address)
        return socket.send(
            namespace,
            packet,
            materialise=self._deployment.materialise,
            send_call=kind.send_call,
            receive_call=kind.receive_call,
            work=kind.work,
        )

    def _of_kind(self, kind: MessageKind, flow: _Flow, source: tuple[str, int], destination: tuple[str, int]) -> Packet:
        segment_bytes = self._deployment.segment_bytes if flow.port.protocol == "tcp" else 0
        return Packet(
            source[0],
            destination[0],
            flow.port.protocol,
            source[1],
            destination[1],
            kind.payload_bytes,
            segment_bytes,
            is_opening=kind.is_opening,
        )

    def _send(
        self, client: Pod, packet: Packet, kind: MessageKind, chance: Chance, *, stop_at_decision: bool = False
    ) -> Path:
        return socket.send(
            self._deployment.namespace(client),
            packet,
            chance=chance,
            materialise=self._deployment.materialise,
            send_call=kind.send_call,
            receive_call=kind.receive_call,
            stop_at_decision=stop_at_decision,
            work=kind.work,
        )


def _place(pod: Pod) -> Place:
    return Place(pod.node, pod.is_host_network)
