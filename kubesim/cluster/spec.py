"""What a scenario says about its cluster."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_UNUSABLE = {
    "0.0.0.0/8": "hosts that do not know their network",
    "127.0.0.0/8": "loopback",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved",
}
"""Ranges that no host has an address in (RFC 6890)."""


def _network(text: str) -> str:
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not an IPv4 range: {error}") from None
    for unusable, what in _UNUSABLE.items():
        if network.overlaps(ipaddress.IPv4Network(unusable)):
            raise ValueError(f"{text} cannot be used: {unusable} is for {what}")
    return str(network)


def _list_of_one(value: object) -> object:
    return [value] if isinstance(value, str) else value


LoadBalancing = Literal["machine", "l2", "bgp"]

Cidr = Annotated[str, AfterValidator(_network)]


class ClusterSpec(BaseModel):
    """The cluster: manifests of a real one, one made by size, or a real application inside a big one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    manifests: Annotated[list[Path], BeforeValidator(_list_of_one, json_schema_input_type=Path | list[Path])] = Field(
        default=[], description="Kubernetes YAML files, relative to the scenario file"
    )
    nodes: int | None = Field(
        default=None, ge=1, le=5000, description="number of nodes; 3 where neither this nor a manifest says"
    )
    services: int = Field(
        default=0, ge=0, le=250_000, description="Services made by number, besides those of manifests"
    )
    endpoints: int = Field(default=1, ge=0, le=5000, description="endpoints of each Service made by number")
    endpoint_nodes: list[str] | None = Field(
        default=None, description="nodes that the pods of Services made by number are put on, in turn; all by default"
    )
    background_connections: int = Field(
        default=0,
        ge=0,
        le=100_000_000,
        description="connections that each node's IPVS table holds besides the simulated",
    )
    background_connections_per_s: float | None = Field(
        default=None,
        ge=0,
        le=1e9,
        description="new connections per second that each pair of nodes has seen lately; the more, the more often "
        "conntrack knows the source port that a tunnel gives to a new connection",
    )
    load_balancer: LoadBalancing = Field(
        default="machine",
        description="who brings packets for a LoadBalancer's address to nodes: a machine that opens connections to "
        "their node ports, as a cloud has; one node that answers ARP for it (l2); or a router, one node per flow (bgp)",
    )
    load_balancer_cidr: Cidr = Field(
        default="203.0.113.0/24", description="addresses for Services of type LoadBalancer that have none yet"
    )
    pod_cidr: Cidr | None = Field(
        default=None, description="range of pod addresses; 10.244.0.0/16, or larger if needed"
    )
    service_cidr: Cidr = Field(default="10.96.0.0/12", description="range of virtual addresses")
    node_cidr: Cidr = Field(default="192.168.0.0/16", description="range of node addresses")

    @model_validator(mode="after")
    def _ranges_lie_apart(self) -> ClusterSpec:
        ranges = [(name, getattr(self, name)) for name in ("service_cidr", "node_cidr", "load_balancer_cidr")]
        if self.pod_cidr is not None:
            ranges.append(("pod_cidr", self.pod_cidr))
        for position, (name, text) in enumerate(ranges):
            for other_name, other in ranges[:position]:
                if ipaddress.IPv4Network(text).overlaps(ipaddress.IPv4Network(other)):
                    raise ValueError(f"{name} {text} overlaps {other_name} {other}")
        return self
