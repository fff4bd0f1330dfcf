"""Antrea with Geneve: pods are ports of Open vSwitch, which sends packets to other nodes through a tunnel."""

from __future__ import annotations

import ipaddress
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from kubesim.cni._antrea_pipeline import GATEWAY, TUNNEL, Pipeline, Servers
from kubesim.cni._iptables import append_rules
from kubesim.errors import InputError
from kubesim.kernel.address import Prefix
from kubesim.kernel.geneve import GENEVE_OVERHEAD_BYTES, GENEVE_PORT, MOST_OPTION_BYTES, Geneve
from kubesim.kernel.netfilter.ipset import IpSet
from kubesim.kernel.openvswitch import Datapath, InternalPort
from kubesim.kernel.route import Route
from kubesim.kernel.veth import veth_pair
from kubesim.kernel.wireguard import WIREGUARD_OVER_IPV6_OVERHEAD_BYTES, Wireguard

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node, Pod, Service, ServicePort
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic

BRIDGE = "br-int"
WIREGUARD_DEVICE = "antrea-wg0"

_TUNNEL_MTU = 65000
"""What ovs-vswitchd gives to its tunnel devices (dpif-netlink-rtnl.c)."""

_GLOBAL_MAC = "aa:bb:cc:dd:ee:ff"
"""The gateways of all other nodes have this address for the host (``GlobalVMAC``)."""

_POD_SET = "ANTREA-POD-IP"

_RULES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "raw": (
        ("ANTREA-PREROUTING", "ANTREA-OUTPUT"),
        (
            '-A PREROUTING -m comment --comment "Antrea: jump to Antrea prerouting rules" -j ANTREA-PREROUTING',
            '-A OUTPUT -m comment --comment "Antrea: jump to Antrea output rules" -j ANTREA-OUTPUT',
            (
                '-A ANTREA-PREROUTING -m comment --comment "Antrea: do not track incoming encapsulation packets" '
                "-m udp -p udp --dport {port} -m addrtype --dst-type LOCAL -j NOTRACK"
            ),
            (
                '-A ANTREA-OUTPUT -m comment --comment "Antrea: do not track outgoing encapsulation packets" '
                "-m udp -p udp --dport {port} -m addrtype --src-type LOCAL -j NOTRACK"
            ),
        ),
    ),
    "filter": (
        ("ANTREA-FORWARD",),
        (
            '-A FORWARD -m comment --comment "Antrea: jump to Antrea forwarding rules" -j ANTREA-FORWARD',
            '-A ANTREA-FORWARD -m comment --comment "Antrea: accept packets from local Pods" -i {gateway} -j ACCEPT',
            '-A ANTREA-FORWARD -m comment --comment "Antrea: accept packets to local Pods" -o {gateway} -j ACCEPT',
        ),
    ),
    "nat": (
        ("ANTREA-POSTROUTING",),
        (
            '-A POSTROUTING -m comment --comment "Antrea: jump to Antrea postrouting rules" -j ANTREA-POSTROUTING',
            (
                '-A ANTREA-POSTROUTING -m comment --comment "Antrea: masquerade Pod to external packets" '
                "-s {range} -m set ! --match-set {set} dst ! -o {gateway} -j MASQUERADE"
            ),
            (
                '-A ANTREA-POSTROUTING -m comment --comment "Antrea: masquerade LOCAL traffic" -o {gateway} '
                "-m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL "
                "-j MASQUERADE --random-fully"
            ),
        ),
    ),
}
"""Own chains and rules of each table (pkg/agent/route/route_linux.go), without those of egress gateways."""


class Settings(BaseModel):
    """Settings of Antrea's agent, and how often its caches are missed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    port: int = Field(default=GENEVE_PORT, ge=1, le=65535, description="UDP port of the tunnel (tunnelPort)")
    option_bytes: int = Field(
        default=0, ge=0, le=MOST_OPTION_BYTES, multiple_of=4, description="length of Geneve's options in each packet"
    )
    encryption: Literal["none", "wireguard"] = Field(
        default="none",
        description="wireguard sends packets to pods of other nodes through the host, encrypted, in no other tunnel "
        "(trafficEncryptionMode)",
    )
    antrea_proxy: bool = Field(
        default=False,
        description="Open vSwitch translates pods' packets to Services, as Antrea does by default; else the host does, "
        "to which they go through antrea-gw0, as the scenario's proxy says",
    )
    upcall_ratio: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="share of connections that find no megaflows and go to user space; megaflows are wildcarded, and "
        "stay 10 s after their last use, so that connections between pods that talk find them",
    )


class Plugin:
    """Writes ``br-int`` with its gateway port and tunnel, a route for each other node's range, and Antrea's rules."""

    settings_model: ClassVar[type[BaseModel]] = Settings

    def __init__(self, cluster: Cluster, settings: Settings, underlay_mtu: int) -> None:
        self._cluster = cluster
        self._settings = settings
        self._pipelines: dict[str, Pipeline] = {}
        self._is_encrypted = settings.encryption == "wireguard"
        of_geneve = GENEVE_OVERHEAD_BYTES + settings.option_bytes
        self.pod_mtu = underlay_mtu - (WIREGUARD_OVER_IPV6_OVERHEAD_BYTES if self._is_encrypted else of_geneve)
        self.upcall_ratio = settings.upcall_ratio
        if settings.antrea_proxy:
            _check_affinity(cluster)

    def install(self, namespace: Namespace, node: Node, nic: Nic) -> None:
        """Make the bridge and its ports (pkg/agent/agent.go), routes, and rules (pkg/agent/route/route_linux.go)."""
        settings, others = self._settings, [one for one in self._cluster.nodes if one is not node]
        namespace.is_forwarding = True
        gateway = _gateway_address(node)
        self._pipelines[node.name] = Pipeline(
            node,
            gateway,
            {} if self._is_encrypted else {Prefix(other.pod_cidr): other.address for other in others},
            Prefix(self._cluster.service_cidr),
            lambda *place: self._servers(node, *place),
        )
        datapath = Datapath(namespace, BRIDGE, self._pipelines[node.name])
        port = InternalPort(namespace, GATEWAY, self.pod_mtu, datapath)
        namespace.add_address(port, f"{gateway}/{ipaddress.IPv4Network(node.pod_cidr).prefixlen}")
        local_address = nic.addresses[0]
        tunnel = Geneve(namespace, TUNNEL, _TUNNEL_MTU, local_address, settings.port, settings.option_bytes)
        datapath.add_port(tunnel)
        if self._is_encrypted:
            self._encrypt(namespace, others, local_address)
        else:
            for other in others:
                namespace.routes.add(Route(Prefix(other.pod_cidr), port, via=_gateway_address(other)))
                namespace.neighbours[GATEWAY, _gateway_address(other)] = _GLOBAL_MAC
        namespace.ipsets[_POD_SET] = self._pod_set
        for table, (chains, lines) in _RULES.items():
            words = {"port": settings.port, "gateway": GATEWAY, "range": node.pod_cidr, "set": _POD_SET}
            append_rules(namespace, table, chains, [line.format(**words) for line in lines])

    def _encrypt(self, namespace: Namespace, others: list[Node], local_address: str) -> None:
        """Route other nodes' pods into a WireGuard device (pkg/agent/wireguard); nodes' own packets may come by it."""
        device = Wireguard(namespace, WIREGUARD_DEVICE, self.pod_mtu, local_address)
        for other in others:
            device.allow(Prefix(other.pod_cidr), other.address)
            device.allow(Prefix(other.address), other.address)
            namespace.routes.add(Route(Prefix(other.pod_cidr), device))

    def attach(self, root: Namespace, pod: Pod) -> Namespace:
        """Make a pod a port of the bridge (pkg/agent/cniserver)."""
        node = self._cluster.node(pod.node)
        datapath = root.datapath
        assert datapath is not None  # noqa: S101 - made by install
        inside = root.host.add_namespace(pod.full_name)
        eth0, port = veth_pair((inside, "eth0"), (root, f"veth-{pod.full_name}"), self.pod_mtu)
        datapath.add_port(port)
        self._pipelines[node.name].add_pod(pod.address, port)
        inside.add_address(eth0, f"{pod.address}/{ipaddress.IPv4Network(node.pod_cidr).prefixlen}")
        inside.routes.add(Route(Prefix("0.0.0.0/0"), eth0, via=_gateway_address(node)))
        inside.neighbours["eth0", _gateway_address(node)] = root.devices[GATEWAY].mac
        return inside

    def _servers(self, node: Node, protocol: str, address: str, port: int) -> Servers | None:
        """Who serves a virtual address of AntreaProxy's."""
        if not self._settings.antrea_proxy:
            return None
        found = self._services.get((protocol, address, port))
        if found is None:
            return None
        service, service_port = found
        places = tuple(
            (one.address, one.port)
            for one in self._cluster.endpoints(service, service_port)
            if one.is_ready and ":" not in one.address and (one.node == node.name or not service.is_internal_local)
        )
        return Servers(service.full_name, places)

    @cached_property
    def _services(self) -> dict[tuple[str, str, int], tuple[Service, ServicePort]]:
        """Services' ports by protocol, virtual address and number."""
        return {
            (port.protocol, service.cluster_ip, port.port): (service, port)
            for _, service, port in self._cluster.service_ports()
            if service.cluster_ip is not None
        }

    @cached_property
    def _pod_set(self) -> IpSet:
        """The ranges of all nodes' pods, the same on every node."""
        return IpSet(_POD_SET, "hash:net", frozenset((node.pod_cidr,) for node in self._cluster.nodes))


def _gateway_address(node: Node) -> str:
    """The address of a node's ``antrea-gw0``: the first that a host can have of the node's range."""
    return str(ipaddress.IPv4Network(node.pod_cidr)[1])


def _check_affinity(cluster: Cluster) -> None:
    for service in cluster.services:
        if service.affinity_timeout_s is not None:
            raise InputError(
                f"cni.antrea_proxy: Service {service.full_name} has sessionAffinity ClientIP, for which Open vSwitch "
                "would have to learn flows, which is not modelled: leave Services to the proxy (antrea_proxy: false)"
            )
