"""What the modes of kube-proxy share: settings, names, and which endpoints are used (Kubernetes v1.30.3)."""

from __future__ import annotations

from kubesim.proxy._kube_proxy.settings import (
    KUBE_PROXY_SCHEDULERS,
    KubeProxySettings,
    LocalDetector,
    checked_scheduler,
)
from kubesim.proxy._kube_proxy.view import (
    Endpoints,
    NodeView,
    PortView,
    SharedRules,
    digest,
    node_port_ips,
)

__all__ = [
    "KUBE_PROXY_SCHEDULERS",
    "Endpoints",
    "KubeProxySettings",
    "LocalDetector",
    "NodeView",
    "PortView",
    "SharedRules",
    "checked_scheduler",
    "digest",
    "node_port_ips",
]
