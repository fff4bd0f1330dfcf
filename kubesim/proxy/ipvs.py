"""kube-proxy in IPVS mode, as of Kubernetes v1.30.3 (pkg/proxy/ipvs/proxier.go)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, Field, field_validator

from kubesim.cluster.fleet import TARGET_PORT
from kubesim.errors import did_you_mean
from kubesim.kernel.address import Prefix
from kubesim.kernel.dummy import Dummy
from kubesim.kernel.ipvs.schedulers import SCHEDULERS, RealServer
from kubesim.kernel.ipvs.virtual_server import Ipvs, ServiceKey, VirtualService
from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.ipset import IpSet
from kubesim.kernel.netfilter.iptables import Table
from kubesim.kernel.netfilter.matches import AddressType, Comment, ConnectionState, InSet, Mark
from kubesim.kernel.netfilter.rule import Header, Match, Rule
from kubesim.kernel.netfilter.targets import Accept, Drop, Jump, Masquerade, Reject, Return, SetMark
from kubesim.proxy._kube_proxy import KubeProxySettings, local, ordered_ports, usable

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node, Service, ServicePort
    from kubesim.kernel.namespace import Namespace

_DUMMY_MTU = 1500
_TO_SERVICE = InSet("KUBE-CLUSTER-IP", ("dst", "dst"))


class Settings(KubeProxySettings):
    """Settings of the IPVS mode."""

    scheduler: str = Field(default="rr", description="how a real server is chosen: " + ", ".join(SCHEDULERS))

    @field_validator("scheduler")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in SCHEDULERS:
            raise ValueError(f"there is no scheduler {name!r}: {did_you_mean(name, SCHEDULERS)}")
        return name


class Plugin:
    """Binds virtual addresses to ``kube-ipvs0``, makes virtual services, and writes the fixed rules around them."""

    settings_model: ClassVar[type[BaseModel]] = Settings
    is_headless: ClassVar[bool] = False

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._ports: dict[ServiceKey, tuple[Service, ServicePort]] = {}
        for _, service, port in ordered_ports(cluster, settings):
            self._ports[ServiceKey(str(service.cluster_ip), port.protocol, port.port)] = (service, port)
        self._addresses = frozenset(key.address for key in self._ports)
        self._bucket_sizes = dict(Counter(key.bucket for key in self._ports))
        self._sets = [
            IpSet("KUBE-CLUSTER-IP", "hash:ip,port", frozenset((*key,) for key in self._ports)),
            IpSet("KUBE-LOAD-BALANCER", "hash:ip,port"),
            IpSet("KUBE-EXTERNAL-IP", "hash:ip,port"),
            IpSet("KUBE-EXTERNAL-IP-LOCAL", "hash:ip,port"),
            IpSet("KUBE-HEALTH-CHECK-NODE-PORT", "bitmap:port"),
            IpSet("KUBE-IPVS-IPS", "hash:ip", frozenset((address,) for address in self._addresses)),
        ]

    def install(self, namespace: Namespace, node: Node) -> None:
        """Write the node's virtual services, sets and rules."""
        namespace.add_local_addresses(Dummy(namespace, "kube-ipvs0", _DUMMY_MTU), self._addresses)
        endpoints = _LocalEndpoints(self._cluster, node.name)
        for ipset in (*self._sets, IpSet("KUBE-LOOP-BACK", "hash:ip,port,ip", endpoints)):
            namespace.ipsets[ipset.name] = ipset
        self._write_nat(Table.of(namespace, "nat"), has_local_endpoints=endpoints.is_not_empty)
        self._write_filter(Table.of(namespace, "filter"))
        Ipvs(namespace, lambda key: self._virtual_service(key, node.name), self._bucket_sizes)

    def _virtual_service(self, key: ServiceKey, node: str) -> VirtualService | None:
        """A virtual service, made when a packet first asks for it."""
        found = self._ports.get(key)
        if found is None:
            return None
        service, port = found
        listed = self._cluster.endpoints(service, port)
        chosen = (local(listed, node) if service.is_internal_local else []) or usable(listed)
        servers = [RealServer(endpoint.address, endpoint.port) for endpoint in chosen]
        is_persistent = service.affinity_timeout_s is not None
        return VirtualService.of(key, self._settings.scheduler, servers, is_persistent=is_persistent)

    def _write_nat(self, table: Table, *, has_local_endpoints: bool) -> None:
        mark = self._settings.mark
        masquerade = Rule(Jump("KUBE-MARK-MASQ"), *self._masquerade_matches())
        hairpin = Comment("Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose")
        loop_back = Rule(Masquerade(), matches=(hairpin, InSet("KUBE-LOOP-BACK", ("dst", "dst", "src"))))
        has_services = bool(self._ports)
        chains = {
            "KUBE-SERVICES": [
                Rule(Return(), Header(source=Prefix("127.0.0.0/8"))),
                *([masquerade] if has_services else []),
                Rule(Jump("KUBE-NODE-PORT"), matches=(AddressType(),)),
                *([Rule(Accept(), matches=(_TO_SERVICE,))] if has_services else []),
            ],
            "KUBE-POSTROUTING": [
                *([loop_back] if has_local_endpoints else []),
                Rule(Return(), matches=(Mark(mark, mark, is_inverted=True),)),
                Rule(SetMark(mark, 0)),
                Rule(Masquerade(is_random=True), matches=(Comment("kubernetes service traffic requiring SNAT"),)),
            ],
            "KUBE-NODE-PORT": [],
            "KUBE-LOAD-BALANCER": [Rule(Jump("KUBE-MARK-MASQ"))],
            "KUBE-MARK-MASQ": [Rule(SetMark(mark, mark))],
        }
        for name, rules in chains.items():
            table.add_chain(Chain(name, rules))
        for base, comment, chain in (
            ("OUTPUT", "kubernetes service portals", "KUBE-SERVICES"),
            ("PREROUTING", "kubernetes service portals", "KUBE-SERVICES"),
            ("POSTROUTING", "kubernetes postrouting rules", "KUBE-POSTROUTING"),
        ):
            table.chain(base).prepend(Rule(Jump(chain), matches=(Comment(comment),)))

    def _masquerade_matches(self) -> tuple[Header, tuple[Match, ...]]:
        """Which packets to virtual addresses get the node's address."""
        comment = Comment("Kubernetes service cluster ip + port for masquerade purpose")
        if self._settings.masquerade_all:
            return Header(), (comment, _TO_SERVICE)
        if self._settings.detect_local:
            return Header(source=Prefix(self._cluster.pod_cidr), not_source=True), (comment, _TO_SERVICE)
        return Header(), (comment, InSet("KUBE-CLUSTER-IP", ("src", "dst")))

    def _write_filter(self, table: Table) -> None:
        mark = self._settings.mark
        known = ConnectionState(frozenset({"RELATED", "ESTABLISHED"}))
        is_new = ConnectionState(frozenset({"NEW"}))
        health_check = InSet("KUBE-HEALTH-CHECK-NODE-PORT", ("dst",))
        known_sets = ("KUBE-LOAD-BALANCER", "KUBE-CLUSTER-IP", "KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL")
        chains = {
            "KUBE-FORWARD": [
                Rule(Accept(), matches=(Comment("kubernetes forwarding rules"), Mark(mark, mark))),
                Rule(Accept(), matches=(Comment("kubernetes forwarding conntrack rule"), known)),
            ],
            "KUBE-NODE-PORT": [Rule(Accept(), matches=(Comment("Kubernetes health check node port"), health_check))],
            "KUBE-PROXY-FIREWALL": [],
            "KUBE-SOURCE-RANGES-FIREWALL": [Rule(Drop())],
            "KUBE-IPVS-FILTER": [
                *(Rule(Return(), matches=(InSet(name, ("dst", "dst")),)) for name in known_sets),
                Rule(Return(), matches=(health_check,)),
                Rule(Reject(), matches=(is_new, InSet("KUBE-IPVS-IPS", ("dst",)))),
            ],
            "KUBE-IPVS-OUT-FILTER": [],
        }
        for name, rules in chains.items():
            table.add_chain(Chain(name, rules))
        for base, comment, chain in (
            ("FORWARD", "kubernetes forwarding rules", "KUBE-FORWARD"),
            ("INPUT", "kubernetes health check rules", "KUBE-NODE-PORT"),
            ("INPUT", "kube-proxy firewall rules", "KUBE-PROXY-FIREWALL"),
            ("FORWARD", "kube-proxy firewall rules", "KUBE-PROXY-FIREWALL"),
            ("INPUT", "kubernetes ipvs access filter", "KUBE-IPVS-FILTER"),
            ("OUTPUT", "kubernetes ipvs access filter", "KUBE-IPVS-OUT-FILTER"),
        ):
            table.chain(base).prepend(Rule(Jump(chain), matches=(Comment(comment),)))


class _LocalEndpoints:
    """The entries of KUBE-LOOP-BACK, ``(address, protocol, port, address)`` of each endpoint on a node.

    Whether an entry is there follows from the cluster; writing all of them down would take a node with tens of
    thousands of endpoints longer than everything else.
    """

    def __init__(self, cluster: Cluster, node: str) -> None:
        self._cluster = cluster
        self._node = node
        self._given = {
            (endpoint.address, port.protocol, endpoint.port, endpoint.address)
            for service in cluster.services
            for port in service.ports
            for endpoint in cluster.endpoints(service, port)
            if endpoint.node == node
        }

    @property
    def is_not_empty(self) -> bool:
        """Whether there is an endpoint on the node."""
        fleet = self._cluster.fleet
        is_in_fleet = fleet is not None and fleet.endpoints > 0 and any(n.name == self._node for n in fleet.nodes)
        return bool(self._given) or is_in_fleet

    def __contains__(self, entry: object) -> bool:
        if entry in self._given:
            return True
        if not isinstance(entry, tuple):
            return False
        destination, protocol, port, source = entry
        fleet = self._cluster.fleet
        if destination != source or fleet is None or (protocol, port) != ("tcp", TARGET_PORT):
            return False
        pod = fleet.pod_at(str(destination))
        return pod is not None and pod.node == self._node
