"""What the modes of kube-proxy share: settings, names, and which endpoints are used."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from kubesim.cluster import Cluster, Endpoint, Service, ServicePort

_Rules = TypeVar("_Rules")


class KubeProxySettings(BaseModel):
    """Settings that every mode of kube-proxy has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    masquerade_all: bool = Field(default=False, description="give all traffic to Services the node's address")
    masquerade_bit: int = Field(default=14, ge=0, le=31, description="bit of the mark that asks for masquerading")
    detect_local: bool = Field(
        default=True, description="tell pods by the cluster's pod range (detectLocalMode: ClusterCIDR)"
    )
    service_order_seed: int | None = Field(
        default=None,
        description="order of Services in the rules: random by this seed, as kube-proxy has it; sorted if not given",
    )

    @property
    def mark(self) -> int:
        """The mark that asks for masquerading."""
        return 1 << self.masquerade_bit


def digest(text: str, length: int) -> str:
    """The start of the base32 SHA-256 of a text, as kube-proxy names chains."""
    needed_bytes = -(-length * 5 // 8)
    return base64.b32encode(hashlib.sha256(text.encode()).digest()[:needed_bytes])[:length].decode()


def ordered_ports(cluster: Cluster, settings: KubeProxySettings) -> list[tuple[str, Service, ServicePort]]:
    """All service ports with a virtual address, in the order in which rules are written."""
    ports = list(cluster.service_ports())
    if settings.service_order_seed is not None:
        seed = settings.service_order_seed
        ports.sort(key=lambda port: hashlib.blake2b(f"{seed}/{port[0]}".encode(), digest_size=8).digest())
    return ports


def usable(endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    """Ready endpoints; if none is, those that still serve while they terminate. Sorted as text, as kube-proxy does."""
    listed = list(endpoints)
    ready = [endpoint for endpoint in listed if endpoint.is_ready]
    chosen = ready or [endpoint for endpoint in listed if endpoint.is_serving and endpoint.is_terminating]
    return sorted(chosen, key=lambda endpoint: f"{endpoint.address}:{endpoint.port}")


def local(endpoints: Iterable[Endpoint], node: str) -> list[Endpoint]:
    """Usable endpoints on a node."""
    return usable(endpoint for endpoint in endpoints if endpoint.node == node)


class ServiceView:
    """Which endpoints each service port has, as one node sees it.

    Nodes differ only where a Service keeps its traffic on the node (``internalTrafficPolicy: Local``); where none does,
    all nodes share one view, named None.

    Parameters
    ----------
    cluster
        The cluster.
    settings
        kube-proxy's settings.
    node
        The node, None for the view that all nodes share.
    """

    def __init__(self, cluster: Cluster, settings: KubeProxySettings, node: str | None) -> None:
        self._cluster = cluster
        self._node = node
        self.ports = ordered_ports(cluster, settings)

    def endpoints(self, service: Service, port: ServicePort) -> list[Endpoint]:
        """The endpoints that traffic to the virtual address is spread over."""
        listed = self._cluster.endpoints(service, port)
        return local(listed, str(self._node)) if service.is_internal_local else usable(listed)

    def has_endpoints(self, service: Service, port: ServicePort) -> bool:
        """Whether there is one; cheaper than asking for all."""
        if self._cluster.is_made_by_number(service):
            return self._cluster.fleet is not None and self._cluster.fleet.endpoints > 0
        return bool(self.endpoints(service, port))

    def is_elsewhere(self, service: Service, port: ServicePort) -> bool:
        """Whether a Service without endpoints here has some on other nodes."""
        return service.is_internal_local and bool(usable(self._cluster.endpoints(service, port)))

    def __iter__(self) -> Iterator[tuple[str, Service, ServicePort]]:
        return iter(self.ports)


class SharedRules(Generic[_Rules]):
    """Rule sets that nodes with the same view of the Services share, made when first asked for.

    Parameters
    ----------
    cluster, settings
        What the views are of.
    make
        Makes a rule set from a view.
    """

    def __init__(self, cluster: Cluster, settings: KubeProxySettings, make: Callable[[ServiceView], _Rules]) -> None:
        self._cluster = cluster
        self._settings = settings
        self._make = make
        self._has_local_services = any(service.is_internal_local for service in cluster.services)
        self._made: dict[str | None, _Rules] = {}

    def of(self, node: str) -> _Rules:
        """The rule set of a node."""
        key = node if self._has_local_services else None
        if key not in self._made:
            self._made[key] = self._make(ServiceView(self._cluster, self._settings, key))
        return self._made[key]
