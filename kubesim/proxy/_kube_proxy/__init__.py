"""What the modes of kube-proxy share: settings, names, and which endpoints are used (Kubernetes v1.30.3)."""

from __future__ import annotations

from kubesim.proxy._kube_proxy.settings import KubeProxySettings, LocalDetector
from kubesim.proxy._kube_proxy.view import (
    Endpoints,
    NodeView,
    PortView,
    SharedRules,
    digest,
    node_port_ips,
)

__all__ = [
    "Endpoints",
    "KubeProxySettings",
    "LocalDetector",
    "NodeView",
    "PortView",
    "SharedRules",
    "digest",
    "node_port_ips",
]
