"""The rules kube-proxy writes in iptables mode, as text (Kubernetes v1.30.3, pkg/proxy/iptables/proxier.go).

A service port has a *head*, lines in the chains that all Services share, which is written in every sync, and a *body*,
chains of its own, which a partial sync leaves out where nothing has changed. Bodies are only made when asked for, so
that a cluster of a hundred thousand Services is ready at once.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from kubesim.proxy._kube_proxy import NodeView, PortView, digest, node_port_ips

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubesim.cluster import Endpoint
    from kubesim.proxy._kube_proxy import Endpoints

LARGE_CLUSTER_ENDPOINTS = 1000
"""Above so many endpoints, rules that lead to endpoints carry no comments (largeClusterEndpointsThreshold)."""

FILTER_CHAINS = ("KUBE-SERVICES", "KUBE-EXTERNAL-SERVICES", "KUBE-FORWARD", "KUBE-NODEPORTS", "KUBE-PROXY-FIREWALL")
NAT_CHAINS = ("KUBE-SERVICES", "KUBE-NODEPORTS", "KUBE-POSTROUTING", "KUBE-MARK-MASQ")
FIREWALL_CHAIN = "KUBE-FIREWALL"

_NEW = "-m conntrack --ctstate NEW "
_EXTERNAL = f'{_NEW}-m comment --comment "kubernetes externally-visible service portals" '
_FIREWALL = f'{_NEW}-m comment --comment "kubernetes load balancer firewall" '
_PORTALS = '-m comment --comment "kubernetes service portals" '

JUMPS: tuple[tuple[str, str, str, str], ...] = (
    ("filter", "INPUT", "KUBE-EXTERNAL-SERVICES", _EXTERNAL),
    ("filter", "FORWARD", "KUBE-EXTERNAL-SERVICES", _EXTERNAL),
    ("filter", "INPUT", "KUBE-NODEPORTS", '-m comment --comment "kubernetes health check service ports" '),
    ("filter", "FORWARD", "KUBE-SERVICES", _NEW + _PORTALS),
    ("filter", "OUTPUT", "KUBE-SERVICES", _NEW + _PORTALS),
    ("filter", "FORWARD", "KUBE-FORWARD", '-m comment --comment "kubernetes forwarding rules" '),
    ("filter", "INPUT", "KUBE-PROXY-FIREWALL", _FIREWALL),
    ("filter", "OUTPUT", "KUBE-PROXY-FIREWALL", _FIREWALL),
    ("filter", "FORWARD", "KUBE-PROXY-FIREWALL", _FIREWALL),
    ("nat", "OUTPUT", "KUBE-SERVICES", _PORTALS),
    ("nat", "PREROUTING", "KUBE-SERVICES", _PORTALS),
    ("nat", "POSTROUTING", "KUBE-POSTROUTING", '-m comment --comment "kubernetes postrouting rules" '),
    ("filter", "INPUT", FIREWALL_CHAIN, ""),
    ("filter", "OUTPUT", FIREWALL_CHAIN, ""),
)
"""Table, base chain, chain jumped to, and matches, in the order in which kube-proxy makes sure of them.

Each is put in front of what is there; only a full sync does so.
"""


@dataclass(frozen=True, slots=True)
class Head:
    """What a service port has in the chains that all share."""

    nat: tuple[str, ...]
    filter: tuple[str, ...] = ()


class Body(NamedTuple):
    """The chains of a service port in table nat, and their rules."""

    chains: tuple[str, ...]
    rules: tuple[str, ...]


class IptablesRules:
    """The rules of one node in one family of addresses.

    Parameters
    ----------
    view
        The Services as the node sees them.
    """

    def __init__(self, view: NodeView) -> None:
        self.view = view
        settings = view.settings
        self._mark = f"{settings.mark:#010x}"
        self._random = " --random-fully" if settings.random_fully else ""
        self.is_large = view.endpoint_count > LARGE_CLUSTER_ENDPOINTS
        self._by_digest: dict[str, PortView] = {}
        self.has_localhost_node_ports = settings.has_localhost_node_ports(view.family)
        self.heads = [self._head(port) for port in view]

    def head_rules(self, table: str) -> Iterator[str]:
        """The lines of all heads in a table, in order."""
        for head in self.heads:
            yield from head.nat if table == "nat" else head.filter

    def body_of_chain(self, chain: str) -> Body | None:
        """The body that a chain belongs to, by the hash in the chain's name, None if it is nobody's."""
        port = self._by_digest.get(chain.rpartition("-")[2])
        return None if port is None else self.body(port)

    def chains(self, table: str) -> list[str]:
        """The chains of a table that are there whatever Services there are."""
        if table == "nat":
            return list(NAT_CHAINS)
        return [*FILTER_CHAINS, *([FIREWALL_CHAIN] if self.has_localhost_node_ports else [])]

    def first_rules(self, table: str) -> list[str]:
        """The fixed rules that come before those of the Services."""
        mark = self._mark
        if table == "nat":
            return [
                f"-A KUBE-POSTROUTING -m mark ! --mark {mark}/{mark} -j RETURN",
                f"-A KUBE-POSTROUTING -j MARK --xor-mark {mark}",
                '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE'
                + self._random,
                f"-A KUBE-MARK-MASQ -j MARK --or-mark {mark}",
            ]
        if not self.has_localhost_node_ports:
            return []
        rule = (
            f'-A {FIREWALL_CHAIN} -m comment --comment "block incoming localnet connections" -d 127.0.0.0/8 '
            "! -s 127.0.0.0/8 -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
        )
        return [rule]

    def last_rules(self, table: str) -> list[str]:
        """The fixed rules that come behind those of the Services."""
        if table == "nat":
            return self._node_port_rules()
        start, mark = "-A KUBE-FORWARD -m comment --comment", self._mark
        invalid = "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP"
        known = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        return [
            *([] if self.view.settings.conntrack_tcp_be_liberal else [invalid]),
            f'{start} "kubernetes forwarding rules" -m mark --mark {mark}/{mark} -j ACCEPT',
            f'{start} "kubernetes forwarding conntrack rule" {known}',
        ]

    def _node_port_rules(self) -> list[str]:
        """Which addresses node ports are on: the last rules of KUBE-SERVICES."""
        start = (
            '-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; '
            'NOTE: this must be the last rule in this chain"'
        )
        addresses = node_port_ips(self.view)
        if addresses is None:
            if self.view.family == "ipv6":
                loopback = " ! -d ::1/128"
            else:
                loopback = "" if self.has_localhost_node_ports else " ! -d 127.0.0.0/8"
            return [f"{start} -m addrtype --dst-type LOCAL{loopback} -j KUBE-NODEPORTS"]
        kept = [one for one in addresses if self.has_localhost_node_ports or not ipaddress.ip_address(one).is_loopback]
        return [f"{start} -d {address} -j KUBE-NODEPORTS" for address in kept]

    def endpoints(self, port: PortView) -> Endpoints | None:
        """The endpoints of a port; None where it is known that there are some and nothing is special about them."""
        return None if self.view.has_endpoints_everywhere(port) else self.view.endpoints(port)

    def _head(self, port: PortView) -> Head:
        """What is written in every sync."""
        hashed = digest(port.name + port.protocol, 16)
        endpoints = self.endpoints(port)
        if endpoints is None or endpoints.has_any:
            self._by_digest[hashed] = port
        if endpoints is None:
            return Head(
                (_to_address("KUBE-SERVICES", f"{port.name} cluster IP", port, port.cluster_ip, f"KUBE-SVC-{hashed}"),)
            )
        return _HeadWriter(port, hashed, endpoints).head()

    def body(self, port: PortView) -> Body:
        """What is written where something has changed, and in every full sync."""
        return _BodyWriter(self.view, port, has_comments=not self.is_large).body()


def _to_address(chain: str, comment: str, port: PortView, address: str, target: str) -> str:
    protocol = port.protocol
    return (
        f'-A {chain} -m comment --comment "{comment}" -m {protocol} -p {protocol} -d {address} '
        f"--dport {port.port.port} -j {target}"
    )


class _HeadWriter:
    """Writes a port's lines in the chains that all Services share."""

    def __init__(self, port: PortView, hashed: str, endpoints: Endpoints) -> None:
        self._port = port
        self._hashed = hashed
        self._endpoints = endpoints
        self._nat: list[str] = []
        self._filter: list[str] = []

    def head(self) -> Head:
        """The lines, in the order of ``syncProxyRules``."""
        port, endpoints = self._port, self._endpoints
        has_internal = bool(endpoints.local) if port.is_internal_local else endpoints.has_any
        has_external = bool(endpoints.local) if port.is_external_local else endpoints.has_any
        if has_internal and endpoints.has_any:
            kind = "SVL" if port.is_internal_local else "SVC"
            self._take("KUBE-SERVICES", "cluster IP", port.cluster_ip, f"KUBE-{kind}-{self._hashed}")
        else:
            self._refuse("KUBE-SERVICES", port.cluster_ip)
        external = f"KUBE-EXT-{self._hashed}"
        for address in port.external_ips:
            if endpoints.has_any:
                self._take("KUBE-SERVICES", "external IP", address, external)
            if not has_external:
                self._refuse("KUBE-EXTERNAL-SERVICES", address)
        self._load_balancer(external)
        if not has_external:
            for address in port.load_balancer_ips:
                self._refuse("KUBE-EXTERNAL-SERVICES", address)
        self._node_port(external, has_external=has_external)
        if port.service.health_check_port is not None:
            self._filter.append(
                f'-A KUBE-NODEPORTS -m comment --comment "{port.name} health check node port" '
                f"-m tcp -p tcp --dport {port.service.health_check_port} -j ACCEPT"
            )
        return Head(tuple(self._nat), tuple(self._filter))

    def _take(self, chain: str, what: str, address: str, target: str) -> None:
        self._nat.append(_to_address(chain, f"{self._port.name} {what}", self._port, address, target))

    def _refusal(self) -> tuple[str, str]:
        """Comment and target for traffic that has no endpoint."""
        if self._endpoints.has_any:
            return f"{self._port.name} has no local endpoints", "DROP"
        return f"{self._port.name} has no endpoints", "REJECT"

    def _refuse(self, chain: str, address: str) -> None:
        comment, target = self._refusal()
        self._filter.append(_to_address(chain, comment, self._port, address, target))

    def _load_balancer(self, external: str) -> None:
        port, has_any = self._port, self._endpoints.has_any
        has_firewall = has_any and bool(port.load_balancer_ips) and bool(port.source_ranges)
        firewall = f"KUBE-FW-{self._hashed}"
        for address in port.load_balancer_ips:
            if has_any:
                self._take("KUBE-SERVICES", "loadbalancer IP", address, firewall if has_firewall else external)
            if has_firewall:
                comment = f"{port.name} traffic not accepted by {firewall}"
                self._filter.append(_to_address("KUBE-PROXY-FIREWALL", comment, port, address, "DROP"))

    def _node_port(self, external: str, *, has_external: bool) -> None:
        port, protocol = self._port, self._port.protocol
        if port.node_port is None:
            return
        place = f"-m {protocol} -p {protocol} --dport {port.node_port}"
        if self._endpoints.has_any:
            self._nat.append(f"-A KUBE-NODEPORTS -m comment --comment {port.name} {place} -j {external}")
        if not has_external:
            comment, target = self._refusal()
            to_node = f"-m addrtype --dst-type LOCAL {place}"
            self._filter.append(f'-A KUBE-EXTERNAL-SERVICES -m comment --comment "{comment}" {to_node} -j {target}')


class _BodyWriter:
    """Writes the chains of a port."""

    def __init__(self, view: NodeView, port: PortView, *, has_comments: bool) -> None:
        self._view = view
        self._port = port
        self._has_comments = has_comments
        self._endpoints = view.endpoints(port)
        hashed = digest(port.name + port.protocol, 16)
        self._cluster, self._local = f"KUBE-SVC-{hashed}", f"KUBE-SVL-{hashed}"
        self._external, self._firewall = f"KUBE-EXT-{hashed}", f"KUBE-FW-{hashed}"
        self._chains: list[str] = []
        self._rules: list[str] = []

    def body(self) -> Body:
        """Chains and rules, in the order of ``syncProxyRules``."""
        port, endpoints = self._port, self._endpoints
        if bool(endpoints.local) if port.is_internal_local else endpoints.has_any:
            self._masquerade()
        if endpoints.has_any and port.is_external:
            self._external_chain()
            if port.load_balancer_ips and port.source_ranges:
                self._firewall_chain()
        if endpoints.cluster and port.uses_cluster_endpoints:
            self._balance(self._cluster, endpoints.cluster)
        if endpoints.local and port.uses_local_endpoints:
            self._balance(self._local, endpoints.local)
        for endpoint in endpoints.reachable:
            self._endpoint_chain(endpoint)
        return Body(tuple(self._chains), tuple(self._rules))

    def _masquerade(self) -> None:
        """Mark packets to the virtual address that do not come from pods."""
        port, settings, detector = self._port, self._view.settings, self._view.detector
        chain = self._local if port.is_internal_local else self._cluster
        rule = _to_address(chain, f"{port.name} cluster IP", port, port.cluster_ip, "KUBE-MARK-MASQ")
        if settings.masquerade_all:
            self._rules.append(rule)
        elif detector is not None:
            self._rules.append(rule.replace(" -j KUBE-MARK-MASQ", f" {detector.if_not_local} -j KUBE-MARK-MASQ"))

    def _external_chain(self) -> None:
        """What traffic to any other address than the virtual one goes through."""
        port, detector, chain = self._port, self._view.detector, self._external
        what = f"{port.name} external destinations"
        self._chains.append(chain)
        if not port.is_external_local:
            self._rules.append(f'-A {chain} -m comment --comment "masquerade traffic for {what}" -j KUBE-MARK-MASQ')
        else:
            if detector is not None:
                self._rules.append(
                    f'-A {chain} -m comment --comment "pod traffic for {what}" {detector.if_local} -j {self._cluster}'
                )
            from_node = "-m addrtype --src-type LOCAL"
            self._rules += [
                f'-A {chain} -m comment --comment "masquerade LOCAL traffic for {what}" {from_node} -j KUBE-MARK-MASQ',
                f'-A {chain} -m comment --comment "route LOCAL traffic for {what}" {from_node} -j {self._cluster}',
            ]
        if not port.is_external_local:
            self._rules.append(f"-A {chain} -j {self._cluster}")
        elif self._endpoints.local:
            self._rules.append(f"-A {chain} -j {self._local}")

    def _firewall_chain(self) -> None:
        """Who may come through the load balancer's addresses."""
        port, chain = self._port, self._firewall
        self._chains.append(chain)
        sources = list(port.source_ranges)
        node_ip = self._view.node_ip
        if node_ip is not None and any(ipaddress.ip_address(node_ip) in ipaddress.ip_network(one) for one in sources):
            sources += port.load_balancer_ips
        self._rules += [
            f'-A {chain} -m comment --comment "{port.name} loadbalancer IP" -s {source} -j {self._external}'
            for source in sources
        ]
        self._rules.append(
            f'-A {chain} -m comment --comment "other traffic to {port.name} will be dropped by KUBE-PROXY-FIREWALL"'
        )

    def _balance(self, chain: str, endpoints: tuple[Endpoint, ...]) -> None:
        """Spread traffic over endpoints: first those a client is known to, then each with its probability."""
        self._chains.append(chain)
        timeout_s = self._port.service.affinity_timeout_s
        if timeout_s is not None:
            for endpoint in endpoints:
                to = self._endpoint_name(endpoint)
                recent = f"-m recent --name {to} --rcheck --seconds {timeout_s} --reap"
                self._rules.append(f"-A {chain}{self._to(endpoint)} {recent} -j {to}")
        for position, endpoint in enumerate(endpoints):
            left = len(endpoints) - position
            chance = f" -m statistic --mode random --probability {1 / left:.10f}" if left > 1 else ""
            self._rules.append(f"-A {chain}{self._to(endpoint)}{chance} -j {self._endpoint_name(endpoint)}")

    def _endpoint_chain(self, endpoint: Endpoint) -> None:
        """Masquerade what an endpoint sends to itself, then translate the destination."""
        port, chain = self._port, self._endpoint_name(endpoint)
        comment = f" -m comment --comment {port.name}" if self._has_comments else ""
        is_sticky = port.service.affinity_timeout_s is not None
        note = f" -m recent --name {chain} --set" if is_sticky else ""
        self._chains.append(chain)
        self._rules += [
            f"-A {chain}{comment} -s {endpoint.address} -j KUBE-MARK-MASQ",
            f"-A {chain}{comment}{note} -m {port.protocol} -p {port.protocol} -j DNAT --to-destination {endpoint}",
        ]

    def _to(self, endpoint: Endpoint) -> str:
        return f' -m comment --comment "{self._port.name} -> {endpoint}"' if self._has_comments else ""

    def _endpoint_name(self, endpoint: Endpoint) -> str:
        return f"KUBE-SEP-{digest(f'{self._port.name}{self._port.protocol}{endpoint}', 16)}"
