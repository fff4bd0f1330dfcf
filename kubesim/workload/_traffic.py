"""What all workloads let a scenario say: who sends, to which Services, over how many connections."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from kubesim.errors import InputError, did_you_mean
from kubesim.workload._dns import DnsSpec, dns_objects
from kubesim.workload._messages import Destination, Flows, Through

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from kubesim.cluster import Cluster, Pod, Service, ServicePort
    from kubesim.streams import Streams

OUTSIDE = "outside"
"""Where clients are that are not in the cluster."""

FIRST_SOURCE_PORT = 32768
SOURCE_PORTS = 28232
"""``net.ipv4.ip_local_port_range`` is 32768 to 60999."""


class ServiceChoice(BaseModel):
    """Which of all Services a connection is made to."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    choice: Literal["uniform", "zipf", "first", "middle", "last"] = Field(
        description="each alike; by Zipf's law, a random one most often; or one by its position in the sorted list"
    )
    exponent: float = Field(default=1.0, ge=0.001, le=10, description="exponent of Zipf's law")


def _names(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _kind_of_target(value: object) -> str:
    """Which of the two ways to say it is meant, so that what is wrong is said of that way."""
    return "ServiceChoice" if isinstance(value, dict | ServiceChoice) else "names"


_Names = Annotated[list[str], Field(min_length=1)]


Targets = Annotated[
    Annotated[_Names, Tag("names")] | Annotated[ServiceChoice, Tag("ServiceChoice")],
    Discriminator(_kind_of_target),
    BeforeValidator(_names, json_schema_input_type=str | _Names | ServiceChoice),
]
"""Whom connections are made to: names, or how one is chosen."""


class Traffic(BaseModel):
    """What every workload has."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)

    protocol: ClassVar[str]
    """``tcp`` or ``udp``: of the Services that are made by number for it."""

    makes_clients: ClassVar[bool] = True
    """Whether pods are made to send, where ``from`` names none."""

    workload: str
    clients: int = Field(default=1, ge=1, le=100_000, description="client pods to make")
    clients_on: list[str] | None = Field(
        default=None,
        min_length=1,
        description="nodes the client pods are put on, in turn; all nodes by default; "
        "[outside] for machines outside of the cluster, one for each client",
    )
    from_: str | None = Field(
        default=None, alias="from", description="send from this pod, or from the pods of this Deployment, instead"
    )
    to: Targets = Field(
        default=ServiceChoice(choice="uniform"),
        description="a Service, several, or how one is chosen; NAME, NAMESPACE/NAME or NAME:PORT",
    )
    connections: int = Field(default=1, ge=1, le=1_000_000, description="connections of each client at a time")
    dns: DnsSpec | None = Field(
        default=None, description="look the Service's name up before each connection; addresses are known if not given"
    )
    through: Literal["cluster-ip", "endpoints", "node-port", "load-balancer", "localhost"] | None = Field(
        default=None,
        description="which address of a Service is called: its cluster-ip, a pod's of its endpoints, a node-port, its "
        "load-balancer's, or localhost, where clients are such pods themselves; by default its cluster-ip, or from "
        "outside its load-balancer's or else a node-port",
    )
    node_ports_of: list[str] | None = Field(
        default=None, min_length=1, description="nodes whose ports are called, in turn; all by default"
    )

    @property
    def is_from_outside(self) -> bool:
        """Whether clients are on machines outside of the cluster."""
        return self.clients_on == [OUTSIDE]

    @model_validator(mode="after")
    def _one_kind_of_client(self) -> Traffic:
        if self.clients_on is not None and OUTSIDE in self.clients_on and not self.is_from_outside:
            raise ValueError(f"clients are on nodes or {OUTSIDE}, not both")
        if self.from_ is not None and (self.clients_on is not None or "clients" in self.model_fields_set):
            raise ValueError("give either from, or clients and clients_on")
        return self

    @model_validator(mode="after")
    def _names_are_of_connections(self) -> Traffic:
        if self.dns is not None and self.protocol != "tcp":
            raise ValueError(f"dns: {self.workload} opens no connections before which names could be looked up")
        if self.dns is not None and self.is_from_outside:
            raise ValueError("dns: clients outside of the cluster do not ask its DNS")
        return self

    def objects(self) -> tuple[dict[str, Any], ...]:
        """Kubernetes objects that it needs, made where the manifests have none of the kind and name."""
        return () if self.dns is None else dns_objects(self.dns)


class RequestResponse(Traffic):
    """What workloads of requests and replies have besides."""

    request_bytes: int = Field(default=1, ge=1, le=65_000, description="payload of a request")
    response_bytes: int = Field(default=1, ge=1, le=65_000, description="payload of a reply")
    server_us: float = Field(default=0, ge=0, le=1e7, description="what the server computes per request")
    think_us: float = Field(default=0, ge=0, le=1e9, description="time from a reply to the next request")


LOWEST_RATE_PER_S = 0.001
"""Least rate of connections or datagrams: with fewer, a run lasts for years."""


@dataclass(frozen=True)
class WorkloadContext:
    """What a workload is told when it makes its messages.

    Parameters
    ----------
    cluster
        Whom it may send to.
    clients
        The pods it sends from.
    streams
        Its random numbers.
    segment_bytes
        Payload of one TCP segment.
    """

    cluster: Cluster
    clients: tuple[Pod, ...]
    streams: Streams
    segment_bytes: int


MOST_MESSAGES = 20_000_000
"""Messages of one run that are held in memory at the most."""


def refuse_too_many(messages: int, why: str | None = None) -> None:
    """Refuse a workload that would not fit in memory; ``why`` says why it has to.

    Raises
    ------
    InputError
        If it has more than :data:`MOST_MESSAGES`.
    """
    if messages > MOST_MESSAGES:
        raise InputError(
            f"traffic: {messages:,} messages are too many to be held in memory, {MOST_MESSAGES:,} can be"
            f"{'' if why is None else f', and they have to be: {why}'}; ask for fewer transactions or connections"
        )


MOST_CONNECTIONS = 5_000_000
"""Connections of one run that are held in memory at the most, whether their messages are or not."""


def refuse_too_many_connections(connections: int) -> int:
    """Refuse a workload whose connections alone would not fit in memory; gives their number back.

    Raises
    ------
    InputError
        If it has more than :data:`MOST_CONNECTIONS`.
    """
    if connections > MOST_CONNECTIONS:
        raise InputError(
            f"traffic: {connections:,} connections are too many to be held in memory, {MOST_CONNECTIONS:,} can be"
        )
    return connections


MOST_SECONDS = 1e9
"""How long a run may last at the most, some thirty years: its nanoseconds have to fit in 64 bits."""


def refuse_too_slow(count: int, rate_per_s: float) -> None:
    """Refuse a workload whose last message would be sent when times no longer fit in 64 bits.

    Raises
    ------
    InputError
        If it lasts longer than :data:`MOST_SECONDS`.
    """
    if count / rate_per_s > MOST_SECONDS:
        raise InputError(f"traffic.rate_per_s: at {rate_per_s:g} per second it takes years to send {count:,}")


def targets(traffic: Traffic, context: WorkloadContext, protocol: str) -> tuple[Destination, ...]:
    """The service ports that the workload may send to, sorted or as named.

    Raises
    ------
    InputError
        If there are none.
    """
    cluster = context.cluster
    if isinstance(traffic.to, list):
        try:
            ports = [_named(cluster, name, protocol) for name in traffic.to]
        except InputError as error:
            raise InputError(f"traffic.to: {error}") from None
    else:
        ports = [(service, port) for _, service, port in cluster.service_ports() if port.protocol == protocol]
        if traffic.is_from_outside or traffic.through in _FROM_OUTSIDE:
            ports = [one for one in ports if one[0].kind in _EXTERNAL_KINDS]
            if not ports:
                raise InputError(f"traffic.to: no Service with a {protocol.upper()} port can be called from outside")
        if not ports:
            raise InputError(
                f"there is no Service with a {protocol.upper()} port to send to: this scenario has no traffic"
            )
        if traffic.to.choice not in ("uniform", "zipf"):
            position = {"first": 0, "middle": len(ports) // 2, "last": len(ports) - 1}[traffic.to.choice]
            ports = [ports[position]]
    return tuple(one for service, port in ports for one in destinations(traffic, cluster, service, port))


_EXTERNAL_KINDS = ("NodePort", "LoadBalancer")
_FROM_OUTSIDE = (Through.NODE_PORT, Through.LOAD_BALANCER)


def destinations(traffic: Traffic, cluster: Cluster, service: Service, port: ServicePort) -> list[Destination]:
    """What a service port is called by: one address, or a node port of each of several nodes."""
    has_balancer = any(":" not in address for address in service.load_balancer_ips)
    if traffic.through is not None:
        through = Through(traffic.through)
    elif traffic.is_from_outside:
        through = Through.LOAD_BALANCER if has_balancer else Through.NODE_PORT
    else:
        through = Through.CLUSTER_IP
    if through is Through.NODE_PORT and port.node_port is None:
        raise InputError(
            f"traffic.to: Service {service.full_name} is a {service.kind} and has no node port: "
            "nobody outside can call it by one"
        )
    if through is Through.LOAD_BALANCER and not has_balancer:
        raise InputError(
            f"traffic.to: Service {service.full_name} is a {service.kind} and has no load balancer's address"
        )
    if through is not Through.NODE_PORT:
        return [Destination(service, port, through)]
    nodes = {node.name: node for node in cluster.nodes}
    for name in traffic.node_ports_of or ():
        if name not in nodes:
            raise InputError(f"traffic.node_ports_of: there is no node {name!r}: {did_you_mean(name, nodes)}")
    return [Destination(service, port, through, nodes[name]) for name in dict.fromkeys(traffic.node_ports_of or nodes)]


def _choose_destinations(
    traffic: Traffic, context: WorkloadContext, destinations: Sequence[Destination], flows: int
) -> npt.NDArray[np.int64]:
    """Draw which destination each flow goes to, shape (flows,).

    Under Zipf's law the ranks are dealt out at random, so that the most wanted Service is not always the first rule.
    Where a service port is called by ports of several nodes, they take turns.
    """
    of_port = [[0]]
    for position, (before, one) in enumerate(itertools.pairwise(destinations), 1):
        if one.node is None or before.node is None or one.port is not before.port:
            of_port.append([])
        of_port[-1].append(position)
    first = np.array([positions[0] for positions in of_port], np.int64)
    nodes = np.array([len(positions) for positions in of_port], np.int64)
    flow = np.arange(flows, dtype=np.int64)
    port = flow % len(of_port)
    if not isinstance(traffic.to, list):
        port = draw_choices(traffic.to, context, len(of_port), flows)
    turn = flow // len(of_port) if isinstance(traffic.to, list) else flow
    return first[port] + turn % nodes[port]


def draw_choices(choice: ServiceChoice, context: WorkloadContext, count: int, flows: int) -> npt.NDArray[np.int64]:
    """Draw one of ``count`` service ports, or of what else there is, for each flow, shape (flows,)."""
    if count == 1:
        return np.zeros(flows, np.int64)
    draws = context.streams.generator("service of each flow").random(flows)
    if choice.choice != "zipf":
        return np.minimum((draws * count).astype(np.int64), count - 1)
    weights = np.arange(1, count + 1, dtype=float) ** -choice.exponent
    shares = np.cumsum(weights) / weights.sum()
    ranks = np.minimum(np.searchsorted(shares, draws, side="right"), count - 1)
    order = context.streams.generator("rank of each service").permutation(count)
    return np.asarray(order[ranks], np.int64)


def make_flows(
    traffic: Traffic, context: WorkloadContext, destinations: Sequence[Destination], client: npt.NDArray[np.int64]
) -> Flows:
    """Flows of the given clients: a service each, and a source port that the client has free.

    Parameters
    ----------
    traffic, context
        The workload.
    destinations
        What there is to choose from.
    client : array of int64, shape (f,)
        Of each flow, in the order in which they are opened.
    """
    return Flows(client, _choose_destinations(traffic, context, destinations, len(client)), source_ports(client))


def source_ports(client: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The next free port of each flow's client, round and round, shape (f,)."""
    order = np.argsort(client, kind="stable")
    starts = np.searchsorted(client[order], client[order])
    ports = np.empty(len(client), np.int64)
    ports[order] = FIRST_SOURCE_PORT + (np.arange(len(client)) - starts) % SOURCE_PORTS
    return ports


def _named(cluster: Cluster, name: str, protocol: str) -> tuple[Service, ServicePort]:
    """A service port by ``NAME`` or ``NAME:PORT``, PORT being its number or name."""
    bare, _, wanted = name.partition(":")
    service = cluster.service(bare)
    if service.kind == "ExternalName":
        raise InputError(
            f"Service {service.full_name} is an ExternalName, another name in DNS: no packet goes through it"
        )
    matching = [port for port in service.ports if port.protocol == protocol]
    if wanted:
        matching = [port for port in matching if wanted in (port.name, str(port.port))]
    if not matching:
        known = ", ".join(f"{port.port}/{port.protocol}" for port in service.ports) or "none"
        raise InputError(
            f"Service {service.full_name} has no {protocol.upper()} port {wanted or ''}".rstrip() + f": it has {known}"
        )
    return service, matching[0]
