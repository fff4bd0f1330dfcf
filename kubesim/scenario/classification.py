"""Classification of flows: every way that packets go is walked once, however many packets go there.

What a packet pays depends on where its connection was sent (the *opening*: everything up to the choice of an endpoint,
different for each Service and endpoint) and then only on the nodes of the two pods (the *route*), since a CNI plugin
wires all pods of a node alike, and a proxy's rules treat them alike. Openings and routes are walked apart and put
together, so that ten thousand Services cost ten thousand short walks at most, and established packets none.

Rules of other people may look at anything, and send a packet elsewhere after a server was chosen. Where a proxy says so
(``tells_pods_apart``), each pair of pods and destination has a route of its own, which is walked as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from kubesim.kernel import socket
from kubesim.kernel.loopback import LOCALHOST
from kubesim.kernel.netfilter import recent
from kubesim.kernel.packet import Packet
from kubesim.kernel.walk import Chance, Path
from kubesim.scenario.choices import Choices
from kubesim.scenario.flow_classes import FlowClasses, KindPath, Opening, Place, Route, RouteKey, Socket, SourceNat
from kubesim.scenario.visits import PricedHop, priced
from kubesim.workload import Destination, MessageKind, Messages, Part, Sequences, Through

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from kubesim.cluster import Endpoint, Pod
    from kubesim.cost import CostSet
    from kubesim.scenario.deployment import Deployment

_AT_ONCE = 65_536
"""Flows that are Python's numbers at a time: those take four times the memory."""

_REMEMBERED = 65_536
"""So many pairs of a client and a Service, of which there may be many connections each."""

_Class = tuple[int, int, int, int]
"""Route, opening, server and endpoint of a flow, as positions."""


def classify(
    deployment: Deployment,
    costs: CostSet,
    messages: Messages | Sequences,
    numbers: npt.NDArray[np.float64],
    is_tunnel_known: npt.NDArray[np.bool_],
    is_cached: npt.NDArray[np.bool_],
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
    is_cached : array of bool, shape (f,)
        Whether Open vSwitch has the megaflows that the flow needs from another connection.
    """
    return _Classifier(deployment, costs, messages).run(numbers, is_tunnel_known, is_cached)


@dataclass(frozen=True, slots=True)
class _Server:
    """Who serves a flow, and which opening led there; ``called`` is another endpoint, which the client has called."""

    address: str
    port: int
    opening: int
    schedule: Callable[[str, int], tuple[str, int]] | None = None
    entry: tuple[int, tuple[str, ...]] | None = None
    called: Socket | None = None

    def for_flow(self, source: str, source_port: int) -> _Server:
        """The server of one more flow: the same, or whom the scheduler gives it to."""
        if self.schedule is None:
            return self
        address, port = self.schedule(source, source_port)
        return replace(self, address=address, port=port)


@dataclass(frozen=True, slots=True)
class _Flow:
    """One connection."""

    client: Pod
    service_index: int
    destination: Destination
    source_port: int
    number: float
    is_tunnel_known: bool
    is_cached: bool


class _Classifier:
    """Remembers what has been walked."""

    def __init__(self, deployment: Deployment, costs: CostSet, messages: Messages | Sequences) -> None:
        self._deployment = deployment
        self._costs = costs
        self._messages = messages
        self._choices: dict[tuple[Place | str, int, bool], Choices[_Server | Path]] = {}
        self._sticky_services: set[int] = set()
        self._ready: dict[int, list[Endpoint]] = {}
        self._forgets_clients = len(messages.clients) > recent.PLACES
        self._openings: dict[tuple[PricedHop, ...], int] = {(): 0}
        self._routes: dict[object, int] = {}
        self._settled: dict[tuple[int, ...], Choices[_Class]] = {}
        self._route_list: list[Route] = []
        self._source_nats: list[tuple[SourceNat, ...]] = []
        self._servers: dict[str, int] = {}
        self._endpoints: dict[Socket, int] = {}
        self._kinds_by_service = messages.kinds_by_service()
        self._repeated = frozenset[int]() if deployment.upcall_ratio is None else messages.repeated_kinds()
        self._tells_pods_apart = deployment.proxy.tells_pods_apart
        self._redirections: dict[tuple[Place, int, _Server], _Server] = {}
        self._place = _place_of_pod if self._tells_pods_apart else _place

    def run(
        self,
        numbers: npt.NDArray[np.float64],
        is_tunnel_known: npt.NDArray[np.bool_],
        is_cached: npt.NDArray[np.bool_],
    ) -> FlowClasses:
        """Classify all flows, in order."""
        flows = self._messages.flows
        table = np.zeros((len(flows), 4), np.int64)
        columns = (flows.client, flows.service, flows.source_port, numbers, is_tunnel_known, is_cached)
        for begin in range(0, len(flows), _AT_ONCE):
            part = slice(begin, begin + _AT_ONCE)
            rows = zip(*(column[part].tolist() for column in columns), strict=True)
            classes: list[_Class] = []
            for client, service, port, number, *known in rows:
                # Of most connections it is known, by their client and what it calls, where their luck leads.
                settled = self._settled.get((client, service, *known))
                place = None if settled is None else settled.find(number)
                if settled is not None and place is not None:
                    classes.append(settled.ways[place])
                    continue
                destination = self._messages.services[service]
                flow = _Flow(self._messages.clients[client], service, destination, port, number, *known)
                one, interval = self._classify(flow)
                classes.append(one)
                if interval is not None and (settled is not None or len(self._settled) < _REMEMBERED):
                    self._settled.setdefault((client, service, *known), Choices()).learn(interval, one)
            table[part] = classes
        openings = [Opening.of(hops) for hops in self._openings]
        served = list(self._servers), list(self._endpoints)
        columns_of_flows = table.T.copy()  # what is taken from rows that are not contiguous takes a copy each time
        return FlowClasses(self._route_list, openings, *served, self._source_nats, *columns_of_flows)

    def _classify(self, flow: _Flow) -> tuple[_Class, tuple[float, float] | None]:
        """Route, opening, server and endpoint of one flow, and of which numbers that will be the same."""
        through = flow.destination.through
        interval = None
        if through in (Through.NODE_LOCAL_DNS, Through.LOCALHOST):
            server: _Server | Path = self._nearby(flow)
        elif not self._is_virtual(flow):
            server = self._resolve_by_name(flow)
            if self._tells_pods_apart and isinstance(server, _Server):
                server = self._redirected(flow, server)
        else:
            place: Place | str = self._place(flow.client)
            if flow.service_index in self._sticky_services:
                place = flow.client.full_name
            choices = self._choices.setdefault((place, flow.service_index, flow.is_cached), Choices())
            known = choices.find(flow.number)
            server = self._open(flow, choices) if known is None else choices.ways[known]
            if isinstance(server, _Server) and known is not None:
                interval = (choices.starts[known], choices.ends[known]) if server.schedule is None else None
                server = server.for_flow(flow.client.address, flow.source_port)
        if isinstance(server, Path):
            return (self._dead_end(flow, server), 0, -1, -1), None
        name = self._deployment.server_name(server.address, server.port)
        number = self._servers.setdefault(name, len(self._servers))
        endpoint = self._endpoints.setdefault(Socket(server.address, server.port), len(self._endpoints))
        return (self._route(flow, server), server.opening, number, endpoint), interval

    def _is_virtual(self, flow: _Flow) -> bool:
        """Whether a flow goes to a virtual address; else its client has an endpoint's address from DNS."""
        if self._deployment.proxy.is_headless and flow.destination.through is Through.CLUSTER_IP:
            return False
        return flow.destination.called is not None

    def _nearby(self, flow: _Flow) -> _Server | Path:
        """Who serves on the client's own node, or in the client's own pod."""
        service, port, through, _ = flow.destination
        if through is Through.NODE_LOCAL_DNS:
            return _Server(self._deployment.cluster.node(flow.client.node).address, port.port, opening=0)
        own = (one for one in self._deployment.cluster.endpoints(service, port) if one.address == flow.client.address)
        endpoint = next(own, None)
        if endpoint is None:
            reason = f"connection refused by {flow.client.full_name}: it is no endpoint of {service.full_name}"
            return Path((), (), {}, None, reason, self._packet(flow, self._kinds(flow)[0][1], LOCALHOST, 0), None)
        return _Server(endpoint.address, endpoint.port, opening=0)

    def _resolve_by_name(self, flow: _Flow) -> _Server | Path:
        """Choose an endpoint as a client does who got all addresses from DNS."""
        service, port, *_ = flow.destination
        ready = self._ready.get(flow.service_index)
        if ready is None:
            listed = self._deployment.cluster.endpoints(service, port)
            # Sorted as kube-proxy sorts them: the same number leads to the same endpoint.
            ready = sorted((one for one in listed if one.is_ready and ":" not in one.address), key=str)
            self._ready[flow.service_index] = ready
        if not ready:
            reason = f"name resolution of {service.full_name} gives no address: it has no ready endpoints"
            return Path((), (), {}, None, reason, self._packet(flow, self._kinds(flow)[0][1], "", 0), None)
        endpoint = ready[min(len(ready) - 1, int(flow.number * len(ready)))]
        return _Server(endpoint.address, endpoint.port, opening=0)

    def _redirected(self, flow: _Flow, called: _Server) -> _Server:
        """Who serves a flow that calls an endpoint by its own address: another one, where rules send it there."""
        key = self._place(flow.client), flow.service_index, called
        if key not in self._redirections:
            endpoint = Socket(called.address, called.port)
            decision = self._walk_opening(flow, endpoint).decision
            self._deployment.forget_connections()
            address, port = endpoint if decision is None else (decision.destination, decision.port)
            entry = flow.service_index, (called.address,)
            self._redirections[key] = replace(called, address=address, port=port, called=endpoint, entry=entry)
        return self._redirections[key]

    def _kinds(self, flow: _Flow) -> list[tuple[int, MessageKind]]:
        """The kinds of message of a flow, by number."""
        return [(kind, self._messages.kinds[kind]) for kind in self._kinds_by_service[flow.service_index]]

    def _open(self, flow: _Flow, choices: Choices[_Server | Path]) -> _Server | Path:
        """Walk a first packet up to the choice of a server; the path where it ends without one.

        What a client's own machine does up to that choice is the opening, the same whichever server is chosen. Where
        the choice is made elsewhere, or another one may follow, all is of the route.
        """
        is_here = flow.destination.through is Through.CLUSTER_IP and not self._tells_pods_apart
        path = self._walk_opening(flow, self._called(flow), stop_at_decision=is_here)
        if flow.is_cached:
            self._deployment.forget_connections(keeps_megaflows=True)
            first = path.decision
            is_scheduled = first is not None and first.schedule is not None
            chosen = (first.destination, first.port) if first and is_scheduled else None
            path = self._walk_opening(flow, self._called(flow), chosen, stop_at_decision=is_here)
        decision = path.decision
        if not is_here or self._deployment.upcall_ratio is not None:
            self._deployment.forget_connections()
        if decision is None:
            ended = _without_server(path, self._called(flow))
            choices.learn(path.interval, ended)
            return ended
        hops = priced(path.hops[: decision.hops_before], self._costs) if is_here else ()
        opening = self._openings.setdefault(hops, len(self._openings))
        entry = None if is_here else (flow.service_index, path.ways)
        server = _Server(decision.destination, decision.port, opening, decision.schedule, entry)
        if decision.is_sticky and decision.schedule is None and flow.service_index not in self._sticky_services:
            self._sticky_services.add(flow.service_index)
        elif (
            not decision.is_sticky
            or decision.schedule is not None
            or (decision.interval == (0.0, 1.0) and not self._forgets_clients)
        ):
            choices.learn(decision.interval, server)
        return server

    def _called(self, flow: _Flow) -> tuple[str, int]:
        """The virtual address and port of a flow that has one."""
        called = flow.destination.called
        assert called is not None  # noqa: S101 - asked only where there is one
        return called

    def _walk_opening(
        self,
        flow: _Flow,
        called: tuple[str, int],
        server: tuple[str, int] | None = None,
        *,
        stop_at_decision: bool = False,
    ) -> Path:
        """Send a first packet; a scheduler may have chosen its server already."""
        kind = next(kind for _, kind in self._kinds(flow) if kind.is_opening)
        packet = self._packet(flow, kind, *called)
        chance = Chance(flow.number, server)
        return self._send(flow.client, packet, kind, chance, stop_at_decision=stop_at_decision)

    def _route(self, flow: _Flow, server: _Server) -> int:
        """The route between a flow's ends, walked if it is new."""
        deployment = self._deployment
        pod = deployment.cluster.pod_at(server.address)
        machine = deployment.machine_at(server.address)
        known = flow.is_tunnel_known, flow.is_cached
        kinds = self._kinds_by_service[flow.service_index]
        client = self._place(flow.client)
        key: object = (client, server.address, known, kinds, server.entry)
        if pod is not None or machine is not None:
            place = self._place(pod) if pod is not None else Place(str(machine), is_host_network=True)
            way = self._is_virtual(flow), flow.is_tunnel_known, kinds, server.entry, flow.is_cached
            key = RouteKey(client, place, pod == flow.client, *way)
        if key not in self._routes:
            self._routes[key] = len(self._route_list)
            self._deployment.forget_connections()
            route = self._walk(flow, server)
            if any(known):
                self._deployment.forget_connections(keeps_tunnels=known[0], keeps_megaflows=known[1])
                route = self._walk(flow, server)
            self._source_nats.append(self._translations(server))
            self._deployment.forget_connections()
            self._route_list.append(route)
        return self._routes[key]

    def _translations(self, server: _Server) -> tuple[SourceNat, ...]:
        """Where the connection that was walked has got another source."""
        endpoint, found = Socket(server.address, server.port), []
        for host, reply in self._deployment.source_translations().items():
            destination = Socket(reply.source, reply.source_port)
            other = None if destination == endpoint else destination
            found.append(SourceNat(host, reply.destination, other, reply.protocol))
        return tuple(found)

    def _walk(self, flow: _Flow, server: _Server) -> Route:
        """Send one message of each kind along a route, as a new connection would."""
        luck = Chance(flow.number, (server.address, server.port) if server.schedule is not None else None)
        virtual = self._called(flow) if self._is_virtual(flow) else server.called or (server.address, server.port)
        if flow.destination.through is Through.LOCALHOST:
            virtual = LOCALHOST, server.port
        opening: Path | None = None
        path: Path | None = None
        route: Route = {}
        for number, kind in self._kinds(flow):
            if kind.part is not Part.ARRIVAL or path is None:
                # What a flow sends again and again is in Open vSwitch's cache after the first time.
                for _ in range(2 if number in self._repeated else 1):
                    if kind.is_request:
                        packet = self._packet(flow, kind, *virtual)
                        path = self._send(flow.client, packet, kind, Chance(luck.number, luck.server))
                    else:
                        assert opening is not None  # noqa: S101 - a reply follows what it answers
                        path = self._reply(flow, server, kind, opening)
                assert path is not None  # noqa: S101 - sent at least once
            is_split = kind.is_opening and path.decision is not None and server.entry is None
            before = path.decision.hops_before if is_split and path.decision is not None else 0
            hops = priced(path.hops, self._costs)[before:]
            route[number] = KindPath(hops, path.reason, path.queue_hash, path.steering_hash)
            if path.reason is not None:
                break
            opening = opening or path
        return route

    def _dead_end(self, flow: _Flow, path: Path) -> int:
        """The route of flows that are refused before a server is chosen."""
        key = (self._place(flow.client), flow.service_index, path.ways)
        if key not in self._routes:
            self._routes[key] = len(self._route_list)
            first = self._kinds(flow)[0][0]
            self._source_nats.append(())
            self._route_list.append({first: KindPath(priced(path.hops, self._costs), path.reason)})
        return self._routes[key]

    def _packet(self, flow: _Flow, kind: MessageKind, destination: str, port: int) -> Packet:
        """What the client sends."""
        source = LOCALHOST if destination == LOCALHOST else flow.client.address
        return self._of_kind(kind, flow, (source, flow.source_port), (destination, port))

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
        protocol = flow.destination.port.protocol
        segment_bytes = self._deployment.segment_bytes if protocol == "tcp" else 0
        return Packet(
            source[0],
            destination[0],
            protocol,
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


def _without_server(path: Path, called: tuple[str, int]) -> Path:
    """A path that chose no server; where it ended at a machine, nothing there listens on what was called."""
    if path.reason is not None:
        return path
    address, port = called
    return replace(path, reason=f"connection refused by {path.delivered_to}: nothing listens on {address}:{port}")


def _place(pod: Pod) -> Place:
    return Place(pod.node, pod.is_host_network)


def _place_of_pod(pod: Pod) -> Place:
    return Place(pod.node, pod.is_host_network, pod.address)
