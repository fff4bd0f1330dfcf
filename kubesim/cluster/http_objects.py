"""Ingress, Gateway and HTTPRoute objects: the parts that say where a request for a host and path goes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from kubesim.cluster.objects import KubernetesObject, Metadata, Port

PathKind = Literal["Exact", "Prefix", "ImplementationSpecific"]

CLASS_ANNOTATION = "kubernetes.io/ingress.class"
"""How an Ingress names its controller where it has no ``ingressClassName``."""


class BackendPort(KubernetesObject):
    """A port of a Service, by number or name."""

    number: Port | None = None
    name: str = ""


class ServiceBackend(KubernetesObject):
    """The Service behind a path, as networking.k8s.io/v1 says it."""

    name: str
    port: BackendPort = BackendPort()


class IngressBackend(KubernetesObject):
    """What is behind a path; None where it is something else than a Service."""

    service: ServiceBackend | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_old_form(cls, value: Any) -> Any:
        """``serviceName`` and ``servicePort`` of v1beta1, as v1 says them."""
        if not isinstance(value, dict) or "serviceName" not in value:
            return value
        port = value.get("servicePort")
        is_number = isinstance(port, int) or (isinstance(port, str) and port.isdecimal())
        said = {"number": port} if is_number else {"name": port}
        return {"service": {"name": value["serviceName"], "port": said}}


class IngressPath(KubernetesObject):
    """One path of a rule; old objects have no type of path, and leave it to their controller."""

    path: str = ""
    path_type: PathKind = "ImplementationSpecific"
    backend: IngressBackend

    @field_validator("path")
    @classmethod
    def _is_absolute(cls, path: str) -> str:
        if path and not path.startswith("/"):
            raise ValueError(f"{path!r} does not begin with /")
        return path


class IngressPaths(KubernetesObject):
    """The paths of a rule."""

    paths: list[IngressPath] = Field(default=[])


class IngressRule(KubernetesObject):
    """The paths of one host; an empty host stands for all."""

    host: str = ""
    http: IngressPaths = IngressPaths()


class IngressTls(KubernetesObject):
    """Hosts that are served with TLS."""

    hosts: list[str] = Field(default=[])


class IngressSpec(KubernetesObject):
    """Spec of an Ingress; ``backend`` is what old objects call the default one."""

    ingress_class_name: str = ""
    default_backend: IngressBackend | None = None
    backend: IngressBackend | None = None
    rules: list[IngressRule] = Field(default=[])
    tls: list[IngressTls] = Field(default=[])


class IngressObject(KubernetesObject):
    """An Ingress of networking.k8s.io/v1 or of one of the two older groups."""

    metadata: Metadata
    spec: IngressSpec = IngressSpec()

    @property
    def controller_class(self) -> str:
        """The class of controllers that it is for; empty if it does not say."""
        return self.spec.ingress_class_name or self.metadata.annotations.get(CLASS_ANNOTATION, "")


class GatewayListener(KubernetesObject):
    """A port on which a Gateway listens, for all hosts or for one."""

    name: str
    port: Port
    protocol: str
    hostname: str = ""


class GatewaySpec(KubernetesObject):
    """Spec of a Gateway."""

    gateway_class_name: str
    listeners: Annotated[list[GatewayListener], Field(min_length=1)]


class GatewayObject(KubernetesObject):
    """A Gateway."""

    metadata: Metadata
    spec: GatewaySpec


class ParentReference(KubernetesObject):
    """The Gateway that a route hangs on, or one of its listeners."""

    kind: str = "Gateway"
    name: str
    namespace: str = ""
    section_name: str = ""


class PathMatch(KubernetesObject):
    """A condition on the path."""

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: str = "/"


class HeaderMatch(KubernetesObject):
    """A condition on a header or on a parameter of the query."""

    name: str


class RouteMatch(KubernetesObject):
    """Conditions that hold together."""

    path: PathMatch = PathMatch()
    method: str = ""
    headers: list[HeaderMatch] = Field(default=[])
    query_params: list[HeaderMatch] = Field(default=[])


class BackendReference(KubernetesObject):
    """A Service among those that share a rule's requests."""

    kind: str = "Service"
    name: str
    namespace: str = ""
    port: Port | None = None
    weight: Annotated[int, Field(ge=0, le=1_000_000)] = 1


class RouteRule(KubernetesObject):
    """Matches, one of which is enough, and where such requests go."""

    matches: list[RouteMatch] = Field(default=[])
    backend_refs: list[BackendReference] = Field(default=[])


class HttpRouteSpec(KubernetesObject):
    """Spec of an HTTPRoute; a rule without matches is for all paths."""

    parent_refs: list[ParentReference] = Field(default=[])
    hostnames: list[str] = Field(default=[])
    rules: list[RouteRule] = Field(default=[RouteRule()])


class HttpRouteObject(KubernetesObject):
    """An HTTPRoute."""

    metadata: Metadata
    spec: HttpRouteSpec = HttpRouteSpec()
