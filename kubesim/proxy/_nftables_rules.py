"""The rules kube-proxy writes in nftables mode, as text (Kubernetes v1.30.3, pkg/proxy/nftables/proxier.go).

A service port has elements in sets and maps that all Services share, and chains of its own. Chains are only made when
asked for, so that a cluster of a hundred thousand Services is ready at once.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kubesim.proxy._kube_proxy import NodeView, PortView, digest, node_port_ips
from kubesim.proxy._kube_proxy.settings import family_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubesim.cluster import Endpoint
    from kubesim.proxy._kube_proxy import Endpoints

TABLE = "kube-proxy"

BASE_CHAINS: tuple[tuple[str, str, str, int], ...] = (
    ("filter-prerouting", "filter", "prerouting", -110),
    ("filter-input", "filter", "input", -110),
    ("filter-forward", "filter", "forward", -110),
    ("filter-output", "filter", "output", -110),
    ("filter-output-post-dnat", "filter", "output", -90),
    ("nat-prerouting", "nat", "prerouting", -100),
    ("nat-output", "nat", "output", -100),
    ("nat-postrouting", "nat", "postrouting", 100),
)
"""Chain, type, hook and priority (``nftablesBaseChains``)."""

_NEW = "ct state new "
_JUMPS = (
    ("filter-prerouting", "firewall-check", _NEW),
    ("filter-input", "nodeport-endpoints-check", _NEW),
    ("filter-input", "service-endpoints-check", _NEW),
    ("filter-forward", "service-endpoints-check", _NEW),
    ("filter-forward", "cluster-ips-check", _NEW),
    ("filter-output", "service-endpoints-check", _NEW),
    ("filter-output", "firewall-check", _NEW),
    ("filter-output-post-dnat", "cluster-ips-check", _NEW),
    ("nat-prerouting", "services", ""),
    ("nat-output", "services", ""),
    ("nat-postrouting", "masquerading", ""),
)

CHAIN_COMMENTS = {"reject-chain": "helper for @no-endpoint-services / @no-endpoint-nodeports"}

CLUSTER_IPS, NODE_PORT_IPS = "cluster-ips", "nodeport-ips"
SET_COMMENTS = {CLUSTER_IPS: "Active ClusterIPs", NODE_PORT_IPS: "IPs that accept NodePort traffic"}

MAP_COMMENTS = {
    "firewall-ips": "destinations that are subject to LoadBalancerSourceRanges",
    "no-endpoint-nodeports": "vmap to drop or reject packets to service nodeports with no endpoints",
    "no-endpoint-services": "vmap to drop or reject packets to services with no endpoints",
    "service-ips": "ClusterIP, ExternalIP and LoadBalancer IP traffic",
    "service-nodeports": "NodePort traffic",
}

NODE_CHAINS = ("services", "nodeport-endpoints-check")
"""Chains that look at the node's own addresses."""

_LONGEST_NAME = 240
"""Of a chain without its kind: 256 (knftables.NameLengthMax) less 16 (chainNamePrefixLengthMax)."""


def hashed(name: str) -> str:
    """A name with its hash in front; one that is too long is cut (``hashAndTruncate``)."""
    found = f"{digest(name, 8)}-{name}"
    return found if len(found) <= _LONGEST_NAME else f"{found[: _LONGEST_NAME - 3]}..."


def port_name(port: PortView) -> str:
    """What chains of a service port are named after: ``namespace/name/protocol/port``."""
    return f"{port.service.full_name}/{port.protocol}/{port.port.name}"


def endpoint_name(port: str, endpoint: Endpoint) -> str:
    """What the chain and the set of an endpoint are named after; nft's names have no colons."""
    return hashed(f"{port}__{endpoint.address.replace(':', '.')}/{endpoint.port}")


@dataclass(slots=True)
class Body:
    """The chains of a service port, and the sets of clients that its endpoints remember, with their timeout."""

    chains: dict[str, list[str]] = field(default_factory=dict)
    sets: dict[str, int] = field(default_factory=dict)


class NftablesRules:
    """The rules of one node in one family of addresses.

    Parameters
    ----------
    view
        The Services as the node sees them.
    """

    def __init__(self, view: NodeView) -> None:
        self.view = view
        self.family = "ip6" if view.family == "ipv6" else "ip"
        self.cluster_ips: dict[str, None] = {}
        self.maps: dict[str, dict[str, str]] = {name: {} for name in MAP_COMMENTS}
        self.comments: dict[str, dict[str, str]] = {name: {} for name in MAP_COMMENTS}
        self._by_name: dict[str, PortView] = {}
        for port in view:
            self._capture(port)

    def node_port_ips(self) -> list[str] | None:
        """What is in ``nodeport-ips``; None if node ports are on all local addresses, and there is no such set."""
        ranges = self.view.settings.node_port_addresses
        if not any(family_of(text) == self.view.family for text in ranges):
            return [] if self.view.node_ip is None else [self.view.node_ip]
        found = node_port_ips(self.view)
        return None if found is None else sorted(one for one in found if not ipaddress.ip_address(one).is_loopback)

    def fixed_chains(self) -> dict[str, list[str]]:
        """The chains that are there whatever Services there are, each with its rules."""
        ip, mark = self.family, f"{self.view.settings.mark:#010x}"
        found: dict[str, list[str]] = {name: [] for name, *_ in BASE_CHAINS}
        for chain, target, matches in _JUMPS:
            found[chain].append(f"{matches}jump {target}")
        to_service = f"{ip} daddr . meta l4proto . th dport vmap"
        to_node_port = f"{self._to_node()} meta l4proto . th dport vmap"
        reject = f'{ip} daddr @{CLUSTER_IPS} reject comment "Reject traffic to invalid ports of ClusterIPs"'
        return found | {
            "cluster-ips-check": [reject],
            "firewall-check": [f"{to_service} @firewall-ips"],
            "mark-for-masquerade": [f"mark set mark or {mark}"],
            "masquerading": [
                f"mark and {mark} == 0 return",
                f"mark set mark xor {mark}",
                "masquerade fully-random",
            ],
            "nodeport-endpoints-check": [f"{to_node_port} @no-endpoint-nodeports"],
            "reject-chain": ["reject"],
            "service-endpoints-check": [f"{to_service} @no-endpoint-services"],
            "services": [f"{to_service} @service-ips", f"{to_node_port} @service-nodeports"],
        }

    def port_of_chain(self, chain: str) -> PortView | None:
        """The service port that a chain belongs to, by its name, None if there is none."""
        _, _, name = chain.partition("-")
        found = self._by_name.get(name)
        if found is None and "__" in name:
            found = self._by_name.get(hashed(name.partition("-")[2].rpartition("__")[0]))
        return found

    def body(self, port: PortView) -> Body:
        """The chains of a service port."""
        return _BodyWriter(self, port).body()

    def _to_node(self) -> str:
        """Matches what is sent to addresses that node ports are on."""
        if self.node_port_ips() is not None:
            return f"{self.family} daddr @{NODE_PORT_IPS}"
        loopback = "ip6 daddr != ::1" if self.family == "ip6" else "ip daddr != 127.0.0.0/8"
        return f"fib daddr type local {loopback}"

    def _capture(self, port: PortView) -> None:
        """Put a service port into sets and maps."""
        name = hashed(port_name(port))
        self._by_name[name] = port
        self.cluster_ips[port.cluster_ip] = None
        key = f"{port.cluster_ip} . {port.protocol} . {port.port.port}"
        if self.view.has_endpoints_everywhere(port) and not port.is_external:
            self.maps["service-ips"][key] = f"goto service-{name}"
            return
        endpoints = self.view.endpoints(port)
        if has_internal_endpoints(port, endpoints):
            self.maps["service-ips"][key] = f"goto {'local' if port.is_internal_local else 'service'}-{name}"
        else:
            self._refuse("no-endpoint-services", key, port, endpoints)
        if port.is_external:
            self._capture_external(port, endpoints, name)

    def _capture_external(self, port: PortView, endpoints: Endpoints, name: str) -> None:
        keys = {
            address: f"{address} . {port.protocol} . {port.port.port}"
            for address in (*port.external_ips, *port.load_balancer_ips)
        }
        places = [("service-ips", "no-endpoint-services", key) for key in keys.values()]
        if port.node_port is not None:
            places.append(("service-nodeports", "no-endpoint-nodeports", f"{port.protocol} . {port.node_port}"))
        for taken, refused, key in places:
            if endpoints.has_any:
                self.maps[taken][key] = f"goto external-{name}"
            if not has_external_endpoints(port, endpoints):
                self._refuse(refused, key, port, endpoints)
        if port.source_ranges:
            for address in port.load_balancer_ips:
                self._note("firewall-ips", keys[address], f"goto firewall-{name}", port)

    def _refuse(self, name: str, key: str, port: PortView, endpoints: Endpoints) -> None:
        """Drop what has endpoints elsewhere, and reject what has none at all."""
        self._note(name, key, "drop" if endpoints.has_any else "goto reject-chain", port)

    def _note(self, name: str, key: str, verdict: str, port: PortView) -> None:
        self.maps[name][key] = verdict
        self.comments[name][key] = port.name


def has_internal_endpoints(port: PortView, endpoints: Endpoints) -> bool:
    """Whether traffic to the virtual address has somewhere to go."""
    return endpoints.has_any and (bool(endpoints.local) or not port.is_internal_local)


def has_external_endpoints(port: PortView, endpoints: Endpoints) -> bool:
    """Whether traffic to other addresses has somewhere to go, short cuts aside."""
    return endpoints.has_any and (bool(endpoints.local) or not port.is_external_local)


class _BodyWriter:
    """Writes the chains of a service port."""

    def __init__(self, rules: NftablesRules, port: PortView) -> None:
        self._view = rules.view
        self._ip = rules.family
        self._port = port
        self._endpoints = rules.view.endpoints(port)
        self._base = port_name(port)
        self._name = hashed(self._base)
        self._cluster, self._local = f"service-{self._name}", f"local-{self._name}"
        self._names = {str(one): endpoint_name(self._base, one) for one in self._endpoints.reachable}
        self._body = Body()

    def body(self) -> Body:
        """Chains, with their rules in the order of ``syncProxyRules``."""
        port, endpoints, chains = self._port, self._endpoints, self._body.chains
        uses_cluster = bool(endpoints.cluster) and port.uses_cluster_endpoints
        uses_local = bool(endpoints.local) and port.uses_local_endpoints
        if uses_cluster:
            chains[self._cluster] = []
        if uses_local:
            chains[self._local] = []
        if port.load_balancer_ips and port.source_ranges:
            self._firewall_chain()
        if has_internal_endpoints(port, endpoints):
            self._masquerade()
        if endpoints.has_any and port.is_external:
            self._external_chain()
        if uses_cluster:
            self._balance(self._cluster, endpoints.cluster)
        if uses_local:
            self._balance(self._local, endpoints.local)
        for endpoint in endpoints.reachable:
            self._endpoint_chain(endpoint)
        return self._body

    def _firewall_chain(self) -> None:
        """Drop what does not come from the source ranges; the node may use addresses it has itself."""
        sources = [str(ipaddress.ip_network(text, strict=False)) for text in self._port.source_ranges]
        node_ip = self._view.node_ip
        if node_ip is not None and any(ipaddress.ip_address(node_ip) in ipaddress.ip_network(one) for one in sources):
            sources += self._port.load_balancer_ips
        self._body.chains[f"firewall-{self._name}"] = [f"{self._ip} saddr != {{ {' , '.join(sources)} }} drop"]

    def _masquerade(self) -> None:
        """Mark packets to the virtual address that do not come from pods."""
        port, detector = self._port, self._view.detector
        rule = f"{self._ip} daddr {port.cluster_ip} {port.protocol} dport {port.port.port}"
        rules = self._body.chains.setdefault(self._local if port.is_internal_local else self._cluster, [])
        if self._view.settings.masquerade_all:
            rules.append(f"{rule} jump mark-for-masquerade")
        elif detector is not None:
            rules.append(f"{rule} {detector.nft_if_not_local} jump mark-for-masquerade")

    def _external_chain(self) -> None:
        """What traffic to any other address than the virtual one goes through."""
        port, detector = self._port, self._view.detector
        rules = self._body.chains[f"external-{self._name}"] = []
        if not port.is_external_local:
            rules.append("jump mark-for-masquerade")
        else:
            if detector is not None:
                rules.append(f'{detector.nft_if_local} goto {self._cluster} comment "short-circuit pod traffic"')
            rules.append('fib saddr type local jump mark-for-masquerade comment "masquerade local traffic"')
            rules.append(f'fib saddr type local goto {self._cluster} comment "short-circuit local traffic"')
        if has_external_endpoints(port, self._endpoints):
            rules.append(f"goto {self._local if port.is_external_local else self._cluster}")

    def _balance(self, chain: str, endpoints: Iterable[Endpoint]) -> None:
        """Go to the endpoint that remembers the client, else to a random one."""
        names = [self._names[str(one)] for one in endpoints]
        rules = self._body.chains[chain]
        if self._port.service.affinity_timeout_s is not None:
            rules += [f"{self._ip} saddr @affinity-{name} goto endpoint-{name}" for name in names]
        ways = " , ".join(f"{number} : goto endpoint-{name}" for number, name in enumerate(names))
        rules.append(f"numgen random mod {len(names)} vmap {{ {ways} }}")

    def _endpoint_chain(self, endpoint: Endpoint) -> None:
        """Masquerade what an endpoint sends to itself, then translate the destination."""
        name, timeout_s = self._names[str(endpoint)], self._port.service.affinity_timeout_s
        rules = [f"{self._ip} saddr {endpoint.address} jump mark-for-masquerade"]
        if timeout_s is not None:
            self._body.sets[f"affinity-{name}"] = timeout_s
            rules.append(f"update @affinity-{name} {{ {self._ip} saddr }}")
        rules.append(f"meta l4proto {self._port.protocol} dnat to {endpoint}")
        self._body.chains[f"endpoint-{name}"] = rules
