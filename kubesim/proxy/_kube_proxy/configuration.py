"""Reading a KubeProxyConfiguration, as kube-proxy's ``--config`` takes it (kubeproxy.config.k8s.io/v1alpha1)."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from kubesim.errors import InputError, did_you_mean
from kubesim.files import parse_yaml, read_text
from kubesim.proxy._kube_proxy.settings import checked_scheduler, family_of
from kubesim.validation import validate, without_nulls

if TYPE_CHECKING:
    from pathlib import Path

    from kubesim.files import YamlDocument

_KEY = "config.conf"

RULE_GATES = ("LoadBalancerIPMode", "ServiceTrafficDistribution", "TopologyAwareHints")
"""Feature gates that rules follow from."""

_DURATION = re.compile(r"([-+]?)((?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+|[-+]?0")
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DEFAULT_SYNC_PERIOD_S = 30.0


def _seconds(text: Any) -> float:
    """A duration as Go writes it, such as ``1h30m``, in seconds; none may be negative here."""
    if not isinstance(text, str) or not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration, such as '30s'")
    if text.startswith("-"):
        raise ValueError(f"{text!r} is negative")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))


def _checked_range(text: str) -> str:
    """A range with its length, as kube-proxy asks for."""
    try:
        if "/" in text:
            ipaddress.ip_network(text, strict=False)
            return text
    except ValueError:
        pass
    raise ValueError(f"{text!r} is not a range of addresses, such as '10.244.0.0/16'")


def _checked_cluster_cidr(text: str) -> str:
    """One range, or one of each family with a comma between them."""
    ranges = [_checked_range(part) for part in text.split(",")] if text else []
    if len({family_of(one) for one in ranges}) < len(ranges):
        raise ValueError(f"{text!r} has two ranges of one family: one range, or one of IPv4 and one of IPv6 is wanted")
    return text


def _checked_address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text)) if text else ""
    except ValueError:
        raise ValueError(f"{text!r} is not an address") from None


def _checked_scheduler(name: str) -> str:
    return checked_scheduler(name) if name else name


def _host_name(text: str) -> str:
    """The name of a node as kube-proxy asks for it."""
    return text.strip().lower()


Duration = Annotated[float, BeforeValidator(_seconds)]
Cidr = Annotated[str, AfterValidator(_checked_range)]


class _Section(BaseModel):
    """Fields of v1alpha1 only, as kube-proxy decodes strictly; those typed Any are of no matter here."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    _drop_nulls = model_validator(mode="before")(without_nulls)


class _Syncs(_Section):
    """How often a mode writes its rules; 0 stands for the default."""

    sync_period: Duration = 0.0
    min_sync_period: Duration = 0.0

    @model_validator(mode="after")
    def _are_in_order(self) -> Self:
        if self.min_sync_period > (self.sync_period or _DEFAULT_SYNC_PERIOD_S):
            raise ValueError("minSyncPeriod is longer than syncPeriod")
        return self


class _Iptables(_Syncs):
    masquerade_bit: Annotated[int, Field(ge=0, le=31)] | None = None
    masquerade_all: bool = False
    localhost_node_ports: bool | None = None


class _Nftables(_Syncs):
    masquerade_bit: Annotated[int, Field(ge=0, le=31)] | None = None
    masquerade_all: bool = False


class _Ipvs(_Syncs):
    scheduler: Annotated[str, AfterValidator(_checked_scheduler)] = ""
    exclude_cidrs: Any = Field(default=None, alias="excludeCIDRs")
    strict_arp: bool = Field(default=False, alias="strictARP")
    tcp_timeout: Duration = 0.0
    tcp_fin_timeout: Duration = 0.0
    udp_timeout: Duration = 0.0


class _DetectLocal(_Section):
    bridge_interface: str = ""
    interface_name_prefix: str = ""


class _Conntrack(_Section):
    max_per_core: Any = None
    min: Any = None
    tcp_established_timeout: Duration = 0.0
    tcp_close_wait_timeout: Duration = 0.0
    tcp_be_liberal: bool = False
    udp_timeout: Duration = 0.0
    udp_stream_timeout: Duration = 0.0


class KubeProxyConfiguration(_Section):
    """The file; defaults are those of v1.30."""

    api_version: Literal["kubeproxy.config.k8s.io/v1alpha1"]
    kind: Literal["KubeProxyConfiguration"]
    mode: Literal["", "iptables", "nftables", "ipvs"] = ""
    cluster_cidr: Annotated[str, AfterValidator(_checked_cluster_cidr)] = Field(default="", alias="clusterCIDR")
    detect_local_mode: Literal["", "ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"] = ""
    detect_local: _DetectLocal = _DetectLocal()
    node_port_addresses: list[Cidr] = []
    iptables: _Iptables = _Iptables()
    nftables: _Nftables = _Nftables()
    ipvs: _Ipvs = _Ipvs()
    conntrack: _Conntrack = _Conntrack()
    feature_gates: dict[str, bool] = {}
    hostname_override: Annotated[str, AfterValidator(_host_name)] = ""
    bind_address: Annotated[str, AfterValidator(_checked_address)] = ""
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
    config_sync_period: Duration = 0.0
    port_range: Any = None
    udp_idle_timeout: Any = None

    @property
    def idle_gates(self) -> list[str]:
        """Feature gates it sets that no rule here follows from: others of v1.30, or misspelt ones."""
        return sorted(set(self.feature_gates) - set(RULE_GATES))

    def settings(self, mode: str) -> dict[str, Any]:
        """What it says, as settings of the proxy of a mode."""
        section = self.nftables if mode == "nftables" else self.iptables
        found: dict[str, Any] = {
            "masquerade_all": section.masquerade_all,
            "cluster_cidr": self.cluster_cidr.split(",") if self.cluster_cidr else [],
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
        YAML (or JSON); or the ConfigMap that holds it as ``config.conf``, as kubeadm makes it.

    Raises
    ------
    InputError
        If it cannot be read, is of another kind or version, or has a field or value that kube-proxy does not know.
    """
    document = parse_yaml(read_text(path), str(path))
    if isinstance(document.data, dict) and document.data.get("kind") == "ConfigMap":
        document = _inside(document)
    if document.data is None:
        raise InputError(
            f"{document.place} is empty: a KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) is wanted"
        )
    return validate(KubeProxyConfiguration, document)


def _inside(config_map: YamlDocument) -> YamlDocument:
    """The configuration in a ConfigMap."""
    held = config_map.data.get("data")
    texts = held if isinstance(held, dict) else {}
    if not isinstance(texts.get(_KEY), str):
        raise config_map.error(("data",), f"the ConfigMap holds no {_KEY!r}: {did_you_mean(_KEY, map(str, texts))}")
    return parse_yaml(texts[_KEY], f"{config_map.place}, {_KEY}")
