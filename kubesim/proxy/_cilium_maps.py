"""What the maps of a Cilium node hold for Services (pkg/maps/lbmap)."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from kubesim.kernel.address import Prefix
from kubesim.kernel.bpf.connections import Place
from kubesim.kernel.bpf.services import Frontend, MaglevTable, VirtualService
from kubesim.kernel.ipvs.virtual_server import ServiceKey
from kubesim.proxy._ipvs_fleet import FleetServices

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from kubesim.cluster import Endpoint, Node
    from kubesim.cluster.fleet import Fleet
    from kubesim.proxy._kube_proxy import NodeView, PortView

SERVICE_BYTES, BACKEND_BYTES, REVERSE_BYTES, MAGLEV_PLACE_BYTES = 24, 16, 8, 4
"""Key and value of an element (lb4_key and lb4_service, lb4_backend, lb4_reverse_nat; Maglev's places are numbers)."""

_ANY_NODE = "0.0.0.0"  # noqa: S104 - an element of a map, no address to listen on


class Listed(NamedTuple):
    """A virtual address, of what type it is, and who serves it."""

    frontend: Frontend
    kind: str
    endpoints: Sequence[Endpoint]


class Elements(NamedTuple):
    """Elements of maps with what they say; equal ones need not be written again."""

    value: object
    elements: int
    text_bytes: int


class ServiceMaps:
    """The maps that nodes with the same view of the Services share.

    Parameters
    ----------
    view
        The Services as a node sees them, without those made by number.
    fleet
        Services made by number, None if there are none.
    direct_protocols
        Protocols whose servers answer clients outside directly.
    has_maglev
        Whether a Maglev table chooses for clients outside.
    """

    def __init__(
        self, view: NodeView, fleet: Fleet | None, direct_protocols: Collection[str], *, has_maglev: bool
    ) -> None:
        self._view = view
        self._fleet = None if fleet is None or view.family == "ipv6" else FleetServices(fleet)
        self._direct_protocols = direct_protocols
        self._has_maglev = has_maglev
        self._ports: dict[Frontend, tuple[PortView, str]] = {}
        self._node_ports: dict[tuple[str, int], PortView] = {}
        self._nodes = {address for node in view.cluster.nodes for address in _addresses(node)}
        for port in view:
            self._take(port)

    def service(self, frontend: Frontend) -> VirtualService | None:
        """The virtual service at an address, None if there is none."""
        found = self._ports.get(frontend)
        if found is None and frontend.address in self._nodes:
            port = self._node_ports.get((frontend.protocol, frontend.port))
            found = None if port is None else (port, "NodePort")
        if found is not None:
            virtual = self._virtual(frontend, self._endpoints(*found))
            virtual.is_sticky = found[0].service.affinity_timeout_s is not None
            if found[1] == "LoadBalancer":
                virtual.sources = tuple(map(Prefix, found[0].source_ranges))
            return virtual
        made = None if self._fleet is None else self._fleet.endpoints(ServiceKey(*frontend))
        return None if made is None else self._virtual(frontend, made)

    def listed(self, node: Node) -> Iterator[Listed]:
        """All virtual addresses of a node, those of given Services first."""
        yield from self._given(node)
        if self._fleet is not None:
            for key in self._fleet.keys():  # noqa: SIM118 - it is no mapping
                yield Listed(Frontend(*key), "ClusterIP", self._fleet.endpoints(key) or ())

    def text(self, node: Node) -> str:
        """As ``cilium-dbg service list`` prints them."""
        rows = [("ID", "Frontend", "Service Type", "Backend")]
        for number, one in enumerate(self.listed(node), start=1):
            place = f"{_place(one.frontend.address, one.frontend.port)}/{one.frontend.protocol.upper()}"
            backends = [
                f"{slot} => {endpoint}/{one.frontend.protocol.upper()} (active)"
                for slot, endpoint in enumerate(one.endpoints, start=1)
            ]
            rows.append((str(number), place, one.kind, backends[0] if backends else ""))
            rows.extend(("", "", "", backend) for backend in backends[1:])
        widths = [max(len(row[column]) for row in rows) + 3 for column in range(3)]
        lines = ("".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)) for row in rows)
        return "".join(f"{line.rstrip()}\n" for line in lines)

    def elements(self, node: Node) -> dict[object, Elements]:
        """What there is to write, by what it is; Services made by number are one item."""
        found: dict[object, Elements] = {}
        for one in self._given(node):
            found |= self._elements_of(one)
        if self._fleet is not None:
            fleet = self._fleet.fleet
            count = fleet.services * (2 + 2 * fleet.endpoints)
            size = SERVICE_BYTES * (1 + fleet.endpoints) + REVERSE_BYTES + BACKEND_BYTES * fleet.endpoints
            found["made by number"] = Elements(fleet, count, fleet.services * size)
        return found

    def _given(self, node: Node) -> Iterator[Listed]:
        """Those of Services that are given one by one."""
        for frontend, (port, kind) in self._ports.items():
            yield Listed(frontend, kind, self._endpoints(port, kind))
        for (protocol, number), port in self._node_ports.items():
            for address in (*_addresses(node, self._view.family), _ANY_NODE):
                yield Listed(Frontend(address, protocol, number), "NodePort", self._endpoints(port, "NodePort"))

    def _take(self, port: PortView) -> None:
        places = chain(
            [(port.cluster_ip, "ClusterIP")],
            ((address, "ExternalIPs") for address in port.external_ips),
            ((address, "LoadBalancer") for address in port.load_balancer_ips),
        )
        for address, kind in places:
            self._ports[Frontend(address, port.protocol, port.port.port)] = (port, kind)
        if port.node_port is not None:
            self._node_ports[port.protocol, port.node_port] = port

    def _endpoints(self, port: PortView, kind: str) -> Sequence[Endpoint]:
        """Who serves an address of some type, by the policies of its Service."""
        endpoints = self._view.endpoints(port)
        is_local = port.is_internal_local if kind == "ClusterIP" else port.is_external_local
        return endpoints.local if is_local else endpoints.cluster

    def _virtual(self, frontend: Frontend, endpoints: Sequence[Endpoint]) -> VirtualService:
        servers = tuple(Place(one.address, one.port) for one in endpoints)
        is_direct = frontend.protocol in self._direct_protocols
        return VirtualService(frontend, servers, has_maglev=self._has_maglev, is_direct=is_direct)

    def _elements_of(self, one: Listed) -> dict[object, Elements]:
        """A virtual address, its slots, its number for answers, its servers, and its Maglev table."""
        servers = tuple(map(str, one.endpoints))
        found: dict[object, Elements] = {
            ("service", one.frontend): Elements(len(servers), 1, SERVICE_BYTES),
            ("reverse", one.frontend): Elements(None, 1, REVERSE_BYTES),
        }
        for slot, server in enumerate(servers, start=1):
            found["slot", one.frontend, slot] = Elements(server, 1, SERVICE_BYTES)
            found["backend", one.frontend.protocol, server] = Elements(None, 1, BACKEND_BYTES)
        if self._has_maglev and one.kind != "ClusterIP":
            found["maglev", one.frontend] = Elements(servers, 1, MAGLEV_PLACE_BYTES * MaglevTable.TABLE_SIZE)
        return found


def _addresses(node: Node, family: str | None = None) -> tuple[str, ...]:
    """The addresses of a node, of one family or of both."""
    own = node.addresses or (node.address,)
    return tuple(one for one in own if family is None or (":" in one) is (family == "ipv6"))


def _place(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
