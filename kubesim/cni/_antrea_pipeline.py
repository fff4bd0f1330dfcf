"""Antrea's OpenFlow pipeline, as far as it decides where packets go (docs/design/ovs-pipeline.md).

Tables that only policies, egress gateways or multicast use are looked through, and change nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubesim.kernel.address import Prefix
from kubesim.kernel.openvswitch import Discard, Mask, Megaflow, Output, Spread, Track
from kubesim.kernel.openvswitch_conntrack import NEW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kubesim.cluster import Node
    from kubesim.kernel.openvswitch import Action, FlowKey
    from kubesim.kernel.veth import Veth

GATEWAY, TUNNEL = "antrea-gw0", "genev_sys_6081"
"""The host's own port, and the tunnel device that Open vSwitch makes for the port ``antrea-tun0``."""

ZONE = 65520
"""Antrea's zone of connections (``CtZone``)."""

_FROM_GATEWAY, _SERVICE = 0x2, 0x10
"""Marks of connections that the host opened (``FromGatewayCTMark``), and of those to Services (``ServiceCTMark``)."""

_HAIRPIN = "169.254.0.253"
"""Whom a pod sees that has called itself through a Service (``VirtualServiceIPv4``)."""

_CLASSIFIED, _TRACKED, _BUCKET, _OUTPUT = "classified", "tracked", "bucket", "output"

_TABLES = {_CLASSIFIED: 5, _TRACKED: 20, _BUCKET: 1, _OUTPUT: 1}
"""Tables of each pass: up to ConntrackZone, from ConntrackState to ConntrackCommit, EndpointDNAT, Output."""

_LOOKED_AT = ("in_port", "state", "connection_mark")


@dataclass(frozen=True)
class Servers:
    """Who serves behind a virtual address and port: the Service's name, and its ready endpoints' places."""

    name: str
    places: tuple[tuple[str, int], ...]


class Pipeline:
    """The tables of one node.

    Parameters
    ----------
    node
        Whose they are.
    gateway
        The address of ``antrea-gw0``.
    peers
        Ranges of the other nodes' pods, with the nodes' addresses.
    service_range
        The range of virtual addresses.
    servers
        Finds who serves a virtual address, by protocol, address and port; None where the host sees to that.
    """

    def __init__(
        self,
        node: Node,
        gateway: str,
        peers: Mapping[Prefix, str],
        service_range: Prefix,
        servers: Callable[[str, str, int], Servers | None],
    ) -> None:
        self._node = node
        self._range = Prefix(node.pod_cidr)
        self._gateway = gateway
        self._peers = peers
        self._service_range = service_range
        self._servers = servers
        self._pods: dict[str, Veth] = {}

    def add_pod(self, address: str, port: Veth) -> None:
        """Write the flows of a pod: its own for SpoofGuard, and those that lead to it."""
        self._pods[address] = port

    def answer(self, address: str) -> str | None:
        """Pods of the node answer for themselves (table ARPResponder)."""
        port = self._pods.get(address)
        return None if port is None or port.peer is None else port.peer.mac

    def translate(self, key: FlowKey) -> Megaflow:
        """Take a packet through the tables."""
        stage, *rest = key.recirculation or (_CLASSIFIED,)
        if stage == _CLASSIFIED:
            mask, action = self._classify(key)
        elif stage == _TRACKED:
            mask, action = self._forward(key)
        elif stage == _BUCKET:
            mask, action = self._translate_destination(key, rest[0], int(rest[1]))
        else:
            mask, action = Mask(("recirculation",)), Output(*rest)
        return Megaflow(Mask(("recirculation", *mask.fields), mask.destination_bits), action, _TABLES[stage])

    def _classify(self, key: FlowKey) -> tuple[Mask, Action]:
        """Tables Classifier, SpoofGuard (a pod sends from its own address only) and ConntrackZone."""
        is_of_pod = key.in_port not in (GATEWAY, TUNNEL)
        return Mask(("in_port", "source") if is_of_pod else ("in_port",)), Track(ZONE, (_TRACKED,))

    def _forward(self, key: FlowKey) -> tuple[Mask, Action]:
        """Tables ConntrackState to ConntrackCommit."""
        if key.connection_mark == _FROM_GATEWAY and key.in_port != GATEWAY:
            return Mask(_LOOKED_AT), Output(GATEWAY)  # who came from the host goes back there, and is translated back
        if key.state == NEW and not key.connection_mark:
            servers = self._servers(key.protocol, key.destination, key.destination_port)
            if servers is not None:
                return Mask((*_LOOKED_AT, "protocol", "destination", "destination_port")), self._spread(servers)
        mask, action = self._route(key)
        if key.state == NEW and not key.connection_mark and isinstance(action, Output):
            mark = _FROM_GATEWAY if key.in_port == GATEWAY else 0
            action = Track(ZONE, (_OUTPUT, action.port, action.remote), commit=True, mark=mark)
        return mask, action

    def _spread(self, servers: Servers) -> Action:
        """Table ServiceLB: a group with one bucket per endpoint, or a packet to the controller, which rejects."""
        if not servers.places:
            return Discard(f"Service {servers.name} has no ready endpoints: connection refused")
        return Spread(servers.places, (_BUCKET,))

    def _translate_destination(self, key: FlowKey, address: str, port: int) -> tuple[Mask, Action]:
        """Table EndpointDNAT; a pod that has got itself must not see its own address (tables SNATMark and SNAT)."""
        source = _HAIRPIN if key.source == address else ""
        track = Track(ZONE, (_TRACKED,), commit=True, mark=_SERVICE, destination=(address, port), source=source)
        return Mask(("source",)), track

    def _route(self, key: FlowKey) -> tuple[Mask, Action]:
        """Tables L3Forwarding and L2ForwardingCalc."""
        destination = key.destination
        exactly = Mask((*_LOOKED_AT, "destination"))
        if destination == self._gateway:
            return exactly, Output(GATEWAY)
        if destination in self._range:
            port = self._pods.get(destination)
            if port is None:
                return exactly, Discard(f"no pod of {self._node.name} has the address {destination}")
            return exactly, Output(port.name)
        for prefix, remote in self._peers.items():
            if destination in prefix:
                return Mask.within(prefix, *_LOOKED_AT), Output(TUNNEL, remote)
        if destination in self._service_range:
            return Mask.within(self._service_range, *_LOOKED_AT), Output(GATEWAY)
        return exactly, Output(GATEWAY)
