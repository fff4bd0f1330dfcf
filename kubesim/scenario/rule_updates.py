"""The control plane: what a change of the cluster makes a node's proxy read and write, and how long that takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from kubesim.cluster import Endpoint, Service, ServicePort
from kubesim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubesim.cluster import Cluster
    from kubesim.cost import CostSet
    from kubesim.proxy import ServiceProxy

_NAME = "changed-service"
_NAMESPACE = "default"
_PORT, _TARGET_PORT = 80, 8080
_TEST_NETWORK = "198.51.100"  # RFC 5737: nobody else's


class UpdateSpec(BaseModel):
    """A change of the cluster, to see what rules it costs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    change: Literal["service-added", "endpoint-replaced", "node-restarted"] = Field(description="what changes")
    sync: Literal["partial", "full"] = Field(
        default="partial", description="whether the proxy may leave out what has not changed, where it can"
    )


@dataclass(frozen=True)
class UpdateCost:
    """What a change costs one node.

    Parameters
    ----------
    update_rules
        Rules and entries written.
    update_bytes
        Length of the text, or of the messages, that say so.
    update_ns
        CPU time by the cost set, of reading what is there too, where the proxy does so.
    """

    update_rules: int
    update_bytes: int
    update_ns: int


def update_cost(
    spec: UpdateSpec, cluster: Cluster, make_proxy: Callable[[Cluster], ServiceProxy], costs: CostSet
) -> UpdateCost:
    """What a change makes the first node's proxy write.

    Parameters
    ----------
    spec
        The change.
    cluster
        The cluster; the change comes on top of it.
    make_proxy
        Makes the proxy of a cluster.
    costs
        Prices.

    Raises
    ------
    InputError
        If the cost set has no price for what is done.
    """
    before, after = _clusters(spec, cluster)
    old = None if before is None else make_proxy(before)
    found = make_proxy(after).update(cluster.nodes[0], old, is_partial=spec.sync == "partial")
    time_ns = sum(costs.price_ns(operation, items) for operation, items in found.operations.items())
    return UpdateCost(found.rules, found.text_bytes, time_ns)


def _clusters(spec: UpdateSpec, cluster: Cluster) -> tuple[Cluster | None, Cluster]:
    """The cluster before the change, None if nothing is left of it on the node, and after."""
    if spec.change == "node-restarted":
        return None, cluster
    count = 1 if cluster.fleet is None else max(1, cluster.fleet.endpoints)
    after = _with_service(cluster, list(range(1, count + 1)))
    if spec.change == "service-added":
        return cluster, after
    return _with_service(cluster, [*range(2, count + 1), count + 1]), after


def _with_service(cluster: Cluster, hosts: list[int]) -> Cluster:
    """The cluster with one more Service, whose endpoints have these numbers."""
    port = ServicePort(_PORT, _TARGET_PORT)
    address = f"{_TEST_NETWORK}.1"
    if any(address in service.cluster_ips for service in cluster.services):
        raise InputError(f"update: {address} is a Service's already")
    service = Service(_NAMESPACE, _NAME, address, (port,), cluster_ips=(address,))
    node = cluster.nodes[-1].name
    endpoints = tuple(
        Endpoint(f"198.{18 + host // 65536}.{host // 256 % 256}.{host % 256}", _TARGET_PORT, node) for host in hosts
    )
    lists = {**cluster.endpoint_lists, service.port_name(port): endpoints}
    return replace(cluster, services=(*cluster.services, service), endpoint_lists=lists)
