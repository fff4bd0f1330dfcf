"""Cilium in place of kube-proxy: Services are maps, which programs at sockets, pods' devices and the card look up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from kubesim.errors import InputError, did_you_mean
from kubesim.kernel.bpf.services import Services
from kubesim.kernel.bpf.sockets import SocketPrograms
from kubesim.proxy import RuleUpdate
from kubesim.proxy._cilium_maps import ServiceMaps
from kubesim.proxy._kube_proxy import KubeProxySettings, NodeView, SharedRules

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node
    from kubesim.kernel.namespace import Namespace
    from kubesim.proxy._kube_proxy.settings import Family


class Settings(BaseModel):
    """Values of Cilium's Helm chart, with ``kubeProxyReplacement`` true."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    socket_lb: bool = Field(
        default=True,
        description="whether sockets of pods are balanced as they connect; if not, their packets are, one by one "
        "(socketLB.hostNamespaceOnly)",
    )
    mode: Literal["snat", "dsr", "hybrid"] = Field(
        default="snat",
        description="how packets from outside get to another node's pods: snat, so that answers come back the same "
        "way; dsr, so that they do not; hybrid is dsr for TCP (loadBalancer.mode)",
    )
    algorithm: Literal["random", "maglev"] = Field(
        default="random", description="how an endpoint is chosen for clients outside (loadBalancer.algorithm)"
    )


class Plugin:
    """Fills the maps of nodes that Cilium wires."""

    settings_model: ClassVar[type[BaseModel]] = Settings
    is_headless: ClassVar[bool] = False
    tells_pods_apart: ClassVar[bool] = False
    forms: ClassVar[tuple[str, ...]] = ("services",)

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._given = replace(cluster, fleet=None)
        self._shared = SharedRules(self._given, KubeProxySettings(), self._maps)

    def install(self, namespace: Namespace, node: Node) -> None:
        """Put maps in place of those that the node has, and programs at its sockets."""
        bpf = namespace.host.bpf
        if bpf is None:
            raise InputError(
                f"proxy: cilium-ebpf needs programs at the devices of pods, which {node.name} has not: "
                "it goes with cni: cilium only"
            )
        if self._settings.mode != "snat" and namespace.encapsulation_sockets:
            raise InputError(
                f"proxy.mode: {self._settings.mode} needs nodes that route the pods' packets: "
                "it goes with cni: {name: cilium, routing: native}"
            )
        bpf.services = Services(self._shared.of(node).service, is_at_sockets=self._settings.socket_lb, is_at_card=True)
        only_host = None if self._settings.socket_lb else frozenset({namespace.name})
        bpf.sockets = SocketPrograms(bpf.services, only_host)

    def text(self, node: Node, form: str, family: Family) -> str:
        """The Services of a node, as ``cilium-dbg service list`` prints them."""
        if form not in self.forms:
            raise InputError(f"there is no form {form!r} of cilium-ebpf: {did_you_mean(form, self.forms)}")
        return self._maps_of(node, family).text(node)

    def update(self, node: Node, before: Plugin | None, *, is_partial: bool) -> RuleUpdate:  # noqa: ARG002 - a protocol
        """The elements that the agent writes after a change: only those that differ, or all where it starts."""
        now = self._maps_of(node).elements(node)
        old = {} if before is None else before._maps_of(node).elements(node)  # noqa: SLF001 - of the same class
        written = [one for key, one in now.items() if old.get(key) != one]
        removed = [one for key, one in old.items() if key not in now]
        count = sum(one.elements for one in (*written, *removed))
        text_bytes = sum(one.text_bytes for one in (*written, *removed))
        return RuleUpdate(count, text_bytes, {"bpf_map_write": count})

    def _maps_of(self, node: Node, family: Family = "ipv4") -> ServiceMaps:
        return self._maps(NodeView(self._given, KubeProxySettings(), node, family))

    def _maps(self, view: NodeView) -> ServiceMaps:
        uses_dsr = {"snat": (), "dsr": ("tcp", "udp", "sctp"), "hybrid": ("tcp",)}[self._settings.mode]
        return ServiceMaps(view, self._cluster.fleet, uses_dsr, has_maglev=self._settings.algorithm == "maglev")
