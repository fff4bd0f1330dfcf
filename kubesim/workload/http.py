"""HTTP requests by host and path, to an ingress controller that passes them on to pods, or straight to a Service."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from kubesim.cluster import best_rule, route_named
from kubesim.errors import InputError, did_you_mean
from kubesim.units import NS_PER_US
from kubesim.workload import _http
from kubesim.workload._controller import (
    NAME,
    NAMESPACE,
    controller_objects,
    controller_pods,
    controller_port,
)
from kubesim.workload._http import HttpConnection
from kubesim.workload._messages import (
    INITIAL_RTO_NS,
    MINIMUM_RTO_NS,
    NONE,
    Destination,
    Flows,
    Messages,
    Script,
    Through,
)
from kubesim.workload._traffic import (
    RequestResponse,
    ServiceChoice,
    Targets,
    WorkloadContext,
    destinations,
    draw_choices,
    refuse_too_many,
    source_ports,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from kubesim.cluster import Cluster, HttpBackend, HttpRoute, HttpRule, Pod, Service, ServicePort

_MOST_STEPS = 22
"""Messages of a request whose both connections are opened, with TLS, and closed."""


class Plugin(RequestResponse):
    """Clients in a closed loop. A transaction is a request with its reply, and with the handshakes it needs.

    A request is for a rule of an Ingress or HTTPRoute: ``to`` names these, or says ``HOST/PATH``, or how one of all
    rules is chosen. Two connections carry it: the client's to the controller, and the controller's own to a pod. A
    client's connection belongs to one worker of one of the controller's pods, in turn, whichever the proxy chose.
    """

    protocol: ClassVar[str] = "tcp"
    workload: Literal["http"] = "http"
    to: Targets = Field(
        default=ServiceChoice(choice="uniform"),
        description="an Ingress or HTTPRoute by NAME or NAMESPACE/NAME, with all its rules, or HOST/PATH; several of "
        "these; or how one of all rules is chosen",
    )
    requests: int = Field(default=100, ge=1, le=10_000_000, description="requests of each connection slot")
    request_bytes: int = Field(default=300, ge=1, le=65_000, description="a request, with its headers")
    response_bytes: int = Field(default=1000, ge=1, le=65_000, description="a reply, with its headers")
    via: Literal["ingress", "direct"] = Field(
        default="ingress", description="to a controller, or straight to the Service that the rule names"
    )
    keep_alive: bool = Field(default=True, description="whether a client's connection carries many requests")
    tls: bool | None = Field(default=None, description="whether clients use TLS 1.3; as the rule says if not given")
    controller: str | None = Field(
        default=None, description="Service of the controller, as NAME or NAME:PORT; one is made if not given"
    )
    controllers: int = Field(default=1, ge=1, le=5000, description="pods of the controller that is made")
    controllers_on: list[str] | None = Field(
        default=None, min_length=1, description="nodes that they are put on, in turn"
    )
    network: Literal["pod", "host"] = Field(
        default="pod", description="whether they have addresses of their own, or listen on their node's"
    )
    workers: int = Field(default=4, ge=1, le=1024, description="worker processes of each of the controller's pods")
    upstream: Literal["endpoints", "cluster-ip"] = Field(
        default="endpoints", description="how the controller reaches pods: by their addresses, or through the Service"
    )
    upstream_connections: int = Field(
        default=320,
        ge=0,
        le=1_000_000,
        description="connections to each Service that a worker keeps for later requests",
    )

    def objects(self) -> tuple[dict[str, Any], ...]:
        """The controller, unless one is named, and what all workloads need; it is there too if nobody asks it."""
        if self.controller is not None:
            return super().objects()
        made = controller_objects(self.controllers, self.controllers_on, is_host_network=self.network == "host")
        return (*super().objects(), *made)

    def messages(self, context: WorkloadContext) -> Messages:
        """Make the messages, connection slot by connection slot."""
        slots = len(context.clients) * self.connections
        refuse_too_many(slots * self.requests * (2 if self.via == "direct" else 4 if self.keep_alive else _MOST_STEPS))
        rules = _rules(self, context.cluster)
        turns = np.arange(slots * self.requests) % len(rules)
        chosen = turns if isinstance(self.to, list) else draw_choices(self.to, context, len(rules), len(turns))
        luck = context.streams.generator("backend of each request").random((slots, self.requests))
        made = _Script(self, context, _Places(self, context, rules))
        for slot in range(slots):
            own = chosen[slot * self.requests : (slot + 1) * self.requests]
            made.add_slot(slot, [rules[number] for number in own], luck[slot].tolist())
        return made.messages()


def _rules(traffic: Plugin, cluster: Cluster) -> list[HttpRule]:
    """The rules that requests are for.

    Raises
    ------
    InputError
        If there are none, or one has nobody to answer.
    """
    routes = cluster.http_routes
    if isinstance(traffic.to, list):
        found = [rule for name in traffic.to for rule in _rules_named(name, routes)]
    else:
        found = [rule for route in routes for rule in route.rules]
        position = {"first": 0, "middle": len(found) // 2, "last": len(found) - 1}.get(traffic.to.choice)
        found = found if position is None or not found else [found[position]]
    if not found:
        raise InputError("there is no Ingress or HTTPRoute with a rule: this scenario has no traffic")
    for rule in found:
        if not any(backend.weight for backend in rule.backends):
            raise InputError(f"traffic.to: nobody answers requests for {rule.url}: the rule has no backends")
    return found


def _rules_named(name: str, routes: tuple[HttpRoute, ...]) -> list[HttpRule]:
    """All rules of a route, or the one that a ``HOST/PATH`` meets."""
    route = route_named(routes, name)
    if route is not None:
        return list(route.rules)
    bare = name.partition("://")[2] or name
    host, slash, path = bare.partition("/")
    if not slash:
        known = [one.name for one in routes]
        raise InputError(f"traffic.to: there is no Ingress or HTTPRoute {name!r}: {did_you_mean(name, known)}")
    rule = best_rule(routes, host, f"/{path}")
    if rule is None:
        raise InputError(f"traffic.to: no Ingress or HTTPRoute has a rule for {bare}: the controller would answer 404")
    return [rule]


class _Places:
    """Who sends and what is called, numbered as they are met."""

    def __init__(self, traffic: Plugin, context: WorkloadContext, rules: list[HttpRule]) -> None:
        self._traffic = traffic
        self._cluster = context.cluster
        self.clients: list[Pod] = list(context.clients)
        self.destinations: list[Destination] = []
        self._numbers: dict[tuple[str, Through, str], int] = {}
        self.replicas: list[int] = []
        if traffic.via == "ingress":
            service, _, wanted = (traffic.controller or f"{NAMESPACE}/{NAME}").partition(":")
            self._service, self._wanted = self._cluster.service(service), wanted
            port = controller_port(self._service, wanted, is_tls=self.has_tls(rules[0]))
            pods = controller_pods(self._cluster, self._service, port)
            _check_host_ports([pod for pod in self._cluster.pods if pod.labels and pod.labels == pods[0].labels])
            self.replicas = list(range(len(self.clients), len(self.clients) + len(pods)))
            self.clients += pods
            self._is_on_hosts = all(pod.is_host_network for pod in pods)

    def has_tls(self, rule: HttpRule) -> bool:
        """Whether clients ask for a rule with TLS."""
        return rule.is_tls if self._traffic.tls is None else self._traffic.tls

    def controller(self, slot: int, *, is_tls: bool) -> int:
        """The controller, as clients call it: on the host network by its node's address, unless they are told how."""
        port = controller_port(self._service, self._wanted, is_tls=is_tls)
        if self._is_on_hosts and self._traffic.through is None:
            return self._number(Destination(self._service, port, Through.ENDPOINTS))
        return self._called(slot, self._service, port)

    def _called(self, slot: int, service: Service, port: ServicePort) -> int:
        """A Service as clients call it; of ports of several nodes, connection slots take turns."""
        ways = destinations(self._traffic, self._cluster, service, port)
        return self._number(ways[slot % len(ways)])

    def backend(self, slot: int, rule: HttpRule, luck: float) -> int:
        """The Service that a request goes to, by weight, as the controller or a client calls it."""
        total = sum(backend.weight for backend in rule.backends)
        for backend in rule.backends:
            if luck * total < backend.weight:
                break
            luck -= backend.weight / total
        service, port = self._service_port(backend, rule)
        if self._traffic.via == "direct":
            return self._called(slot, service, port)
        through = Through.ENDPOINTS if self._traffic.upstream == "endpoints" else Through.CLUSTER_IP
        return self._number(Destination(service, port, through))

    def _service_port(self, backend: HttpBackend, rule: HttpRule) -> tuple[Service, ServicePort]:
        """The port of a Service that a rule names."""
        try:
            service = self._cluster.service(f"{backend.namespace}/{backend.name}")
        except InputError as error:
            raise InputError(f"traffic.to: the rule for {rule.url}: {error}") from None
        wanted = backend.port
        ports = [port for port in service.ports if port.protocol == "tcp" and wanted in (None, port.port, port.name)]
        if not ports:
            raise InputError(f"traffic.to: the rule for {rule.url}: Service {service.full_name} has no port {wanted}")
        return service, ports[0]

    def _number(self, destination: Destination) -> int:
        node = "" if destination.node is None else destination.node.name
        key = (destination.service.port_name(destination.port), destination.through, node)
        if key not in self._numbers:
            self._numbers[key] = len(self.destinations)
            self.destinations.append(destination)
        return self._numbers[key]


@dataclass
class _Columns:
    """The messages so far, and the connections."""

    kind: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    think_ns: list[int] = field(default_factory=list)
    timeout_ns: list[int] = field(default_factory=list)
    flow: list[int] = field(default_factory=list)
    thread: list[int] = field(default_factory=list)
    server_thread: list[int] = field(default_factory=list)
    flow_client: list[int] = field(default_factory=list)
    flow_service: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Connection:
    """A connection that is open, or about to be.

    Parameters
    ----------
    flow
        Its number.
    kinds
        Where its kinds of message begin.
    has_tls
        Whether it begins with a handshake of TLS.
    thread, server_thread
        Who sends and receives at its two ends.
    """

    flow: int
    kinds: int
    has_tls: bool
    thread: int
    server_thread: int


class _Script:
    """Makes the messages of connection slots.

    Parameters
    ----------
    traffic, context, places
        The workload.
    """

    def __init__(self, traffic: Plugin, context: WorkloadContext, places: _Places) -> None:
        self._traffic = traffic
        self._places = places
        self._requesters = len(context.clients)
        self._columns = _Columns()
        self._first: list[int] = []
        self._last: list[int] = []
        is_direct = traffic.via == "direct"
        sizes = (traffic.request_bytes, traffic.response_bytes)
        server_ns = round(traffic.server_us * NS_PER_US)
        self._sorts = [
            HttpConnection(*sizes, has_tls=has_tls, has_controller=not is_direct, server_ns=server_ns)
            for has_tls in (False, True)
        ] + [
            HttpConnection(*sizes, is_upstream=True, client_has_tls=has_tls, server_ns=server_ns)
            for has_tls in (False, True)
        ]

    def add_slot(self, slot: int, rules: list[HttpRule], luck: list[float]) -> None:
        """The requests of one connection slot, one after the other."""
        columns, think_ns = self._columns, round(self._traffic.think_us * NS_PER_US)
        kept: dict[object, _Connection] = {}
        after = NONE
        for rule, number in zip(rules, luck, strict=True):
            is_tls, backend = self._places.has_tls(rule), self._places.backend(slot, rule, number)
            begin, is_first = len(columns.kind), after == NONE
            called = backend if self._traffic.via == "direct" else self._places.controller(slot, is_tls=is_tls)
            key = (called, rule.host, is_tls)
            connection = kept.get(key)
            timeout_ns = MINIMUM_RTO_NS
            if connection is None:
                connection = kept[key] = self._client_connection(slot, called, is_tls=is_tls)
                after, timeout_ns = self._connect(connection, after), INITIAL_RTO_NS
            after = self._send(connection, _http.REQUEST, after, timeout_ns)
            if self._traffic.via == "ingress":
                after = self._pass_on(slot, kept, backend, is_tls=is_tls, after=after)
            after = self._send(connection, _http.REPLY, after)
            columns.think_ns[begin] = 0 if is_first else think_ns
            columns.timeout_ns[begin] = timeout_ns
            self._first.append(begin)
            self._last.append(after)
            if not self._traffic.keep_alive:
                self._close(kept.pop(key), after)

    def _pass_on(self, slot: int, kept: dict[object, _Connection], backend: int, *, is_tls: bool, after: int) -> int:
        """The controller's part: its request to a pod, and the reply; a connection that is not kept is closed."""
        key = ("upstream", backend, is_tls)
        connection = kept.get(key)
        timeout_ns = NONE
        if connection is None:
            connection = kept[key] = self._upstream_connection(slot, backend, is_tls=is_tls)
            after, timeout_ns = self._connect(connection, after), INITIAL_RTO_NS
        reply = self._send(connection, _http.REPLY, self._send(connection, _http.REQUEST, after, timeout_ns))
        if self._rank(slot) >= self._traffic.upstream_connections:
            self._close(kept.pop(key), reply)
        return reply

    def _client_connection(self, slot: int, called: int, *, is_tls: bool) -> _Connection:
        """A client's connection, to a controller's worker or to a pod."""
        server_thread = slot if self._traffic.via == "direct" else self._worker(slot)
        flow = self._new_flow(slot % self._requesters, called)
        return _Connection(flow, _http.KINDS * is_tls, is_tls, slot, server_thread)

    def _upstream_connection(self, slot: int, backend: int, *, is_tls: bool) -> _Connection:
        """A connection of a controller's worker to a pod."""
        replicas = self._places.replicas
        flow = self._new_flow(replicas[slot % len(replicas)], backend)
        return _Connection(
            flow, _http.KINDS * (2 + is_tls), has_tls=False, thread=self._worker(slot), server_thread=slot
        )

    def _worker(self, slot: int) -> int:
        """Which worker of its pod of the controller has a client's connection."""
        return slot // len(self._places.replicas) % self._traffic.workers

    def _rank(self, slot: int) -> int:
        """How many client's connections its worker has had before."""
        return slot // len(self._places.replicas) // self._traffic.workers

    def _new_flow(self, client: int, service: int) -> int:
        self._columns.flow_client.append(client)
        self._columns.flow_service.append(service)
        return len(self._columns.flow_client) - 1

    def _connect(self, connection: _Connection, after: int) -> int:
        """Open a connection; the message that whoever opened it waits for."""
        after = self._send(connection, _http.SYN_ACK_STEP, self._send(connection, _http.SYN_STEP, after))
        self._send(connection, _http.ACK_STEP, after)
        if connection.has_tls:
            hello = self._send(connection, _http.CLIENT_HELLO, after, INITIAL_RTO_NS)
            after = self._send(connection, _http.SERVER_HELLO, hello)
            self._send(connection, _http.CLIENT_FINISHED, after)
        return after

    def _close(self, connection: _Connection, after: int) -> None:
        """Close a connection; who serves closes first, and nobody waits for the rest."""
        for step in (_http.FIN_STEP, _http.FIN_ACK_STEP, _http.LAST_ACK_STEP):
            after = self._send(connection, step, after)

    def _send(self, connection: _Connection, step: int, after: int, timeout_ns: int = NONE) -> int:
        """Add a message that follows another, or is sent so long after that is lost; its number."""
        columns = self._columns
        columns.kind.append(connection.kinds + step)
        columns.after.append(after)
        columns.think_ns.append(0)
        columns.timeout_ns.append(timeout_ns)
        columns.flow.append(connection.flow)
        columns.thread.append(connection.thread)
        columns.server_thread.append(connection.server_thread)
        return len(columns.kind) - 1

    def messages(self) -> Messages:
        """All that was added; kinds that were not used are left out."""
        columns, traffic = self._columns, self._traffic
        kinds = [kind for sort in self._sorts for kind in sort.kinds]
        used, kind = np.unique(np.array(columns.kind, np.int64), return_inverse=True)
        client, flow = _array(columns.flow_client), _array(columns.flow)
        return Messages(
            kinds=tuple(kinds[number] for number in used),
            clients=tuple(self._places.clients),
            services=tuple(self._places.destinations),
            flows=Flows(client, _array(columns.flow_service), source_ports(client)),
            flow=flow,
            thread=_array(columns.thread),
            server_thread=_array(columns.server_thread),
            serving_clients=frozenset(self._places.replicas),
            script=Script(
                kind=np.asarray(kind, np.int64),
                after=_array(columns.after),
                think_ns=_array(columns.think_ns),
                timeout_ns=_array(columns.timeout_ns),
            ),
            release_ns=np.zeros(len(flow), np.int64),
            first=_array(self._first),
            last=_array(self._last),
            bytes_per_transaction=traffic.request_bytes + traffic.response_bytes,
        )


def _array(numbers: list[int]) -> npt.NDArray[np.int64]:
    return np.array(numbers, np.int64)


def _check_host_ports(pods: Sequence[Pod]) -> None:
    """Refuse pods that would listen on the same port of one node."""
    number_by_node = Counter(pod.node for pod in pods if pod.is_host_network)
    for node, number in number_by_node.items():
        if number > 1:
            raise InputError(
                f"traffic.controllers: {number} pods would listen on one port of {node}: "
                "on the host network a node has room for one"
            )
