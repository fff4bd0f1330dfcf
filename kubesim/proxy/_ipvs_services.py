"""The virtual services and set entries of kube-proxy's IPVS mode (Kubernetes v1.30.3, ``syncProxyRules``)."""

from __future__ import annotations

import ipaddress
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from kubesim.kernel.ipvs.ipvsadm import ServerRecord, ServiceRecord, place_text
from kubesim.kernel.ipvs.virtual_server import ServiceKey
from kubesim.kernel.netfilter.ipset import IpSet, entry_text
from kubesim.proxy import _ipvs_sets as sets
from kubesim.proxy._ipvs_fleet import FleetAddressEntries, FleetLoops, FleetPlaces, FleetServices, Joined
from kubesim.proxy._ipvs_rules import IpvsRules
from kubesim.proxy._kube_proxy import node_port_ips
from kubesim.proxy._kube_proxy.settings import family_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from kubesim.cluster import Endpoint, Node
    from kubesim.cluster.fleet import Fleet
    from kubesim.kernel.netfilter.ipset import Entry
    from kubesim.proxy._kube_proxy import NodeView, PortView


class ServiceTables:
    """What the Services of a view need on every node that shares the view.

    Parameters
    ----------
    view
        The Services as a node sees them, without those made by number.
    """

    def __init__(self, view: NodeView) -> None:
        self.view = view
        self.entries: dict[str, set[Entry]] = {name: set() for name in sets.SETS}
        self.services: dict[ServiceKey, tuple[PortView, bool]] = {}
        self.node_ports: dict[tuple[str, int], PortView] = {}
        self.cluster_ips: set[str] = set()
        self.other_ips: set[str] = set()
        self.closed: list[ServiceKey] = []
        self.loops: dict[str, set[Entry]] = {}
        self._has_node_port_ips = bool(self.node_port_ips(view.node))
        for port in view:
            self._take(port)

    def node_port_ips(self, node: Node) -> list[str]:
        """The addresses of a node that node ports are on; never the loopback's."""
        chosen = node_port_ips(self.view)
        if chosen is None:
            return own_ips(node, self.view)
        return [one for one in chosen if not ipaddress.ip_address(one).is_loopback]

    def servers(self, port: PortView, *, is_local: bool) -> Sequence[Endpoint]:
        """The real servers of a virtual service (``syncEndpoint``): all, where none is on the node."""
        endpoints = self.view.endpoints(port)
        if is_local and endpoints.local:
            return endpoints.local
        if port.uses_cluster_endpoints:
            return endpoints.cluster
        everywhere = replace(port, service=replace(port.service, is_internal_local=False))
        return self.view.endpoints(everywhere).cluster

    def _take(self, port: PortView) -> None:
        self._loop_back(port)
        self._add(sets.CLUSTER_IP, port.cluster_ip, port)
        self.cluster_ips.add(port.cluster_ip)
        self._serve(port.cluster_ip, port, is_local=port.is_internal_local)
        for address in port.external_ips:
            self._add(sets.EXTERNAL_IP_LOCAL if port.is_external_local else sets.EXTERNAL_IP, address, port)
            self._serve_external(address, port)
        for address in port.load_balancer_ips:
            self._load_balancer(address, port)
            self._serve_external(address, port)
        if port.node_port is not None:
            if not self._has_node_port_ips:
                return
            self._node_port(port, port.node_port)
        if port.service.health_check_port is not None:
            self.entries[sets.HEALTH_CHECK_NODE_PORT].add((port.service.health_check_port,))

    def _add(self, name: str, address: str, port: PortView, *more: str) -> None:
        self.entries[name].add((address, port.protocol, port.port.port, *more))

    def _serve(self, address: str, port: PortView, *, is_local: bool) -> None:
        self.services[ServiceKey(address, port.protocol, port.port.port)] = (port, is_local)

    def _serve_external(self, address: str, port: PortView) -> None:
        self.other_ips.add(address)
        self._serve(address, port, is_local=port.is_external_local)

    def _loop_back(self, port: PortView) -> None:
        """Endpoints by node, whatever their state: what one sends to itself is masqueraded."""
        for endpoint in self.view.cluster.endpoints(port.service, port.port):
            if endpoint.node is not None and family_of(endpoint.address) == self.view.family:
                entry = (endpoint.address, port.protocol, endpoint.port, endpoint.address)
                self.loops.setdefault(endpoint.node, set()).add(entry)

    def _load_balancer(self, address: str, port: PortView) -> None:
        """An address of a load balancer, and who may use it."""
        self._add(sets.LOAD_BALANCER, address, port)
        if port.is_external_local:
            self._add(sets.LOAD_BALANCER_LOCAL, address, port)
        if not port.source_ranges:
            return
        self._add(sets.LOAD_BALANCER_FW, address, port)
        for source in port.source_ranges:
            self._add(sets.LOAD_BALANCER_SOURCE_CIDR, address, port, source)
        node_ip = self.view.node_ip
        if node_ip is not None and any(_is_in(node_ip, source) for source in port.source_ranges):
            self._add(sets.LOAD_BALANCER_SOURCE_IP, address, port, address)
        else:
            self.closed.append(ServiceKey(address, port.protocol, port.port.port))

    def _node_port(self, port: PortView, number: int) -> None:
        self.node_ports[port.protocol, number] = port
        every, local = sets.NODE_PORT_SETS[port.protocol]
        if port.protocol == "sctp":
            return  # of these the sets have each node's own addresses
        self.entries[every].add((number,))
        if port.is_external_local:
            self.entries[local].add((number,))


@dataclass
class Changes:
    """How often each operation is done to bring sets, servers and addresses to what is wanted."""

    operations: dict[str, int] = field(default_factory=dict)
    text_bytes: int = 0

    def count(self, operation: str, line_bytes: int, times: int = 1) -> None:
        """Do an operation so many times, each with a line of text."""
        self.operations[operation] = self.operations.get(operation, 0) + times
        self.text_bytes += line_bytes * times


class NodeTables:
    """What one node has: sets, virtual services, bound addresses, rules.

    Parameters
    ----------
    tables
        What it shares with other nodes.
    node
        The node.
    fleet
        Services made by number, None if there are none in this family.
    scheduler
        How real servers are chosen.
    """

    def __init__(self, tables: ServiceTables, node: Node, fleet: Fleet | None, scheduler: str) -> None:
        self._tables = tables
        self._scheduler = scheduler
        self._node = node
        self.fleet = None if fleet is None else FleetServices(fleet)
        self._node_port_ips = tables.node_port_ips(node) if tables.node_ports else []
        own = set(own_ips(node, tables.view))
        self.addresses = tables.cluster_ips | (tables.other_ips - own)

    def ipsets(self) -> list[IpSet]:
        """All sets, in kube-proxy's order."""
        family = self._tables.view.family
        return [
            IpSet(
                sets.set_name(name, family),
                info.kind,
                _takeable(info.kind, self._entries(name)),
                sets.set_options(info.kind, family),
            )
            for name, info in sets.SETS.items()
        ]

    def rules(self) -> IpvsRules:
        """The rules of iptables."""
        view = self._tables.view
        filled = {name for name in sets.SETS if self._entries(name)}
        return IpvsRules(view.settings, view.detector, view.family, filled, self._tables.closed)

    def record(self, key: ServiceKey) -> ServiceRecord | None:
        """A virtual service, None if there is none with this key."""
        found = self._tables.services.get(key)
        if found is None and key.address in self._node_port_ips:
            port = self._tables.node_ports.get((key.protocol, key.port))
            found = None if port is None else (port, port.is_external_local)
        if found is not None:
            servers = self._tables.servers(found[0], is_local=found[1])
            return self._record(key, servers, found[0].service.affinity_timeout_s)
        endpoints = None if self.fleet is None else self.fleet.endpoints(key)
        return None if endpoints is None else self._record(key, endpoints, None)

    def records(self) -> list[ServiceRecord]:
        """All virtual services, sorted as text."""
        keys = set(self._given_keys())
        if self.fleet is not None:
            keys.update(self.fleet.keys())
        ordered = sorted(keys, key=lambda key: f"{place_text(key.address, key.port)}/{key.protocol.upper()}")
        return [record for record in map(self.record, ordered) if record is not None]

    def service_count(self) -> int:
        """How many virtual services there are."""
        return len(set(self._given_keys())) + (0 if self.fleet is None else len(self.fleet.addresses))

    def server_count(self) -> int:
        """How many real servers all virtual services have together."""
        given = (self.record(key) for key in set(self._given_keys()))
        made = 0 if self.fleet is None else self.fleet.fleet.services * self.fleet.fleet.endpoints
        return made + sum(len(record.servers) for record in given if record is not None)

    def address_count(self) -> int:
        """How many addresses are bound."""
        return len(self.addresses) + (0 if self.fleet is None else len(self.fleet.addresses))

    def bucket_sizes(self) -> dict[int, int]:
        """How many virtual services are in each bucket of the kernel's table."""
        sizes = Counter({} if self.fleet is None else self.fleet.addresses.bucket_sizes())
        sizes.update(key.bucket for key in self._given_keys())
        return dict(sizes)

    def changes(self, before: NodeTables | None) -> Changes:
        """What has to be added and removed since another sync, or all where there was none."""
        changed = self.lines() ^ (set() if before is None else before.lines())
        found = Changes()
        for operation, line in changed:
            found.count(operation, len(line) + 1)
        fleet, known = self.fleet, None if before is None else before.fleet
        if fleet is not None and (known is None or known.fleet != fleet.fleet):
            self._count_fleet(fleet, found)
        return found

    def lines(self) -> set[tuple[str, str]]:
        """What is given one by one, as lines, each with the operation that writes it."""
        given = NodeTables(self._tables, self._node, None, self._scheduler)
        lines = {("ipset_update", line) for ipset in given.ipsets() for line in ipset.save().splitlines()}
        lines |= {("ipvs_update", line) for record in given.records() for line in record.save().splitlines()}
        return lines | {("address_update", address) for address in given.addresses}

    def _count_fleet(self, fleet: FleetServices, found: Changes) -> None:
        """Count what is made by number, by its first lines; all are about as long."""
        first = next(fleet.keys())
        record = self.record(first)
        lines = [] if record is None else record.save().splitlines()
        for line in lines:
            found.count("ipvs_update", len(line) + 1, len(fleet.addresses))
        found.count("address_update", len(first.address) + 1, len(fleet.addresses))
        for name, entries in (
            (sets.CLUSTER_IP, FleetPlaces(fleet)),
            (sets.IPVS_IPS, FleetAddressEntries(fleet.addresses)),
            (sets.LOOP_BACK, FleetLoops(fleet.fleet, self._node.name)),
        ):
            entry = next(iter(entries), None)
            if entry is not None:
                line = f"add {name} {entry_text(sets.SETS[name].kind, entry)}"
                found.count("ipset_update", len(line) + 1, len(entries))

    def _given_keys(self) -> Iterable[ServiceKey]:
        yield from self._tables.services
        for address in self._node_port_ips:
            yield from (ServiceKey(address, *place) for place in self._tables.node_ports)

    def _record(self, key: ServiceKey, endpoints: Iterable[Endpoint], timeout_s: int | None) -> ServiceRecord:
        servers = [ServerRecord(one.address, one.port) for one in endpoints]
        flags = "mh-port" if self._scheduler == "mh" else ""
        return ServiceRecord(
            key, scheduler=self._scheduler, scheduler_flags=flags, timeout_s=timeout_s, servers=servers
        )

    def _entries(self, name: str) -> Collection[Entry]:
        """What is to be in a set; ``name`` is that for IPv4."""
        fleet = self.fleet
        match name:
            case sets.LOOP_BACK:
                given: Collection[Entry] = self._tables.loops.get(self._node.name, ())
                return given if fleet is None else Joined(given, FleetLoops(fleet.fleet, self._node.name))
            case sets.CLUSTER_IP if fleet is not None:
                return Joined(self._tables.entries[name], FleetPlaces(fleet))
            case sets.IPVS_IPS:
                bound: Collection[Entry] = {(address,) for address in self.addresses}
                return bound if fleet is None else Joined(bound, FleetAddressEntries(fleet.addresses))
            case "KUBE-NODE-PORT-SCTP-HASH" | "KUBE-NODE-PORT-LOCAL-SCTP-HASH":
                is_local = "LOCAL" in name
                return {
                    (address, protocol, number)
                    for (protocol, number), port in self._tables.node_ports.items()
                    for address in self._node_port_ips
                    if protocol == "sctp" and (port.is_external_local or not is_local)
                }
        return self._tables.entries[name]


def own_ips(node: Node, view: NodeView) -> list[str]:
    """The addresses of a node in the view's family, without those of its loopback and of links only."""
    listed = [one for one in node.addresses or (node.address,) if family_of(one) == view.family]
    return [one for one in listed if not (":" in one and ipaddress.ip_address(one).is_link_local)]


def _takeable(kind: str, entries: Collection[Entry]) -> Collection[Entry]:
    """The entries without those that the kernel refuses: a range of length 0 (``IPSET_ERR_INVALID_CIDR``)."""
    if not kind.endswith("net"):
        return entries
    return {entry for entry in entries if not str(entry[-1]).endswith("/0")}


def _is_in(address: str, source: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(source)
