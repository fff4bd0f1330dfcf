"""What all workloads let a scenario say: who sends, to which Services, over how many connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from kubesim.errors import InputError
from kubesim.workload._dns import DnsSpec, dns_objects
from kubesim.workload._messages import Destination, Flows

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.cluster import Cluster, Pod, Service, ServicePort
    from kubesim.streams import Streams

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
        default=None, min_length=1, description="nodes the client pods are put on, in turn; all nodes by default"
    )
    from_: str | None = Field(
        default=None, alias="from", description="send from this pod, or from the pods of this Deployment, instead"
    )
    to: Annotated[
        Annotated[_Names, Tag("names")] | Annotated[ServiceChoice, Tag("ServiceChoice")],
        Discriminator(_kind_of_target),
        BeforeValidator(_names, json_schema_input_type=str | _Names | ServiceChoice),
    ] = Field(
        default=ServiceChoice(choice="uniform"),
        description="a Service, several, or how one is chosen; NAME, NAMESPACE/NAME or NAME:PORT",
    )
    connections: int = Field(default=1, ge=1, le=1_000_000, description="connections of each client at a time")
    dns: DnsSpec | None = Field(
        default=None, description="look the Service's name up before each connection; addresses are known if not given"
    )

    @model_validator(mode="after")
    def _one_kind_of_client(self) -> Traffic:
        if self.from_ is not None and (self.clients_on is not None or "clients" in self.model_fields_set):
            raise ValueError("give either from, or clients and clients_on")
        return self

    @model_validator(mode="after")
    def _names_are_of_connections(self) -> Traffic:
        if self.dns is not None and self.protocol != "tcp":
            raise ValueError(f"dns: {self.workload} opens no connections before which names could be looked up")
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


def refuse_too_many(messages: int) -> None:
    """Refuse a workload that would not fit in memory.

    Raises
    ------
    InputError
        If it has more than :data:`MOST_MESSAGES`.
    """
    if messages > MOST_MESSAGES:
        raise InputError(
            f"traffic: {messages:,} messages are too many to be held in memory, {MOST_MESSAGES:,} can be: "
            "ask for fewer transactions or connections"
        )


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
        return tuple(Destination(*_named(cluster, name, protocol)) for name in traffic.to)
    ports = tuple(
        Destination(service, port) for _, service, port in cluster.service_ports() if port.protocol == protocol
    )
    if not ports:
        raise InputError(f"there is no Service with a {protocol.upper()} port to send to: this scenario has no traffic")
    if traffic.to.choice in ("uniform", "zipf"):
        return ports
    position = {"first": 0, "middle": len(ports) // 2, "last": len(ports) - 1}[traffic.to.choice]
    return (ports[position],)


def choose_services(traffic: Traffic, context: WorkloadContext, count: int, flows: int) -> npt.NDArray[np.int64]:
    """Draw which of ``count`` service ports each flow goes to, shape (flows,).

    Under Zipf's law the ranks are dealt out at random, so that the most wanted Service is not always the first rule.
    """
    if isinstance(traffic.to, list):
        return np.arange(flows, dtype=np.int64) % count
    if count == 1:
        return np.zeros(flows, np.int64)
    draws = context.streams.generator("service of each flow").random(flows)
    if traffic.to.choice != "zipf":
        return np.minimum((draws * count).astype(np.int64), count - 1)
    weights = np.arange(1, count + 1, dtype=float) ** -traffic.to.exponent
    shares = np.cumsum(weights) / weights.sum()
    ranks = np.minimum(np.searchsorted(shares, draws, side="right"), count - 1)
    order = context.streams.generator("rank of each service").permutation(count)
    return np.asarray(order[ranks], np.int64)


def make_flows(traffic: Traffic, context: WorkloadContext, services: int, client: npt.NDArray[np.int64]) -> Flows:
    """Flows of the given clients: a service each, and a source port that the client has free.

    Parameters
    ----------
    traffic, context
        The workload.
    services
        How many service ports there are to choose from.
    client : array of int64, shape (f,)
        Of each flow, in the order in which they are opened.
    """
    return Flows(client, choose_services(traffic, context, services, len(client)), source_ports(client))


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
