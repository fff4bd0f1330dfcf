"""Settings that every mode of kube-proxy has, and how it tells traffic of its node's pods from other traffic."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from kubesim.errors import did_you_mean
from kubesim.kernel.ipvs.schedulers import SCHEDULERS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubesim.cluster import Cluster, Node

Family = Literal["ipv4", "ipv6"]

DetectLocalMode = Literal["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"]


KUBE_PROXY_SCHEDULERS = tuple(name for name in SCHEDULERS if name != "twos")
"""Schedulers of IPVS that kube-proxy takes; it does not know the kernel's latest."""


def checked_scheduler(name: str) -> str:
    """The same name, if it is of a scheduler that kube-proxy takes."""
    if name not in KUBE_PROXY_SCHEDULERS:
        raise ValueError(f"there is no scheduler {name!r}: {did_you_mean(name, KUBE_PROXY_SCHEDULERS)}")
    return name


def family_of(address: str) -> Family:
    """The family of an address or a range."""
    return "ipv6" if ":" in address else "ipv4"


class KubeProxySettings(BaseModel):
    """Settings that every mode of kube-proxy has, named as in KubeProxyConfiguration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    masquerade_all: bool = Field(default=False, description="give all traffic to Services the node's address")
    masquerade_bit: int = Field(default=14, ge=0, le=31, description="bit of the mark that asks for masquerading")
    random_fully: bool = Field(
        default=True, description="masquerade to random ports; not so with iptables before 1.6.2"
    )
    detect_local_mode: DetectLocalMode = Field(
        default="ClusterCIDR", description="what tells traffic of pods from that of others"
    )
    cluster_cidr: list[str] | None = Field(
        default=None,
        description="ranges of all pods, for detect_local_mode ClusterCIDR; those of the cluster if not given, and "
        "with an empty list nothing is told apart",
    )
    bridge_interface: str = Field(default="", description="for detect_local_mode BridgeInterface")
    interface_name_prefix: str = Field(default="", description="for detect_local_mode InterfaceNamePrefix")
    node_port_addresses: list[str] = Field(
        default=[], description="ranges of the node's addresses that node ports are on; all if empty"
    )
    localhost_node_ports: bool = Field(default=True, description="node ports on 127.0.0.1 too (iptables mode)")
    conntrack_tcp_be_liberal: bool = Field(
        default=False, description="do not drop packets that conntrack finds invalid"
    )
    feature_gates: dict[str, bool] = Field(
        default={}, description="LoadBalancerIPMode, TopologyAwareHints, ServiceTrafficDistribution"
    )
    service_order_seed: int | None = Field(
        default=None,
        description="order of Services in the rules: random by this seed, as kube-proxy has it; sorted if not given",
    )

    @field_validator("node_port_addresses", "cluster_cidr")
    @classmethod
    def _are_ranges(cls, ranges: list[str] | None) -> list[str] | None:
        for text in ranges or ():
            try:
                ipaddress.ip_network(text, strict=False)
            except ValueError:
                raise ValueError(f"{text!r} is not a range of addresses") from None
        return ranges

    @model_validator(mode="after")
    def _has_what_its_mode_needs(self) -> Self:
        for mode, field in (("BridgeInterface", "bridge_interface"), ("InterfaceNamePrefix", "interface_name_prefix")):
            if self.detect_local_mode == mode and not getattr(self, field):
                raise ValueError(f"detect_local_mode {mode} needs {field}")
        return self

    @property
    def mark(self) -> int:
        """The mark that asks for masquerading."""
        return 1 << self.masquerade_bit

    def has_gate(self, name: str, *, default: bool) -> bool:
        """Whether a feature gate is on."""
        return self.feature_gates.get(name, default)

    def has_localhost_node_ports(self, family: Family) -> bool:
        """Whether node ports are on the loopback address: never for IPv6, nor where the ranges leave it out."""
        if family == "ipv6" or not self.localhost_node_ports:
            return False
        ranges = [text for text in self.node_port_addresses if family_of(text) == "ipv4"]
        loopback = ipaddress.IPv4Address("127.0.0.1")
        return not ranges or any(loopback in ipaddress.IPv4Network(text, strict=False) for text in ranges)

    def detector(self, cluster: Cluster, node: Node, family: Family) -> LocalDetector | None:
        """What tells traffic of pods from that of others on a node, None if nothing does.

        Parameters
        ----------
        cluster, node
            Where it runs.
        family
            Of the rules it is for.
        """
        match self.detect_local_mode:
            case "BridgeInterface":
                return LocalDetector("device", self.bridge_interface, f"iif {{}}{self.bridge_interface}")
            case "InterfaceNamePrefix":
                prefix = self.interface_name_prefix
                return LocalDetector("device", f"{prefix}+", f"iifname {{}}{prefix}*")
            case "NodeCIDR":
                ranges: Iterable[str] = node.pod_cidrs or (node.pod_cidr,)
            case _:
                ranges = (cluster.pod_cidr,) if self.cluster_cidr is None else self.cluster_cidr
        found = next((text for text in ranges if family_of(text) == family), None)
        ip = "ip6" if family == "ipv6" else "ip"
        return None if found is None else LocalDetector("source", found, f"{ip} saddr {{}}{found}")


@dataclass(frozen=True, slots=True)
class LocalDetector:
    """How rules say "from a pod" (pkg/proxy/util/localdetector.go).

    Parameters
    ----------
    kind
        Whether the source address or the device is looked at.
    value
        The range, or the device's name, which may end in ``+``.
    nft
        The same for nftables, with a place for ``!= ``.
    """

    kind: Literal["source", "device"]
    value: str
    nft: str

    @property
    def if_local(self) -> str:
        """Arguments of iptables that match a pod's packets."""
        return f"-{'s' if self.kind == 'source' else 'i'} {self.value}"

    @property
    def if_not_local(self) -> str:
        """Arguments of iptables that match the packets of others."""
        return f"! {self.if_local}"

    @property
    def nft_if_local(self) -> str:
        """Expression of nftables that matches a pod's packets."""
        return self.nft.format("")

    @property
    def nft_if_not_local(self) -> str:
        """Expression of nftables that matches the packets of others."""
        return self.nft.format("!= ")
