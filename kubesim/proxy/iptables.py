"""kube-proxy in iptables mode, as of Kubernetes v1.30.3 (pkg/proxy/iptables/proxier.go)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, Field

from kubesim.kernel.address import Prefix
from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.iptables import LEGACY_RULE, NFT_RULE, Table
from kubesim.kernel.netfilter.matches import (
    AddressType,
    Comment,
    ConnectionState,
    DestinationPort,
    Mark,
    RecentlySeen,
    Statistic,
    TransportProtocol,
)
from kubesim.kernel.netfilter.rule import Header, Match, Rule
from kubesim.kernel.netfilter.targets import (
    Accept,
    DestinationNat,
    Drop,
    Jump,
    Masquerade,
    Reject,
    Return,
    SetMark,
    Target,
)
from kubesim.proxy._kube_proxy import KubeProxySettings, ServiceView, SharedRules, digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubesim.cluster import Cluster, Endpoint, Node, Service, ServicePort
    from kubesim.kernel.namespace import Namespace

LARGE_CLUSTER_ENDPOINTS = 1000
"""Above so many endpoints, rules that lead to endpoints carry no comments (largeClusterEndpointsThreshold)."""

_NEW = ConnectionState(frozenset({"NEW"}))
_KNOWN = ConnectionState(frozenset({"RELATED", "ESTABLISHED"}))


class Settings(KubeProxySettings):
    """Settings of the iptables mode."""

    backend: Literal["legacy", "nft"] = Field(
        default="legacy", description="which iptables: rules tested by ip_tables, or by nf_tables (iptables-nft)"
    )


class Plugin:
    """Writes the tables ``nat`` and ``filter``."""

    settings_model: ClassVar[type[BaseModel]] = Settings
    is_headless: ClassVar[bool] = False

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._settings = settings
        self._rules = SharedRules(cluster, settings, lambda view: _RuleSet(cluster, settings, view))

    def install(self, namespace: Namespace, node: Node) -> None:
        """Add the chains, which nodes share, and the jumps to them, which are put in front of what is there."""
        rules = self._rules.of(node.name)
        for name, chains, jumps in (
            ("filter", rules.filter_chains, _FILTER_JUMPS),
            ("nat", rules.nat_chains, _NAT_JUMPS),
        ):
            table = Table.of(namespace, name)
            table.rule_operation = LEGACY_RULE if self._settings.backend == "legacy" else NFT_RULE
            for chain in chains.values():
                table.add_chain(chain)
            for base, matches, target in jumps:
                table.chain(base).prepend(Rule(Jump(target), matches=matches))
        Table.of(namespace, "nat").add_builder(rules.build)


_Jumps = tuple[tuple[str, tuple[Match, ...], str], ...]

_FILTER_JUMPS: _Jumps = (
    ("INPUT", (_NEW, Comment("kubernetes externally-visible service portals")), "KUBE-EXTERNAL-SERVICES"),
    ("FORWARD", (_NEW, Comment("kubernetes externally-visible service portals")), "KUBE-EXTERNAL-SERVICES"),
    ("INPUT", (Comment("kubernetes health check service ports"),), "KUBE-NODEPORTS"),
    ("FORWARD", (_NEW, Comment("kubernetes service portals")), "KUBE-SERVICES"),
    ("OUTPUT", (_NEW, Comment("kubernetes service portals")), "KUBE-SERVICES"),
    ("FORWARD", (Comment("kubernetes forwarding rules"),), "KUBE-FORWARD"),
    ("INPUT", (_NEW, Comment("kubernetes load balancer firewall")), "KUBE-PROXY-FIREWALL"),
    ("OUTPUT", (_NEW, Comment("kubernetes load balancer firewall")), "KUBE-PROXY-FIREWALL"),
    ("FORWARD", (_NEW, Comment("kubernetes load balancer firewall")), "KUBE-PROXY-FIREWALL"),
    ("INPUT", (), "KUBE-FIREWALL"),
    ("OUTPUT", (), "KUBE-FIREWALL"),
)
"""In the order in which kube-proxy makes sure of them; each is put in front."""

_NAT_JUMPS: _Jumps = (
    ("OUTPUT", (Comment("kubernetes service portals"),), "KUBE-SERVICES"),
    ("PREROUTING", (Comment("kubernetes service portals"),), "KUBE-SERVICES"),
    ("POSTROUTING", (Comment("kubernetes postrouting rules"),), "KUBE-POSTROUTING"),
)


class _RuleSet:
    """The chains that nodes with the same view of the Services share."""

    def __init__(self, cluster: Cluster, settings: Settings, view: ServiceView) -> None:
        self._settings = settings
        self._view = view
        self._pod_range = Prefix(cluster.pod_cidr) if settings.detect_local else None
        self._has_comments = cluster.endpoint_count <= LARGE_CLUSTER_ENDPOINTS
        self._builders: dict[str, Callable[[], Chain]] = {}
        fixed = _fixed_chains(settings.mark)
        self.filter_chains, self.nat_chains = fixed["filter"], fixed["nat"]
        for name, service, port in self._view:
            self._add(name, service, port)
        self.nat_chains["KUBE-SERVICES"].append(
            Rule(
                Jump("KUBE-NODEPORTS"),
                matches=(
                    Comment("kubernetes service nodeports; NOTE: this must be the last rule in this chain"),
                    AddressType(),
                ),
            )
        )

    def build(self, name: str) -> Chain | None:
        """A service's or an endpoint's chain, made when a packet first comes to it."""
        builder = self._builders.get(name)
        return None if builder is None else builder()

    def _add(self, name: str, service: Service, port: ServicePort) -> None:
        """Write what a service port has in KUBE-SERVICES, and remember how to make its other chains."""
        header = Header(port.protocol, destination=Prefix(str(service.cluster_ip)))
        to_port = DestinationPort(port.protocol, port.port)
        if self._view.has_endpoints(service, port):
            kind = "SVL" if service.is_internal_local else "SVC"
            chain = f"KUBE-{kind}-{digest(name + port.protocol, 16)}"
            comment = Comment(f"{name} cluster IP")
            self.nat_chains["KUBE-SERVICES"].append(Rule(Jump(chain), header, (comment, to_port)))
            self._builders[chain] = partial(self._service_chain, chain, name, service, port)
        else:
            is_elsewhere = self._view.is_elsewhere(service, port)
            comment = Comment(f"{name} has no {'local ' if is_elsewhere else ''}endpoints")
            verdict: Target = Drop() if is_elsewhere else Reject()
            self.filter_chains["KUBE-SERVICES"].append(Rule(verdict, header, (comment, to_port)))

    def _service_chain(self, chain: str, name: str, service: Service, port: ServicePort) -> Chain:
        """Which packets are masqueraded, then the endpoints: those seen before, then each with its probability."""
        rules = self._masquerade_rules(name, service, port)
        endpoints = self._view.endpoints(service, port)
        names = []
        for endpoint in endpoints:
            place = f"{endpoint.address}:{endpoint.port}"
            endpoint_chain = f"KUBE-SEP-{digest(f'{name}{port.protocol}{place}', 16)}"
            self._builders[endpoint_chain] = partial(
                self._endpoint_chain, endpoint_chain, name, service, port, endpoint
            )
            names.append((self._comment(f"{name} -> {place}"), endpoint_chain))
        if service.affinity_timeout_s is not None:
            rules += [Rule(Jump(to), matches=(*comment, RecentlySeen(to))) for comment, to in names]
        for position, (comment, to) in enumerate(names):
            left = len(names) - position
            chance = (Statistic.of(1 / left),) if left > 1 else ()
            rules.append(Rule(Jump(to), matches=(*comment, *chance)))
        return Chain(chain, rules)

    def _masquerade_rules(self, name: str, service: Service, port: ServicePort) -> list[Rule]:
        """The rule that marks packets to the virtual address which do not come from a pod, where there is one."""
        if not self._settings.masquerade_all and self._pod_range is None:
            return []
        source = None if self._settings.masquerade_all else self._pod_range
        header = Header(
            port.protocol,
            source=source,
            destination=Prefix(str(service.cluster_ip)),
            not_source=source is not None,
        )
        matches = (Comment(f"{name} cluster IP"), DestinationPort(port.protocol, port.port))
        return [Rule(Jump("KUBE-MARK-MASQ"), header, matches)]

    def _endpoint_chain(self, chain: str, name: str, service: Service, port: ServicePort, endpoint: Endpoint) -> Chain:
        """Masquerade what an endpoint sends to itself, then translate the destination."""
        comment = self._comment(name)
        note: tuple[Match, ...] = (RecentlySeen(chain, is_set=True),) if service.affinity_timeout_s is not None else ()
        return Chain(
            chain,
            [
                Rule(Jump("KUBE-MARK-MASQ"), Header(source=Prefix(endpoint.address)), comment),
                Rule(
                    DestinationNat(endpoint.address, endpoint.port),
                    Header(port.protocol),
                    (*comment, *note, TransportProtocol(port.protocol)),
                ),
            ],
        )

    def _comment(self, text: str) -> tuple[Match, ...]:
        return (Comment(text),) if self._has_comments else ()


def _fixed_chains(mark: int) -> dict[str, dict[str, Chain]]:
    """The chains that are there whatever Services there are."""
    localhost = Prefix("127.0.0.0/8")
    chains = {
        "filter": [
            Chain("KUBE-SERVICES"),
            Chain("KUBE-EXTERNAL-SERVICES"),
            Chain(
                "KUBE-FORWARD",
                [
                    Rule(Drop(), matches=(ConnectionState(frozenset({"INVALID"})),)),
                    Rule(Accept(), matches=(Comment("kubernetes forwarding rules"), Mark(mark, mark))),
                    Rule(Accept(), matches=(Comment("kubernetes forwarding conntrack rule"), _KNOWN)),
                ],
            ),
            Chain("KUBE-NODEPORTS"),
            Chain("KUBE-PROXY-FIREWALL"),
            Chain(
                "KUBE-FIREWALL",
                [
                    Rule(
                        Drop(),
                        Header(source=localhost, destination=localhost, not_source=True),
                        (
                            Comment("block incoming localnet connections"),
                            ConnectionState(frozenset({"RELATED", "ESTABLISHED", "DNAT"}), is_inverted=True),
                        ),
                    )
                ],
            ),
        ],
        "nat": [
            Chain("KUBE-SERVICES"),
            Chain("KUBE-NODEPORTS"),
            Chain(
                "KUBE-POSTROUTING",
                [
                    Rule(Return(), matches=(Mark(mark, mark, is_inverted=True),)),
                    Rule(SetMark(mark, 0)),
                    Rule(Masquerade(is_random=True), matches=(Comment("kubernetes service traffic requiring SNAT"),)),
                ],
            ),
            Chain("KUBE-MARK-MASQ", [Rule(SetMark(mark, mark))]),
        ],
    }
    return {table: {chain.name: chain for chain in made} for table, made in chains.items()}
