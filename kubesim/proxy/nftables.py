"""kube-proxy in nftables mode, as of Kubernetes v1.30.3 (pkg/proxy/nftables/proxier.go)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel

from kubesim.kernel.address import Prefix
from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.hooks import Hook
from kubesim.kernel.netfilter.matches import Address, TransportProtocol
from kubesim.kernel.netfilter.nftables import (
    DestinationIn,
    IsService,
    MarkIsClear,
    NftTable,
    RecentSource,
    StateIs,
    service_key,
)
from kubesim.kernel.netfilter.rule import Match, Rule
from kubesim.kernel.netfilter.targets import (
    DestinationNat,
    Drop,
    Goto,
    Jump,
    LookUp,
    Masquerade,
    Random,
    Reject,
    Return,
    SetMark,
    Target,
)
from kubesim.proxy._kube_proxy import KubeProxySettings, ServiceView, SharedRules, digest

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from kubesim.cluster import Cluster, Endpoint, Node, Service, ServicePort
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet

_BASE_CHAINS = (
    ("filter-prerouting", "filter", Hook.PREROUTING, -110),
    ("filter-input", "filter", Hook.INPUT, -110),
    ("filter-forward", "filter", Hook.FORWARD, -110),
    ("filter-output", "filter", Hook.OUTPUT, -110),
    ("filter-output-post-dnat", "filter", Hook.OUTPUT, -90),
    ("nat-prerouting", "nat", Hook.PREROUTING, -100),
    ("nat-output", "nat", Hook.OUTPUT, -100),
    ("nat-postrouting", "nat", Hook.POSTROUTING, 100),
)


class Settings(KubeProxySettings):
    """Settings of the nftables mode."""


class Plugin:
    """Writes the table ``ip kube-proxy``."""

    settings_model: ClassVar[type[BaseModel]] = Settings
    is_headless: ClassVar[bool] = False

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._rules = SharedRules(cluster, settings, lambda view: _RuleSet(cluster, settings, view))

    def install(self, namespace: Namespace, node: Node) -> None:
        """Add the table; nodes share its chains but for what says which addresses are the node's own."""
        rules = self._rules.of(node.name)
        chains = _node_chains(node.address, rules)
        table = NftTable(namespace, "kube-proxy", lambda name: chains.get(name) or rules.chain(name))
        for base_chain in _BASE_CHAINS:
            table.add_base_chain(*base_chain)


class _RuleSet:
    """The chains and maps that nodes with the same view of the Services share."""

    def __init__(self, cluster: Cluster, settings: Settings, view: ServiceView) -> None:
        self._settings = settings
        self._view = view
        self._pod_range = Prefix(cluster.pod_cidr) if settings.detect_local else None
        self._builders: dict[str, Callable[[], Chain]] = {}
        self.cluster_ips: set[str] = set()
        self.service_ips: dict[Hashable, Target] = {}
        self.no_endpoint_services: dict[Hashable, Target] = {}
        for _, service, port in self._view:
            self._add(service, port)
        self._chains = self._fixed_chains()

    def chain(self, name: str) -> Chain:
        """A chain by name; a service's or an endpoint's is made when a packet first comes to it."""
        if name not in self._chains:
            self._chains[name] = self._builders[name]()
        return self._chains[name]

    def _add(self, service: Service, port: ServicePort) -> None:
        """Put a service port into the maps, and remember how to make its chain."""
        address = str(service.cluster_ip)
        self.cluster_ips.add(address)
        key = (address, port.protocol, port.port)
        if self._view.has_endpoints(service, port):
            name = f"{service.full_name}/{port.protocol}/{port.name}"
            chain = f"{'local' if service.is_internal_local else 'service'}-{digest(name, 8)}-{name}"
            self.service_ips[key] = Goto(chain)
            self._builders[chain] = partial(self._service_chain, chain, name, service, port)
        else:
            is_elsewhere = self._view.is_elsewhere(service, port)
            self.no_endpoint_services[key] = Drop() if is_elsewhere else Goto("reject-chain")

    def _service_chain(self, chain: str, name: str, service: Service, port: ServicePort) -> Chain:
        """Which packets are masqueraded, then an endpoint: the one seen before, or a random one."""
        rules = []
        if self._settings.masquerade_all or self._pod_range is not None:
            matches: tuple[Match, ...] = (IsService(str(service.cluster_ip), port.protocol, port.port),)
            if not self._settings.masquerade_all and self._pod_range is not None:
                matches += (Address(self._pod_range, is_inverted=True),)
            rules.append(Rule(Jump("mark-for-masquerade"), matches=matches))
        ways: list[Target] = []
        for endpoint in self._view.endpoints(service, port):
            place = f"{name}__{endpoint.address}/{endpoint.port}"
            endpoint_chain = f"endpoint-{digest(place, 8)}-{place}"
            self._builders[endpoint_chain] = partial(self._endpoint_chain, endpoint_chain, service, port, endpoint)
            ways.append(Goto(endpoint_chain))
            if service.affinity_timeout_s is not None:
                rules.append(Rule(Goto(endpoint_chain), matches=(RecentSource(endpoint_chain),)))
        rules.append(Rule(Random(tuple(ways))))
        return Chain(chain, rules)

    def _endpoint_chain(self, chain: str, service: Service, port: ServicePort, endpoint: Endpoint) -> Chain:
        """Masquerade what an endpoint sends to itself, then translate the destination."""
        rules = [Rule(Jump("mark-for-masquerade"), matches=(Address(Prefix(endpoint.address)),))]
        if service.affinity_timeout_s is not None:
            rules.append(Rule(None, matches=(RecentSource(chain, is_update=True),)))
        translate = DestinationNat(endpoint.address, endpoint.port)
        return Chain(chain, [*rules, Rule(translate, matches=(TransportProtocol(port.protocol),))])

    def _fixed_chains(self) -> dict[str, Chain]:
        """The chains that are there whatever Services there are, without those that name the node's addresses."""
        mark = self._settings.mark
        is_new = (StateIs("NEW"),)
        chains = {
            "filter-prerouting": [Rule(Jump("firewall-check"), matches=is_new)],
            "filter-input": [
                Rule(Jump("nodeport-endpoints-check"), matches=is_new),
                Rule(Jump("service-endpoints-check"), matches=is_new),
            ],
            "filter-forward": [
                Rule(Jump("service-endpoints-check"), matches=is_new),
                Rule(Jump("cluster-ips-check"), matches=is_new),
            ],
            "filter-output": [
                Rule(Jump("service-endpoints-check"), matches=is_new),
                Rule(Jump("firewall-check"), matches=is_new),
            ],
            "filter-output-post-dnat": [Rule(Jump("cluster-ips-check"), matches=is_new)],
            "nat-prerouting": [Rule(Jump("services"))],
            "nat-output": [Rule(Jump("services"))],
            "nat-postrouting": [Rule(Jump("masquerading"))],
            "firewall-check": [Rule(LookUp(service_key, {}))],
            "service-endpoints-check": [
                Rule(LookUp(service_key, self.no_endpoint_services), note="the Service has no endpoints")
            ],
            "cluster-ips-check": [
                Rule(
                    Reject(),
                    matches=(DestinationIn(self.cluster_ips),),
                    note="Reject traffic to invalid ports of ClusterIPs",
                )
            ],
            "reject-chain": [Rule(Reject(), note="the Service has no endpoints")],
            "mark-for-masquerade": [Rule(SetMark(mark, mark))],
            "masquerading": [
                Rule(Return(), matches=(MarkIsClear(mark),)),
                Rule(SetMark(mark, 0)),
                Rule(Masquerade(is_random=True)),
            ],
        }
        return {name: Chain(name, rules) for name, rules in chains.items()}


def _node_chains(address: str, rules: _RuleSet) -> dict[str, Chain]:
    """The chains with the set ``nodeport-ips``; in v1.30 the node's primary address is in it."""
    own = frozenset({address})
    return {
        "services": Chain(
            "services",
            [
                Rule(LookUp(service_key, rules.service_ips)),
                Rule(LookUp(_node_port_key, {}), matches=(DestinationIn(own),)),
            ],
        ),
        "nodeport-endpoints-check": Chain(
            "nodeport-endpoints-check", [Rule(LookUp(_node_port_key, {}), matches=(DestinationIn(own),))]
        ),
    }


def _node_port_key(packet: Packet) -> tuple[str, int]:
    """``meta l4proto . th dport``."""
    return packet.protocol, packet.destination_port
