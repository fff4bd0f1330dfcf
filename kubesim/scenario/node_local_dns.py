"""NodeLocal DNSCache: a cache of names on each node, at a link-local address, past connection tracking and NAT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.address import Prefix
from kubesim.kernel.dummy import Dummy
from kubesim.kernel.netfilter.iptables import Table
from kubesim.kernel.netfilter.matches import PortRange, Transport
from kubesim.kernel.netfilter.rule import Header, Rule
from kubesim.kernel.netfilter.targets import Accept, NoTrack, Target
from kubesim.workload import NODE_LOCAL_DNS

if TYPE_CHECKING:
    from kubesim.kernel.namespace import Namespace

_DEVICE = "nodelocaldns"
_DNS, _HEALTH = 53, 8080


def install_node_local_dns(namespace: Namespace) -> None:
    """Make the cache's device, and the rules it puts in front (kubernetes/dns, cmd/node-cache/app/cache_app.go)."""
    device = Dummy(namespace, _DEVICE, 1500)
    namespace.add_address(device, NODE_LOCAL_DNS)
    to = Header(destination=Prefix(NODE_LOCAL_DNS))
    back = Header(source=Prefix(NODE_LOCAL_DNS))
    rules = [
        *_rules("raw", "PREROUTING", to, _DNS, NoTrack()),
        *_rules("filter", "INPUT", to, _DNS, Accept()),
        *_rules("raw", "OUTPUT", back, _DNS, NoTrack()),
        *_rules("filter", "OUTPUT", back, _DNS, Accept()),
        *_rules("raw", "OUTPUT", to, _DNS, NoTrack()),
        *_rules("raw", "OUTPUT", to, _HEALTH, NoTrack())[:1],
        *_rules("raw", "OUTPUT", back, _HEALTH, NoTrack())[:1],
    ]
    for table, chain, rule in rules:
        Table.of(namespace, table).chain(chain).prepend(rule)


def _rules(table: str, chain: str, header: Header, port: int, target: Target) -> list[tuple[str, str, Rule]]:
    """A rule for TCP and one for UDP: to a port of the cache, or from it."""
    ports = PortRange(port, port)
    found = []
    for protocol in ("tcp", "udp"):
        is_reply = header.source is not None
        match = Transport(protocol, source=ports if is_reply else None, destination=None if is_reply else ports)
        own = Header(protocol, header.source, header.destination)
        found.append((table, chain, Rule(target, own, (match,))))
    return found
