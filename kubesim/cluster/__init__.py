"""Clusters: what exists, read from manifests or made by size. No time, no packets."""

from __future__ import annotations

from kubesim.cluster.build import build_cluster, read_cluster
from kubesim.cluster.cluster import Cluster
from kubesim.cluster.http_routes import HttpBackend, HttpRoute, HttpRule, best_rule, route_named
from kubesim.cluster.pods import PlannedPod
from kubesim.cluster.records import ContainerPort, Endpoint, Node, OutsideHost, Pod, Service, ServicePort
from kubesim.cluster.spec import ClusterSpec, LoadBalancing

__all__ = [
    "Cluster",
    "ClusterSpec",
    "ContainerPort",
    "Endpoint",
    "HttpBackend",
    "HttpRoute",
    "HttpRule",
    "LoadBalancing",
    "Node",
    "OutsideHost",
    "PlannedPod",
    "Pod",
    "Service",
    "ServicePort",
    "best_rule",
    "build_cluster",
    "read_cluster",
    "route_named",
]
