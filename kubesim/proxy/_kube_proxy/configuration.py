"""Reading a KubeProxyConfiguration, as kube-proxy's ``--config`` takes it (kubeproxy.config.k8s.io/v1alpha1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from kubesim.files import parse_yaml, read_text
from kubesim.validation import validate

if TYPE_CHECKING:
    from pathlib import Path


def _empty_if_none(value: Any) -> Any:
    return {} if value is None else value


def _list_if_none(value: Any) -> Any:
    return [] if value is None else value


class _Section(BaseModel):
    """Fields of v1alpha1 only, as kube-proxy decodes strictly; those typed Any are of no matter here."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)


class _Iptables(_Section):
    masquerade_bit: Annotated[int, Field(ge=0, le=31)] | None = None
    masquerade_all: bool = False
    localhost_node_ports: bool | None = None
    sync_period: Any = None
    min_sync_period: Any = None


class _Nftables(_Section):
    masquerade_bit: Annotated[int, Field(ge=0, le=31)] | None = None
    masquerade_all: bool = False
    sync_period: Any = None
    min_sync_period: Any = None


class _Ipvs(_Section):
    sync_period: Any = None
    min_sync_period: Any = None
    scheduler: str = ""
    exclude_cidrs: Any = Field(default=None, alias="excludeCIDRs")
    strict_arp: bool = Field(default=False, alias="strictARP")
    tcp_timeout: Any = None
    tcp_fin_timeout: Any = None
    udp_timeout: Any = None


class _DetectLocal(_Section):
    bridge_interface: str = ""
    interface_name_prefix: str = ""


class _Conntrack(_Section):
    max_per_core: Any = None
    min: Any = None
    tcp_established_timeout: Any = None
    tcp_close_wait_timeout: Any = None
    tcp_be_liberal: bool = False
    udp_timeout: Any = None
    udp_stream_timeout: Any = None


class KubeProxyConfiguration(_Section):
    """The file; defaults are those of v1.30."""

    api_version: Literal["kubeproxy.config.k8s.io/v1alpha1"]
    kind: Literal["KubeProxyConfiguration"]
    mode: Literal["", "iptables", "nftables", "ipvs"] = ""
    cluster_cidr: str = Field(default="", alias="clusterCIDR")
    detect_local_mode: Literal["", "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"] = ""
    detect_local: Annotated[_DetectLocal, BeforeValidator(_empty_if_none)] = _DetectLocal()
    node_port_addresses: Annotated[list[str], BeforeValidator(_list_if_none)] = []
    iptables: Annotated[_Iptables, BeforeValidator(_empty_if_none)] = _Iptables()
    nftables: Annotated[_Nftables, BeforeValidator(_empty_if_none)] = _Nftables()
    ipvs: Annotated[_Ipvs, BeforeValidator(_empty_if_none)] = _Ipvs()
    conntrack: Annotated[_Conntrack, BeforeValidator(_empty_if_none)] = _Conntrack()
    feature_gates: Annotated[dict[str, bool], BeforeValidator(_empty_if_none)] = {}
    hostname_override: str = ""
    bind_address: str = ""
    client_connection: Any = None
    logging: Any = None
    healthz_bind_address: Any = None
    metrics_bind_address: Any = None
    bind_address_hard_fail: Any = None
    enable_profiling: Any = None
    show_hidden_metrics_for_version: Any = None
    winkernel: Any = None
    windows_run_as_service: Any = None
    oom_score_adj: Any = None
    config_sync_period: Any = None
    port_range: Any = None
    udp_idle_timeout: Any = None

    def settings(self, mode: str) -> dict[str, Any]:
        """What it says, as settings of the proxy of a mode."""
        section = self.nftables if mode == "nftables" else self.iptables
        found: dict[str, Any] = {
            "masquerade_all": section.masquerade_all,
            "cluster_cidr": [text.strip() for text in self.cluster_cidr.split(",") if text.strip()],
            "detect_local_mode": self.detect_local_mode or "ClusterCIDR",
            "bridge_interface": self.detect_local.bridge_interface,
            "interface_name_prefix": self.detect_local.interface_name_prefix,
            "node_port_addresses": self.node_port_addresses,
            "localhost_node_ports": self.iptables.localhost_node_ports is not False,
            "conntrack_tcp_be_liberal": self.conntrack.tcp_be_liberal,
            "feature_gates": self.feature_gates,
        }
        if section.masquerade_bit is not None:
            found["masquerade_bit"] = section.masquerade_bit
        if mode == "ipvs" and self.ipvs.scheduler:
            found["scheduler"] = self.ipvs.scheduler
        return found


def read_configuration(path: Path) -> KubeProxyConfiguration:
    """Read a file.

    Parameters
    ----------
    path
        YAML (or JSON).

    Raises
    ------
    InputError
        If it cannot be read, is of another kind or version, or has a field or value that kube-proxy does not know.
    """
    return validate(KubeProxyConfiguration, parse_yaml(read_text(path), str(path)))
