"""kube-proxy in userspace mode, the first there was: v1.0 to v1.25 (pkg/proxy/userspace/proxier.go, roundrobin.go)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, ConfigDict

from kubesim.errors import InputError
from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.iptables import Table
from kubesim.kernel.netfilter.ruleset import RuleSet
from kubesim.kernel.netfilter.syntax import RuleText, parse_rule
from kubesim.kernel.relay import FIRST_PORT, LAST_PORT, Listener, Relay
from kubesim.proxy import RuleUpdate
from kubesim.proxy._kube_proxy import KubeProxySettings, NodeView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubesim.cluster import Cluster, Node
    from kubesim.kernel.namespace import Namespace
    from kubesim.proxy import Family
    from kubesim.proxy._kube_proxy import PortView

CONTAINER_PORTALS, HOST_PORTALS = "KUBE-PORTALS-CONTAINER", "KUBE-PORTALS-HOST"
CONTAINER_NODE_PORTS, HOST_NODE_PORTS = "KUBE-NODEPORT-CONTAINER", "KUBE-NODEPORT-HOST"
FOREIGN_NODE_PORTS = "KUBE-NODEPORT-NON-LOCAL"

CHAINS = {
    "nat": (CONTAINER_PORTALS, HOST_PORTALS, CONTAINER_NODE_PORTS, HOST_NODE_PORTS),
    "filter": (FOREIGN_NODE_PORTS,),
}

_PORTALS = '-m comment --comment "handle ClusterIPs; NOTE: this must be before the NodePort rules" '
_NODE_PORTS = (
    "-m addrtype --dst-type LOCAL "
    '-m comment --comment "handle service NodePorts; NOTE: this must be the last rule in the chain" '
)
_FOREIGN = '-m comment --comment "Ensure that non-local NodePort traffic can flow" '

JUMPS: tuple[tuple[str, str, str, str, bool], ...] = (
    ("nat", "PREROUTING", CONTAINER_PORTALS, _PORTALS, True),
    ("nat", "OUTPUT", HOST_PORTALS, _PORTALS, True),
    ("nat", "PREROUTING", CONTAINER_NODE_PORTS, _NODE_PORTS, False),
    ("nat", "OUTPUT", HOST_NODE_PORTS, _NODE_PORTS, False),
    ("filter", "INPUT", FOREIGN_NODE_PORTS, _FOREIGN, True),
)
"""Table, base chain, chain jumped to, matches, and whether it goes in front of what is there (``iptablesInit``)."""


class Settings(BaseModel):
    """There is nothing to set: this mode knows no traffic policies, and never masquerades."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Plugin:
    """Sends what is for a Service to a port of kube-proxy's own, from which kube-proxy connects to an endpoint.

    Each Service port has a port of the process, which listens on all addresses. Endpoints take turns, all that are
    ready, on whatever node; kube-proxy shuffles them first, here they are sorted as text. The process gets ports from
    the kernel's range; here they are the first of it, in the order of the Services' names.
    """

    settings_model: ClassVar[type[BaseModel]] = Settings
    is_headless: ClassVar[bool] = False
    tells_pods_apart: ClassVar[bool] = False
    forms: ClassVar[tuple[str, ...]] = ("restore", "save")

    def __init__(self, cluster: Cluster, _settings: Settings) -> None:
        self._cluster = cluster
        self._portals_by_family: dict[Family, list[_Portal]] = {}

    def install(self, namespace: Namespace, node: Node) -> None:
        """Add the chains, filled when they are first walked, and the jumps to them; listen on the process's ports."""
        portals = self._portals(node, "ipv4")
        for name in CHAINS:
            Table.of(namespace, name).add_builder(lambda chain: _built(chain, portals, node.address))
        for name, base, chain, matches, is_first in JUMPS:
            put = Table.of(namespace, name).chain(base)
            rule = parse_rule(f"-A {base} {matches}-j {chain}").rule
            if is_first:
                put.prepend(rule)
            else:
                put.append(rule)
        Relay(namespace, lambda protocol, port: self._listener(portals, protocol, port))

    def text(self, node: Node, form: str, family: Family) -> str:
        """The rules as iptables-restore would take them, or what ``iptables-save`` prints.

        kube-proxy itself calls iptables for each rule.
        """
        portals = self._portals(node, family)
        address = next((one for one in node.addresses or (node.address,) if (":" in one) == (family == "ipv6")), None)
        lines: list[str] = []
        for table in ("filter", "nat"):
            lines += [f"*{table}", *(f":{chain} - [0:0]" for chain in CHAINS[table])]
            for chain in CHAINS[table]:
                lines += [line for portal in portals for line in portal.rules(chain, address or node.address)]
            lines.append("COMMIT")
        restore = "\n".join([*lines, ""])
        return restore if form == "restore" else _saved(restore, is_ipv6=family == "ipv6")

    def update(self, node: Node, before: Plugin | None, *, is_partial: bool) -> RuleUpdate:  # noqa: ARG002 - a protocol
        """What a sync does: a call of iptables to see whether a rule is there (``-C``), another to add it (``-A``).

        Every sync looks at all rules. To add or remove one, iptables copies the table out and, changed, in again.
        """
        rules, there = self.rules(node), set() if before is None else before.rules(node)
        added, removed = len(rules - there), len(there - rules)
        fixed = sum(map(len, CHAINS.values())) + len(JUMPS)
        calls = len(rules) + removed + added + fixed + (len(JUMPS) if before is None else 0)
        left = len(there) - removed
        replaced = sum(range(left, left + added)) + sum(range(left, len(there)))
        operations = {"iptables_check": calls, "iptables_replace_table": replaced}
        return RuleUpdate(added, sum(len(rule) + 1 for rule in rules - there), operations)

    def rules(self, node: Node) -> set[str]:
        """All rules of a node, as text."""
        portals = self._portals(node, "ipv4")
        chains = [chain for names in CHAINS.values() for chain in names]
        return {line for portal in portals for chain in chains for line in portal.rules(chain, node.address)}

    def _portals(self, node: Node, family: Family) -> list[_Portal]:
        """All Service ports with the process's ports; the same on every node."""
        if family not in self._portals_by_family:
            view = NodeView(self._cluster, KubeProxySettings(), node, family)
            ports = LAST_PORT + 1 - FIRST_PORT
            if len(view.ports) > ports:
                raise InputError(
                    f"proxy: userspace has {ports} ports to listen on, one for each port of a Service, "
                    f"and there are {len(view.ports)}"
                )
            self._portals_by_family[family] = [_Portal(port, FIRST_PORT + n) for n, port in enumerate(view)]
        return self._portals_by_family[family]

    def _listener(self, portals: list[_Portal], protocol: str, port: int) -> Listener | None:
        """What the process listens for at a port."""
        index = port - FIRST_PORT
        if not 0 <= index < len(portals) or portals[index].view.protocol != protocol:
            return None
        view = portals[index].view
        listed = self._cluster.endpoints(view.service, view.port)
        ready = {str(one): (one.address, one.port) for one in listed if one.is_ready and ":" not in one.address}
        servers = tuple(ready[name] for name in sorted(ready))
        return Listener(view.name, servers, view.service.affinity_timeout_s is not None)


@dataclass(frozen=True, slots=True)
class _Portal:
    """A Service port, and the port of the process that it is sent to."""

    view: PortView
    proxy_port: int

    def rules(self, chain: str, node_address: str) -> Iterator[str]:
        """Its rules in a chain (``openPortal``, ``openNodePort``)."""
        bracketed = f"[{node_address}]" if ":" in node_address else node_address
        redirect = f"REDIRECT --to-ports {self.proxy_port}"
        translate = f"DNAT --to-destination {bracketed}:{self.proxy_port}"
        view = self.view
        match chain:
            case "KUBE-PORTALS-CONTAINER" | "KUBE-PORTALS-HOST":
                is_host = chain == HOST_PORTALS
                target = translate if is_host else redirect
                for address in (view.cluster_ip, *view.load_balancer_ips):
                    yield self._rule(chain, address, view.port.port, "", target)
                for address in view.external_ips:
                    if not is_host:
                        yield self._rule(chain, address, view.port.port, "-m physdev ! --physdev-is-in ", target)
                    yield self._rule(chain, address, view.port.port, "-m addrtype --dst-type LOCAL ", target)
            case "KUBE-NODEPORT-CONTAINER" | "KUBE-NODEPORT-HOST" if view.node_port:
                target = translate if chain == HOST_NODE_PORTS else redirect
                yield self._rule(chain, None, view.node_port, "", target)
            case "KUBE-NODEPORT-NON-LOCAL" if view.node_port:
                yield self._rule(chain, None, self.proxy_port, "-m state --state NEW ", "ACCEPT")

    def _rule(self, chain: str, address: str | None, port: int, matches: str, target: str) -> str:
        """One rule, its parts in the order of ``iptablesCommonPortalArgs``."""
        length = 128 if ":" in str(address) else 32
        to = "" if address is None else f"-d {address}/{length} "
        comment = f'-m comment --comment "{self.view.name}"'
        protocol = self.view.protocol
        return f"-A {chain} {to}-p {protocol} {comment} -m {protocol} --dport {port} {matches}-j {target}"


def _built(name: str, portals: list[_Portal], node_address: str) -> Chain | None:
    """A chain of kube-proxy's, None if it is another's."""
    if all(name not in chains for chains in CHAINS.values()):
        return None
    chain = Chain(name)
    for portal in portals:
        for line in portal.rules(name, node_address):
            is_portal = f" -d {portal.view.cluster_ip}/" in line
            chain.append(RuleText(line, portal.view.cluster_ip) if is_portal else parse_rule(line).rule)
    return chain


def _saved(restore: str, *, is_ipv6: bool) -> str:
    """What is in the kernel after the jumps and the rules have been written."""
    rules = RuleSet(is_ipv6=is_ipv6)
    rules.table("nat")
    rules.restore(restore, "rules")
    for table, base, chain, matches, is_first in JUMPS:
        rule = parse_rule(f"-A {base} {matches}-j {chain}").rule
        put = rules.table(table)[base]
        if is_first:
            put.prepend(rule)
        else:
            put.append(rule)
    return rules.save()
