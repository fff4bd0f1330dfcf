"""HTTP requests by host and path, to an ingress controller that passes them on to pods, or straight to a Service."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from kubesim.cluster import best_rule, route_named
from kubesim.errors import InputError, did_you_mean
from kubesim.units import NS_PER_US
from kubesim.workload._controller import (
    NAME,
    NAMESPACE,
    controller_objects,
    controller_pods,
    controller_port,
)
from kubesim.workload._http import HttpConnection
from kubesim.workload._http_requests import Exchanged, Requests, exchange
from kubesim.workload._messages import Destination, Flows, Messages, Through
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
        refuse_too_many(slots * self.requests * self._most_messages(slots))
        rules = _rules(self, context.cluster)
        turns = np.arange(slots * self.requests) % len(rules)
        chosen = turns if isinstance(self.to, list) else draw_choices(self.to, context, len(rules), len(turns))
        luck = context.streams.generator("backend of each request").random((slots, self.requests))
        places = _Places(self, context, rules)
        requests = self._requests(places, rules, chosen, luck.ravel())
        return self._messages(places, requests, exchange(requests, round(self.think_us * NS_PER_US)))

    def _most_messages(self, slots: int) -> int:
        """Of a request, but for those that open connections which are kept."""
        most = 2 if self.keep_alive else 8 if self.tls is False else 11
        if self.via == "direct":
            return most
        workers = self.workers * (self.controllers if self.controller is None else 1)
        return most + (2 if slots <= workers * self.upstream_connections else 8)

    def _requests(
        self, places: _Places, rules: list[HttpRule], rule: npt.NDArray[np.int64], luck: npt.NDArray[np.float64]
    ) -> Requests:
        """What is asked for: by slot and request, shape (r,), the rule, and the luck in the choice of a backend."""
        slot = np.arange(len(rule)) // self.requests
        backend, most = _chosen_backends(rules, rule, luck), max(len(one.backends) for one in rules)
        # Numbers are given as they are met: each pair of a slot and a backend of a rule once.
        _, first, which = np.unique((slot * len(rules) + rule) * most + backend, return_index=True, return_inverse=True)
        passed_on, called = np.empty((2, len(first)), np.int64)
        is_direct = self.via == "direct"
        has_tls = np.array([places.has_tls(one) for one in rules])
        for met in np.argsort(first, kind="stable").tolist():
            own, asked = int(slot[first[met]]), int(rule[first[met]])
            passed_on[met] = places.backend(own, rules[asked], int(backend[first[met]]))
            called[met] = passed_on[met] if is_direct else places.controller(own, is_tls=bool(has_tls[asked]))
        hosts = {host: number for number, host in enumerate(dict.fromkeys(one.host for one in rules))}
        host = np.array([hosts[one.host] for one in rules])
        return Requests(
            slot=slot,
            called=called[which],
            backend=np.empty(0, np.int64) if is_direct else passed_on[which],
            client_key=(called[which] * len(hosts) + host[rule]) * 2 + has_tls[rule],
            upstream_key=passed_on[which] * 2 + has_tls[rule],
            has_tls=has_tls[rule],
            keeps_client=np.full(len(rule), self.keep_alive),
            keeps_upstream=places.rank(slot) < self.upstream_connections,
        )

    def _messages(self, places: _Places, requests: Requests, made: Exchanged) -> Messages:
        """All messages; kinds that are not used are left out."""
        slot, pods = requests.slot, places.replicas
        by, is_upstream = made.connections.opened_by, made.connections.is_upstream
        caller, called, served = slot[by] % places.requesters, requests.called[by], slot
        if requests.is_passed_on:
            caller = np.where(is_upstream, np.array(pods)[slot[by] % len(pods)], caller)
            called = np.where(is_upstream, requests.backend[by], called)
            served = places.worker(slot)
        kinds = [kind for sort in self._sorts() for kind in sort.kinds]
        used, kind = np.unique(made.script.kind, return_inverse=True)
        return Messages(
            kinds=tuple(kinds[number] for number in used),
            clients=tuple(places.clients),
            services=tuple(places.destinations),
            flows=Flows(caller, called, source_ports(caller)),
            flow=made.flow,
            thread=np.where(made.is_upstream, served[made.request], slot[made.request]),
            server_thread=np.where(made.is_upstream, slot[made.request], served[made.request]),
            serving_clients=frozenset(pods),
            script=replace(made.script, kind=np.asarray(kind, np.int64)),
            release_ns=np.zeros(len(made.flow), np.int64),
            first=made.first,
            last=made.last,
            bytes_per_transaction=self.request_bytes + self.response_bytes,
        )

    def _sorts(self) -> list[HttpConnection]:
        """Sorts of connections: clients' without TLS and with it, and controllers' for these."""
        sizes, server_ns = (self.request_bytes, self.response_bytes), round(self.server_us * NS_PER_US)
        has_controller = self.via != "direct"
        return [
            HttpConnection(*sizes, has_tls=has_tls, has_controller=has_controller, server_ns=server_ns)
            for has_tls in (False, True)
        ] + [
            HttpConnection(*sizes, is_upstream=True, client_has_tls=has_tls, server_ns=server_ns)
            for has_tls in (False, True)
        ]


def _chosen_backends(
    rules: list[HttpRule], rule: npt.NDArray[np.int64], luck: npt.NDArray[np.float64]
) -> npt.NDArray[np.int64]:
    """Which of its rule's backends each request goes to, by weight, shape (r,)."""
    chosen = np.zeros(len(rule), np.int64)
    order = np.argsort(rule, kind="stable")
    for one, asked in zip(rules, np.split(order, np.searchsorted(rule[order], range(1, len(rules)))), strict=True):
        here = asked
        total, left = sum(backend.weight for backend in one.backends), luck[here]
        for place, backend in enumerate(one.backends):
            chosen[here] = place
            goes_on = left * total >= backend.weight
            here, left = here[goes_on], left[goes_on] - backend.weight / total
    return chosen


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
        self.requesters = len(self.clients)
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

    def backend(self, slot: int, rule: HttpRule, number: int) -> int:
        """One of a rule's backends, as the controller or a client calls it."""
        service, port = self._service_port(rule.backends[number], rule)
        if self._traffic.via == "direct":
            return self._called(slot, service, port)
        through = Through.ENDPOINTS if self._traffic.upstream == "endpoints" else Through.CLUSTER_IP
        return self._number(Destination(service, port, through))

    def worker(self, slot: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Which worker of its pod of the controller has a client's connection."""
        return slot // len(self.replicas) % self._traffic.workers

    def rank(self, slot: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """How many client's connections its worker has had before."""
        return slot // max(1, len(self.replicas)) // self._traffic.workers

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


def _check_host_ports(pods: Sequence[Pod]) -> None:
    """Refuse pods that would listen on the same port of one node."""
    number_by_node = Counter(pod.node for pod in pods if pod.is_host_network)
    for node, number in number_by_node.items():
        if number > 1:
            raise InputError(
                f"traffic.controllers: {number} pods would listen on one port of {node}: "
                "on the host network a node has room for one"
            )
