"""The parts of Kubernetes objects that matter here, checked as they are read."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from kubesim.validation import without_nulls

Port = Annotated[int, Field(ge=1, le=65535)]

OptionalPort = Annotated[int, Field(ge=0, le=65535)]
"""0 says nothing, as the zero value of Go does."""

Policy = Literal["", "Cluster", "Local"]
"""A traffic policy; empty says nothing."""


def _strings(value: Any) -> Any:
    """Labels are strings; YAML reads some of them as numbers or truth values."""
    if not isinstance(value, dict):
        return {} if value is None else value
    return {str(key): _yaml_text(item) for key, item in value.items()}


def _yaml_text(item: Any) -> str:
    if isinstance(item, bool):
        return str(item).lower()
    return "" if item is None else str(item)


NODE_ADDRESSES = ("InternalIP", "ExternalIP")
"""Types of those addresses of a node that are its own, the main one's type first."""

Labels = Annotated[dict[str, str], BeforeValidator(_strings)]


class KubernetesObject(BaseModel):
    """Fields that are not named are nobody's business here, and so are passed over, as are those that are null."""

    model_config = ConfigDict(extra="ignore", alias_generator=to_camel, populate_by_name=True)

    _drop_nulls = model_validator(mode="before")(without_nulls)


class OwnerReference(KubernetesObject):
    """Who made an object."""

    kind: str = ""
    name: str = ""


class Metadata(KubernetesObject):
    """What every object has."""

    name: str
    namespace: str = "default"
    labels: Labels = {}
    annotations: Labels = {}
    deletion_timestamp: Any = None
    owner_references: list[OwnerReference] = []


class NodeAddress(KubernetesObject):
    """One address of a node."""

    type: str
    address: str


class NodeSpec(KubernetesObject):
    """Spec of a Node."""

    pod_cidr: str | None = Field(default=None, alias="podCIDR")
    pod_cidrs: list[str] = Field(default=[], alias="podCIDRs")


class NodeStatus(KubernetesObject):
    """Status of a Node."""

    addresses: list[NodeAddress] = []


class NodeObject(KubernetesObject):
    """A Node."""

    metadata: Metadata
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def internal_ip(self) -> str | None:
        """Its first IPv4 address of type InternalIP."""
        found = (one.address for one in self.status.addresses if one.type == "InternalIP" and ":" not in one.address)
        return next(found, None)

    @property
    def ips(self) -> tuple[str, ...]:
        """All its addresses, of either family, internal ones first, each once; the first is the main one."""
        listed = [one.address for kind in NODE_ADDRESSES for one in self.status.addresses if one.type == kind]
        return tuple(dict.fromkeys(listed))

    @property
    def pod_ranges(self) -> tuple[str, ...]:
        """The ranges of its pods' addresses, of either family, the main one first."""
        main = [] if self.spec.pod_cidr is None else [self.spec.pod_cidr]
        return tuple(dict.fromkeys([*main, *self.spec.pod_cidrs]))

    @property
    def pod_range(self) -> str | None:
        """The IPv4 one among them, None if there is none."""
        return next((text for text in self.pod_ranges if ":" not in text), None)


class ContainerPortObject(KubernetesObject):
    """A port of a container."""

    container_port: Port
    name: str = ""
    protocol: str = "TCP"


class EnvironmentVariable(KubernetesObject):
    """An environment variable."""

    name: str
    value: Annotated[str, BeforeValidator(_yaml_text)] = ""


class Container(KubernetesObject):
    """A container."""

    name: str = ""
    ports: list[ContainerPortObject] = []
    env: list[EnvironmentVariable] = []


class PodSpec(KubernetesObject):
    """Spec of a Pod."""

    containers: list[Container] = []
    node_name: str | None = None
    node_selector: Labels = {}
    host_network: bool = False


class Condition(KubernetesObject):
    """A condition of a status."""

    type: str
    status: str


class PodIP(KubernetesObject):
    """One address of a pod."""

    ip: str = ""


class PodStatus(KubernetesObject):
    """Status of a Pod."""

    phase: str | None = None
    pod_ip: str | None = Field(default=None, alias="podIP")
    pod_ips: list[PodIP] = Field(default=[], alias="podIPs")
    conditions: list[Condition] = []

    @property
    def is_ready(self) -> bool:
        """Whether its Ready condition is true; a pod that is only described counts as ready."""
        states = [condition.status for condition in self.conditions if condition.type == "Ready"]
        return states == ["True"] if self.conditions else self.phase != "Pending"

    @property
    def has_network(self) -> bool:
        """Whether it has addresses, or is only described, without a phase: then it will have some."""
        return self.phase is None or bool(self.ips)

    @property
    def ips(self) -> tuple[str, ...]:
        """Its addresses, of either family."""
        return tuple(dict.fromkeys(text for text in (self.pod_ip, *(one.ip for one in self.pod_ips)) if text))


class PodObject(KubernetesObject):
    """A Pod."""

    metadata: Metadata
    spec: PodSpec
    status: PodStatus = PodStatus()


class TemplateMetadata(KubernetesObject):
    """Metadata of a pod template, which has no name."""

    labels: Labels = {}


class PodTemplate(KubernetesObject):
    """A pod template."""

    metadata: TemplateMetadata = TemplateMetadata()
    spec: PodSpec


class ControllerSpec(KubernetesObject):
    """Spec of a Deployment, StatefulSet or DaemonSet."""

    replicas: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    template: PodTemplate


class ControllerObject(KubernetesObject):
    """A Deployment, StatefulSet, ReplicaSet or DaemonSet."""

    kind: str
    metadata: Metadata
    spec: ControllerSpec


class ServicePortObject(KubernetesObject):
    """A port of a Service."""

    port: Port
    target_port: OptionalPort | str = 0
    protocol: str = "TCP"
    name: Annotated[str, BeforeValidator(_yaml_text)] = ""
    node_port: OptionalPort = 0


class ClientIPConfig(KubernetesObject):
    """Settings of client affinity."""

    timeout_seconds: int = Field(default=10800, ge=1, le=86400)


class SessionAffinityConfig(KubernetesObject):
    """Settings of session affinity."""

    client_ip: ClientIPConfig = Field(default=ClientIPConfig(), alias="clientIP")


class ServiceSpec(KubernetesObject):
    """Spec of a Service."""

    type: str = "ClusterIP"
    cluster_ip: str | None = Field(default=None, alias="clusterIP")
    ports: list[ServicePortObject] = []
    selector: Labels = {}
    cluster_ips: list[str] = Field(default=[], alias="clusterIPs")
    ip_families: list[Literal["IPv4", "IPv6"]] = []
    external_ips: list[str] = Field(default=[], alias="externalIPs")
    load_balancer_source_ranges: list[str] = []
    external_traffic_policy: Policy = "Cluster"
    health_check_node_port: OptionalPort = 0
    session_affinity: Literal["", "None", "ClientIP"] = "None"
    publish_not_ready_addresses: bool = False
    session_affinity_config: SessionAffinityConfig = SessionAffinityConfig()
    internal_traffic_policy: Policy = "Cluster"


class LoadBalancerIngress(KubernetesObject):
    """One address that a load balancer has given."""

    ip: str = ""
    ip_mode: Literal["", "VIP", "Proxy"] = "VIP"


class LoadBalancerStatus(KubernetesObject):
    """What a load balancer has given."""

    ingress: list[LoadBalancerIngress] = []


class ServiceStatus(KubernetesObject):
    """Status of a Service."""

    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class ServiceObject(KubernetesObject):
    """A Service."""

    metadata: Metadata
    spec: ServiceSpec
    status: ServiceStatus = ServiceStatus()


class EndpointPort(KubernetesObject):
    """A port of an EndpointSlice or Endpoints object."""

    name: Annotated[str, BeforeValidator(_yaml_text)] = ""
    port: Port | None = None
    protocol: str = "TCP"


class EndpointConditions(KubernetesObject):
    """Conditions of an endpoint; what is not said counts as ready."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ZoneHint(KubernetesObject):
    """A zone that an endpoint is meant for."""

    name: str


class EndpointHints(KubernetesObject):
    """Whom an endpoint is meant for."""

    for_zones: list[ZoneHint] = []


class SliceEndpoint(KubernetesObject):
    """An endpoint of an EndpointSlice."""

    addresses: list[str] = []
    conditions: EndpointConditions = EndpointConditions()
    node_name: str | None = None
    hints: EndpointHints = EndpointHints()


class EndpointSliceObject(KubernetesObject):
    """An EndpointSlice."""

    metadata: Metadata
    address_type: Literal["IPv4", "IPv6", "FQDN"] = "IPv4"
    endpoints: list[SliceEndpoint] = []
    ports: list[EndpointPort] = []


class EndpointAddress(KubernetesObject):
    """An address of an old Endpoints object."""

    ip: str
    node_name: str | None = None


class EndpointSubset(KubernetesObject):
    """Addresses that share ports."""

    addresses: list[EndpointAddress] = []
    not_ready_addresses: list[EndpointAddress] = []
    ports: list[EndpointPort] = []


class EndpointsObject(KubernetesObject):
    """An old Endpoints object; its name is that of its Service."""

    metadata: Metadata
    subsets: list[EndpointSubset] = []
