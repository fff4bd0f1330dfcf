"""The cluster's DNS: its Service, and under which names pods find Services there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from kubesim.cluster import Service

NAMESPACE, SERVICE, PODS = "kube-system", "kube-dns", "coredns"
_PORT = 53
_DOMAIN = "svc.cluster.local"


class DnsSpec(BaseModel):
    """How clients find Services: by queries to kube-dns before each connection."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: Literal["short", "full", "absolute"] = Field(
        default="short",
        description="what clients call a Service: NAME or NAME.NAMESPACE, all of its name, or that and a dot",
    )
    ndots: int = Field(
        default=5, ge=0, le=15, description="names with fewer dots are looked for in the search path first"
    )
    aaaa: bool = Field(default=True, description="whether addresses of IPv6 are asked for besides")
    server: Literal["kube-dns", "node-local"] = Field(
        default="kube-dns", description="who is asked: CoreDNS, or a cache on each node that has all answers already"
    )
    replicas: int = Field(default=2, ge=1, le=1000, description="pods of CoreDNS, where the manifests have none")

    @property
    def is_node_local(self) -> bool:
        """Whether each node has a cache."""
        return self.server == "node-local"


def dns_objects(spec: DnsSpec) -> tuple[dict[str, Any], ...]:
    """The Service kube-dns and its pods, as kubeadm makes them."""
    labels = {"k8s-app": SERVICE}
    ports = [{"name": "dns", "containerPort": _PORT, "protocol": "UDP"}]
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": PODS, "ports": ports}]}}
    return (
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": PODS, "namespace": NAMESPACE},
            "spec": {"replicas": spec.replicas, "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": SERVICE, "namespace": NAMESPACE},
            "spec": {
                "selector": labels,
                "ports": [
                    {"name": "dns", "port": _PORT, "protocol": "UDP", "targetPort": _PORT},
                    {"name": "dns-tcp", "port": _PORT, "protocol": "TCP", "targetPort": _PORT},
                ],
            },
        },
    )


def names_asked(name: str, namespace: str, ndots: int) -> list[str]:
    """The names that a resolver tries in turn, as pods' resolv.conf tells it (resolv.conf(5)).

    Parameters
    ----------
    name
        What the program says.
    namespace
        Where its pod is.
    ndots
        With fewer dots than that, the search path comes first.
    """
    if name.endswith("."):
        return [name.rstrip(".")]
    searched = [f"{name}.{domain}" for domain in (f"{namespace}.{_DOMAIN}", _DOMAIN, "cluster.local")]
    return [name, *searched] if name.count(".") >= ndots else [*searched, name]


def lookups(spec: DnsSpec, service: Service, namespace: str) -> int:
    """How many names are asked for until a Service is found, the one that is found included."""
    found = f"{service.name}.{service.namespace}.{_DOMAIN}"
    short = service.name if service.namespace == namespace else f"{service.name}.{service.namespace}"
    name = {"short": short, "full": found, "absolute": f"{found}."}[spec.name]
    return names_asked(name, namespace, spec.ndots).index(found) + 1
