"""Small clusters, brought up, and connections through them."""

from __future__ import annotations

import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from kubesim.cluster import Cluster, ClusterSpec, Node, PlannedPod, build_cluster
from kubesim.cni import cni_class, cni_names
from kubesim.errors import InputError
from kubesim.kernel import socket
from kubesim.kernel.packet import Packet
from kubesim.kernel.walk import Chance, Path
from kubesim.proxy import proxy_class, proxy_names
from kubesim.scenario.deployment import Deployment

_DUMPS = tempfile.TemporaryDirectory(prefix="kubesim-test-")

NODE_CIDR = "192.168.0.0/16"

ROUTED = {"name": "calico-bgp", "has_policy_chains": False}
"""Pods routed by veths, and no rules but the proxy's."""


def cluster_of(text: str, tmp_path: FilePath, **spec: Any) -> Cluster:
    """A cluster from the text of a manifest."""
    file = tmp_path / "manifest.yaml"
    file.write_text(text)
    return build_cluster(ClusterSpec(manifests=[file], **spec))


def sized_cluster(
    services: int = 3, endpoints: int = 2, clients: tuple[str, ...] = ("node-1",), **spec: Any
) -> Cluster:
    """A cluster by size, with a client pod on each of the named nodes."""
    planned = [PlannedPod("default", f"client-{n + 1}", "client", node=node) for n, node in enumerate(clients)]
    return build_cluster(ClusterSpec(services=services, endpoints=endpoints, **{"nodes": 2, **spec}), planned)


def deploy(cluster: Cluster, cni: str | dict[str, Any], proxy: str, **settings: Any) -> Deployment:
    """Bring a cluster up; settings are the proxy's, the plugin's come with its name."""
    chosen = {"name": cni} if isinstance(cni, str) else dict(cni)
    cni_plugin, proxy_plugin = cni_class(chosen.pop("name")), proxy_class(proxy)
    if proxy == "dump" and not settings:
        settings = {"node_rules": {node.name: dump_of(cluster, node) for node in cluster.nodes}}
    return Deployment(
        cluster,
        cni_plugin(cluster, cni_plugin.settings_model(**chosen), 1500),
        proxy_plugin(cluster, proxy_plugin.settings_model(**settings)),
        NODE_CIDR,
        1500,
    )


def refusal(cni: str, proxy: str, nodes: int = 1) -> str | None:
    """Why a proxy does not go with a CNI plugin, None if it does."""
    try:
        deploy(sized_cluster(services=1, endpoints=1, nodes=nodes), cni, proxy).host("node-1")
    except InputError as error:
        return str(error)
    return None


def working_pairs(nodes: int = 1) -> list[tuple[str, str]]:
    """CNI plugins and proxies that go together, on so many nodes."""
    return [(cni, proxy) for cni in cni_names() for proxy in proxy_names() if refusal(cni, proxy, nodes) is None]


def dump_of(cluster: Cluster, node: Node) -> FilePath:
    """A file with what iptables-save would print on a node with kube-proxy in iptables mode."""
    plugin = proxy_class("iptables")
    file = FilePath(_DUMPS.name) / f"{uuid.uuid4().hex}.iptables-save"
    file.write_text(plugin(cluster, plugin.settings_model()).text(node, "save", "ipv4"))
    return file


@dataclass(frozen=True)
class Conversation:
    """A connection's first packet, its reply, a second packet, and its reply; as far as they came."""

    first: Path
    first_reply: Path | None = None
    established: Path | None = None
    reply: Path | None = None


def converse(
    deployment: Deployment,
    source: str,
    target: str,
    port: int,
    protocol: str = "tcp",
    luck: float = 0.0,
    source_port: int = 40_000,
) -> Conversation:
    """Open a connection from an address to another, and use it."""
    paths: list[Path] = []
    for _ in range(2):
        packet = Packet(source, target, protocol, source_port, port, 64, is_opening=not paths)
        request = send(deployment, source, packet, luck)
        paths.append(request)
        if request.delivered_to is None:
            break
        arrived = request.packet.flow.reversed()
        paths.append(send(deployment, arrived.source, Packet(*arrived, payload_bytes=64), luck))
    return Conversation(*paths)


def send(deployment: Deployment, source: str, packet: Packet, luck: float = 0.0) -> Path:
    """Send one packet from the namespace that an address belongs to."""
    namespace = deployment.namespace_at(source)
    return socket.send(namespace, packet, chance=Chance(luck), materialise=deployment.materialise)


def rules(path: Path | None, host: str, place: str) -> int:
    """Rules that a packet was held against at one host, table and hook."""
    assert path is not None
    return path.rules_tested.get((host, place), 0)


def operations(path: Path | None) -> dict[str, int]:
    """How often each operation was done on a packet, by name."""
    assert path is not None
    found: dict[str, int] = {}
    for hop in path.hops:
        found[hop.operation] = found.get(hop.operation, 0) + 1
    return found
