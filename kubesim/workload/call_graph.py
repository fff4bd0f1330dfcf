"""A real application: each user request runs through the call graph of its services, one call after the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from kubesim.errors import InputError, did_you_mean
from kubesim.units import NS_PER_MS, NS_PER_US
from kubesim.workload._messages import INITIAL_RTO_NS, NONE, Destination, Flows, MessageKind, Messages, Script
from kubesim.workload._tcp import ACK, FIN, FIN_ACK, LAST_ACK, SYN, SYN_ACK
from kubesim.workload._traffic import Traffic, WorkloadContext, refuse_too_many, source_ports

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from kubesim.cluster import Cluster, Pod, Service, ServicePort

_DEEPEST = 50
_REQUEST = 3
_FIRST_REPLY = 4


class Plugin(Traffic):
    """Users in a closed loop. A transaction is a user's request, with all the calls it leads to.

    Which Deployment calls which Service is read from the environment of its pods, where it is said as
    ``CART_SERVICE_ADDR=cartservice:7070``, or given. The calls of one pod are made in turn. A pod called through a
    Service makes its own calls from the replica that goes with the user, whichever endpoint the proxy chose.
    """

    protocol: ClassVar[str] = "tcp"
    makes_clients: ClassVar[bool] = False
    workload: Literal["call_graph"] = "call_graph"
    users: int = Field(default=10, ge=1, le=100_000, description="users at a time")
    requests: int = Field(default=100, ge=1, le=10_000_000, description="requests of each user")
    keep_alive: bool = Field(
        default=True, description="keep connections: one per user to the first Service, one per caller behind it"
    )
    think_ms: float = Field(default=0, ge=0, le=1e6, description="time from a reply to the user's next request")
    request_bytes: int = Field(default=200, ge=1, le=65_000, description="payload of a call")
    response_bytes: int = Field(default=1000, ge=1, le=65_000, description="payload of its reply")
    work_us: dict[str, Annotated[float, Field(ge=0, le=1e7)]] = Field(
        default={}, description="what a Deployment computes per call, by its name"
    )
    default_work_us: float = Field(default=100, ge=0, le=1e7, description="the same, for those that are not listed")
    calls: dict[str, list[str]] | None = Field(
        default=None, description="Services that each Deployment calls, in order, instead of what its environment says"
    )

    def messages(self, context: WorkloadContext) -> Messages:
        """Make the messages, user by user."""
        graph = _read_graph(self, context.cluster)
        refuse_too_many(self.users * self.requests * len(graph.sites) * (2 if self.keep_alive else 8))
        scripts = _Scripts(graph, keeps_connections=self.keep_alive)
        columns = [self._user(scripts, user) for user in range(self.users)]
        lengths = np.array([len(column.kind) for column in columns])
        offsets = np.repeat(np.cumsum(lengths) - lengths, lengths)
        after = np.concatenate([column.after for column in columns])
        kind = np.concatenate([column.kind for column in columns])
        begins = np.concatenate([column.begins for column in columns])
        script = Script(
            kind=kind,
            after=np.where(after == NONE, NONE, after + offsets),
            think_ns=np.where(begins, round(self.think_ms * NS_PER_MS), 0),
            timeout_ns=np.where(begins, INITIAL_RTO_NS, NONE),
        )
        first = np.flatnonzero(begins)
        return Messages(
            kinds=self._kinds(graph),
            clients=tuple(graph.clients),
            services=tuple(Destination(*one) for one in graph.services),
            flows=scripts.flows(),
            flow=np.concatenate([column.flow_key for column in columns]),
            thread=np.repeat(np.arange(self.users), lengths),
            script=script,
            release_ns=np.zeros(len(script), np.int64),
            first=first,
            last=np.flatnonzero(np.concatenate([column.ends for column in columns])),
            bytes_per_transaction=len(graph.sites) * (self.request_bytes + self.response_bytes),
        )

    def _user(self, scripts: _Scripts, user: int) -> _Columns:
        """One user's requests, one after the other."""
        requests = [scripts.request(user, number) for number in range(min(2, self.requests))]
        if self.requests > len(requests):
            # All that a user needs is open by then, or nothing is kept: every further request is as the second one.
            requests.append(scripts.repeated(requests[-1], self.requests - len(requests)))
        lengths = np.array([len(request.kind) for request in requests])
        starts = np.cumsum(lengths) - lengths
        merged = _Columns(
            *(np.concatenate([getattr(one, name) for one in requests]) for name in _Columns.__dataclass_fields__)
        )
        offsets = np.repeat(starts, lengths)
        merged.after[:] = np.where(merged.after == NONE, NONE, merged.after + offsets)
        ends = np.flatnonzero(merged.ends)
        merged.after[np.flatnonzero(merged.begins)[1:]] = ends[:-1]
        return merged

    def _kinds(self, graph: _Graph) -> tuple[MessageKind, ...]:
        """Kinds of message; replies are told apart by who has computed them."""
        replies = [
            MessageKind(
                f"reply of {owner}",
                is_request=False,
                payload_bytes=self.response_bytes,
                work_ns=round(self.work_us.get(owner, self.default_work_us) * NS_PER_US),
            )
            for owner in graph.callees
        ]
        request = MessageKind("request", is_request=True, payload_bytes=self.request_bytes)
        return SYN, SYN_ACK, ACK, request, *replies, FIN, FIN_ACK, LAST_ACK


@dataclass(frozen=True, eq=False)
class _Columns:
    """Messages of some requests, as columns."""

    kind: npt.NDArray[np.int64]
    after: npt.NDArray[np.int64]
    flow_key: npt.NDArray[np.int64]
    begins: npt.NDArray[np.bool_]
    ends: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Site:
    """One call that a user's request leads to."""

    caller: str
    service: int
    callee: str
    is_from_root: bool
    calls: tuple[int, ...]


@dataclass
class _Graph:
    """Who calls whom.

    ``sites`` are all calls of one user request, those of a pod before the call to it; ``first`` are the root's.
    """

    sites: list[_Site] = field(default_factory=list)
    first: list[int] = field(default_factory=list)
    services: list[tuple[Service, ServicePort]] = field(default_factory=list)
    callees: list[str] = field(default_factory=list)
    clients: list[Pod] = field(default_factory=list)
    replicas: dict[str, list[int]] = field(default_factory=dict)


def _read_graph(workload: Plugin, cluster: Cluster) -> _Graph:
    """Follow the calls from the root."""
    pods: dict[str, list[Pod]] = {}
    for pod in cluster.pods:
        pods.setdefault(pod.owner, []).append(pod)
    calls = _calls(workload, cluster, pods)
    for owner in workload.work_us:
        if owner not in pods:
            raise InputError(f"traffic.work_us: there is no Deployment {owner!r}: {did_you_mean(owner, pods)}")
    graph = _Graph()
    root = _root(workload, cluster, calls, pods)

    def follow(caller: str, depth: int) -> tuple[int, ...]:
        if depth > _DEEPEST:
            raise InputError(f"the calls go in circles: {caller} is called by what it calls; give traffic.calls")
        return tuple(add(caller, service, port, depth) for service, port in calls.get(caller, ()))

    def add(caller: str, service: Service, port: ServicePort, depth: int) -> int:
        endpoints = cluster.endpoints(service, port)
        served_by = cluster.pod_at(endpoints[0].address) if endpoints else None
        callee = served_by.owner if served_by is not None else service.name
        inner = follow(callee, depth + 1)
        if (service, port) not in graph.services:
            graph.services.append((service, port))
        if callee not in graph.callees:
            graph.callees.append(callee)
        graph.sites.append(_Site(caller, graph.services.index((service, port)), callee, depth == 0, inner))
        return len(graph.sites) - 1

    graph.first = list(follow(root, 0))
    if not graph.first:
        raise InputError(f"{root} calls no Service: this scenario has no traffic")
    for site in graph.sites:
        if site.caller not in graph.replicas:
            start = len(graph.clients)
            graph.clients += pods[site.caller]
            graph.replicas[site.caller] = list(range(start, len(graph.clients)))
    return graph


def _calls(
    workload: Plugin, cluster: Cluster, pods: dict[str, list[Pod]]
) -> dict[str, list[tuple[Service, ServicePort]]]:
    """Which service ports each Deployment calls, in order, each once."""
    named: dict[str, Iterable[tuple[str, int | None]]]
    if workload.calls is not None:
        for owner in workload.calls:
            if owner not in pods:
                raise InputError(f"traffic.calls: there is no Deployment {owner!r}: {did_you_mean(owner, pods)}")
        named = {owner: [(name, None) for name in names] for owner, names in workload.calls.items()}
    else:
        named = {owner: members[0].calls for owner, members in pods.items()}
    found: dict[str, list[tuple[Service, ServicePort]]] = {}
    for owner, wanted in named.items():
        for name, number in dict.fromkeys(wanted):
            service = cluster.service(name)
            ports = [port for port in service.ports if port.protocol == "tcp" and number in (None, port.port)]
            if ports and service.kind != "ExternalName":
                found.setdefault(owner, []).append((service, ports[0]))
    return found


def _root(
    workload: Plugin,
    cluster: Cluster,
    calls: dict[str, list[tuple[Service, ServicePort]]],
    pods: dict[str, list[Pod]],
) -> str:
    """The Deployment where requests begin: the one named, or the only one that calls and is not called."""
    if workload.from_ is not None:
        if workload.from_ not in pods:
            raise InputError(
                f"traffic.from: there is no Deployment {workload.from_!r}: {did_you_mean(workload.from_, pods)}"
            )
        return workload.from_
    called = {
        pod.owner
        for targets in calls.values()
        for service, port in targets
        for endpoint in cluster.endpoints(service, port)
        if (pod := cluster.pod_at(endpoint.address)) is not None
    }
    roots = sorted(owner for owner in calls if owner not in called)
    if len(roots) != 1:
        found = ", ".join(roots) or "none"
        raise InputError(
            f"give traffic.from: it is not clear where requests begin; who calls and is not called: {found}"
        )
    return roots[0]


class _Scripts:
    """Makes the messages of a user's request.

    A connection is kept by user and call for calls of the root, by replica and call for the others; if connections are
    not kept, each call has its own. ``flow_key`` is the number of a connection.

    Parameters
    ----------
    graph
        The calls.
    keeps_connections
        Whether a connection serves more than one call.
    """

    def __init__(self, graph: _Graph, *, keeps_connections: bool) -> None:
        self._graph = graph
        self._keeps_connections = keeps_connections
        self._known: dict[tuple[int, int, int], int] = {}
        self._owners: list[tuple[int, int]] = []

    def request(self, user: int, number: int) -> _Columns:
        """One request of a user, with its calls."""
        steps: list[tuple[int, int, int]] = []
        after = NONE
        for position in self._graph.first:
            after = self._call(position, user, number, after, steps)
        kind, follows, key = (np.array(column, np.int64) for column in zip(*steps, strict=True))
        numbers = np.arange(len(kind))
        return _Columns(kind, follows, key, begins=numbers == 0, ends=numbers == after)

    def repeated(self, request: _Columns, times: int) -> _Columns:
        """The request that was made last, so many times more; only connections that are not kept are others."""
        length = len(request.kind)
        after = np.tile(request.after, times)
        after[after != NONE] += np.repeat(np.arange(times) * length, length)[after != NONE]
        keys = np.tile(request.flow_key, times)
        if not self._keeps_connections:
            calls = len(self._graph.sites)
            keys += np.repeat(np.arange(1, times + 1) * calls, length)
            self._owners += self._owners[-calls:] * times
        return _Columns(
            np.tile(request.kind, times), after, keys, np.tile(request.begins, times), np.tile(request.ends, times)
        )

    def flows(self) -> Flows:
        """The connections that were used."""
        client, service = (np.array(column, np.int64) for column in zip(*self._owners, strict=True))
        return Flows(client, service, source_ports(client))

    def _call(self, position: int, user: int, number: int, after: int, steps: list[tuple[int, int, int]]) -> int:
        """Append a call and what it leads to; the step that is its reply."""
        site = self._graph.sites[position]
        key, is_new = self._connection(position, user, number)
        last_kind = _FIRST_REPLY + len(self._graph.callees)
        if is_new:
            begin = len(steps)
            steps += [(0, after, key), (1, begin, key), (2, begin + 1, key)]
            after = begin + 1
        steps.append((_REQUEST, after, key))
        after = len(steps) - 1
        for inner in site.calls:
            after = self._call(inner, user, number, after, steps)
        steps.append((_FIRST_REPLY + self._graph.callees.index(site.callee), after, key))
        reply = len(steps) - 1
        if not self._keeps_connections:
            steps += [(last_kind, reply, key), (last_kind + 1, reply + 1, key), (last_kind + 2, reply + 2, key)]
        return reply

    def _connection(self, position: int, user: int, number: int) -> tuple[int, bool]:
        """The connection for a call, and whether it has to be opened."""
        site = self._graph.sites[position]
        replicas = self._graph.replicas[site.caller]
        replica = replicas[user % len(replicas)]
        if not self._keeps_connections:
            name = (position, user, number)
        else:
            name = (site.service, replica, user if site.is_from_root else NONE)
        is_new = name not in self._known
        if is_new:
            self._known[name] = len(self._owners)
            self._owners.append((replica, site.service))
        return self._known[name], is_new
