"""Cilium's programs on one node (bpf_lxc.c, bpf_host.c, bpf_overlay.c): policy, connections, and where packets go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubesim.cni._cilium_north_south import NorthSouth
from kubesim.kernel.bpf.connections import Direction, Place, Tracked
from kubesim.kernel.bpf.program import LOOKUP, Verdict, redirect, redirect_neigh, redirect_peer
from kubesim.kernel.veth import Veth

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubesim.kernel.bpf.state import Bpf
    from kubesim.kernel.device import Device
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.vxlan import Vxlan
    from kubesim.kernel.walk import Walk
    from kubesim.kernel.wireguard import Wireguard

LOOPBACK = "169.254.42.1"
"""From whom a pod seems to be called that calls itself by a virtual address (``IPV4_LOOPBACK``)."""

_ENDPOINTS, _IP_CACHE, _POLICY = "endpoints", "ipcache", "policy"


@dataclass(frozen=True)
class Surroundings:
    """What the programs of a node are compiled with.

    Parameters
    ----------
    root
        The node's namespace.
    address, router
        The node's address, and that of its ``cilium_host``.
    node_of
        The address of the node that has an address, or whose pod or ``cilium_host`` has it; None if nobody has.
    overlay
        The tunnel device; None where nodes route the pods' packets.
    encryption
        The WireGuard device; None where nothing is encrypted.
    """

    root: Namespace
    address: str
    router: str
    node_of: Callable[[str], str | None]
    overlay: Vxlan | None
    encryption: Wireguard | None = None


class Datapath:
    """The programs.

    Parameters
    ----------
    bpf
        Maps.
    around
        Where they run.
    host_routing
        ``bpf`` or ``legacy``; ``auto`` for what services allow.
    """

    def __init__(self, bpf: Bpf, around: Surroundings, host_routing: str) -> None:
        self._bpf = bpf
        self._around = around
        self._host_routing = host_routing
        source = around.address if around.overlay is None else around.router
        self._north_south = NorthSouth(bpf, source, self._is_here)
        self.endpoints: dict[str, Veth] = {}

    @property
    def is_bpf_routing(self) -> bool:
        """Whether packets bypass the host's IP layer and netfilter."""
        if self._host_routing == "auto":
            return self._bpf.services.is_at_card
        return self._host_routing == "bpf"

    def from_container(self, walk: Walk, packet: Packet, device: Device) -> Verdict:
        """What a pod sends (``cil_from_container``, handle_ipv4_from_lxc)."""
        walk.pay("bpf_program", at=device.name)
        client, called = packet.source, Place(packet.destination, packet.destination_port)
        if not self._bpf.services.is_at_sockets and not self._balance(walk, packet):
            return Verdict.TAKEN
        is_translated = called.address != packet.destination
        connections = self._bpf.connections
        if packet.destination == LOOPBACK:
            return self._return_to_itself(walk, packet, device)
        walk.pay(LOOKUP, at=_IP_CACHE)
        flow = packet.flow
        found, is_reply = connections.find(walk, flow, Direction.OUT)
        if is_reply:
            self._north_south.restore(walk, packet, found)
            return self._send_on(walk, packet, is_north_south=found is not None and found.called is not None)
        walk.pay(LOOKUP, at=_POLICY)
        if found is None:
            caller = Place(client, packet.source_port) if packet.source == LOOPBACK else None
            connections.add(walk, flow, Direction.OUT, Tracked(called if is_translated else None, caller))
        return self._send_on(walk, packet)

    def to_container(self, walk: Walk, packet: Packet, device: Device) -> Verdict:
        """What the host sends to a pod (``cil_to_container``)."""
        self._admit(walk, packet, device)
        return Verdict.PASS

    def from_netdev(self, walk: Walk, packet: Packet, device: Device) -> Verdict:
        """What the card receives (``cil_from_netdev``)."""
        walk.pay("bpf_program", at=device.name)
        if self._is_replacement:
            way = self._north_south.receive(walk, packet)
            if way is not None:
                return self._send_on(walk, packet, is_north_south=True) if way is Verdict.PASS else way
        if self._around.root.is_local(packet.destination) or not self.is_bpf_routing:
            return Verdict.PASS
        walk.pay(LOOKUP, at=_IP_CACHE)
        return self._deliver(walk, packet)

    def to_netdev(self, walk: Walk, packet: Packet, device: Device) -> Verdict:
        """What leaves by the card (``cil_to_netdev``): encryption, answers of the node's processes, masquerading."""
        encryption = self._around.encryption
        if encryption is not None and self._is_to_encrypt(packet):
            walk.pay("bpf_program", at=device.name)
            walk.pay(LOOKUP, at=_IP_CACHE)
            walk.pay("bpf_redirect", at=encryption.name)
            encryption.transmit(walk, packet)
            return Verdict.TAKEN
        if self._is_replacement:
            walk.pay("bpf_program", at=device.name)
            is_masqueraded = packet.source in self.endpoints and self._around.node_of(packet.destination) is None
            self._north_south.transmit(walk, packet, self._around.address if is_masqueraded else None)
        return Verdict.PASS

    def from_overlay(self, walk: Walk, packet: Packet, device: Device) -> Verdict:
        """What comes out of the tunnel (``cil_from_overlay``)."""
        walk.pay("bpf_program", at=device.name)
        if self._is_replacement:
            way = self._north_south.receive_reply(walk, packet)
            if way is not None:
                return self._send_on(walk, packet, is_north_south=True)
        return self._deliver(walk, packet)

    def from_host(self, walk: Walk, packet: Packet, device: Device) -> Verdict:
        """What the host sends to pods of other nodes through ``cilium_host`` (``cil_from_host``)."""
        walk.pay("bpf_program", at=device.name)
        walk.pay(LOOKUP, at=_IP_CACHE)
        node = self._around.node_of(packet.destination)
        if node is None or self._around.overlay is None:
            walk.drop(f"{device.name} of {self._around.root.name} knows no node for {packet.destination}")
        else:
            self._tunnel(walk, packet, self._around.overlay, node)
        return Verdict.TAKEN

    def _is_to_encrypt(self, packet: Packet) -> bool:
        """Whether a packet is one pod's to another's on another node, or the tunnel's around such a one."""
        if packet.is_opaque:
            return False
        node = self._around.node_of(packet.destination)
        if self._around.overlay is not None:
            return packet.inner is not None and node is not None
        return packet.source in self.endpoints and node not in (None, packet.destination, self._around.address)

    @property
    def _is_replacement(self) -> bool:
        return self._bpf.services.is_at_card

    def _is_here(self, address: str) -> bool:
        return address in self.endpoints or self._around.root.is_local(address)

    def _balance(self, walk: Walk, packet: Packet) -> bool:
        """Give a packet for a virtual address its server; whether it goes on."""
        service = self._bpf.services.look_up(walk, packet)
        if service is None:
            return True
        if not self._bpf.services.translate(walk, packet, service, self._bpf.connections):
            return False
        if packet.destination == packet.source:
            packet.source = LOOPBACK
        return True

    def _return_to_itself(self, walk: Walk, packet: Packet, device: Device) -> Verdict:
        """A pod's answer to itself, which it takes for another (``lb4_rev_nat`` with loopback)."""
        found = self._bpf.connections.find_reply(walk, packet.flow, Direction.IN)
        if found is None or found.called is None or found.server is None:
            walk.drop(f"{packet.source} answers {LOOPBACK}, which has not called")
        elif isinstance(device, Veth):
            self._north_south.restore(walk, packet, found)
            packet.destination, packet.destination_port = found.server
            self._hand_over(walk, packet, device)
        return Verdict.TAKEN

    def _send_on(self, walk: Walk, packet: Packet, *, is_north_south: bool = False) -> Verdict:
        """Where a packet goes; what was translated at the card leaves the host without its IP layer in any case."""
        walk.pay(LOOKUP, at=_ENDPOINTS)
        around = self._around
        is_here = packet.destination in self.endpoints
        if is_here and packet.source != LOOPBACK and not self.is_bpf_routing:
            return Verdict.PASS
        if is_here:
            return self._deliver(walk, packet, is_known=True)
        if around.root.is_local(packet.destination):
            return Verdict.PASS
        node = around.node_of(packet.destination)
        if around.overlay is not None and node is not None and node != packet.destination:
            self._tunnel(walk, packet, around.overlay, node)
            return Verdict.TAKEN
        if not (self.is_bpf_routing or is_north_south):
            return Verdict.PASS
        redirect_neigh(walk, packet, around.root)
        return Verdict.TAKEN

    def _deliver(self, walk: Walk, packet: Packet, *, is_known: bool = False) -> Verdict:
        """Hand a packet to a pod of this node; what is for others goes up the stack (``ipv4_local_delivery``)."""
        if not is_known:
            walk.pay(LOOKUP, at=_ENDPOINTS)
        device = self.endpoints.get(packet.destination)
        if device is None:
            return Verdict.PASS
        if self.is_bpf_routing:
            self._admit(walk, packet, device)
        self._hand_over(walk, packet, device)
        return Verdict.TAKEN

    def _hand_over(self, walk: Walk, packet: Packet, device: Veth) -> None:
        """Into a pod's namespace: at once, or past the program at its device and through its backlog."""
        (redirect_peer if self.is_bpf_routing else redirect)(walk, packet, device)

    def _admit(self, walk: Walk, packet: Packet, device: Device) -> None:
        """The receiving endpoint's own program (``handle_policy``)."""
        walk.pay("bpf_program", at=device.name)
        connections, flow = self._bpf.connections, packet.flow
        found, is_reply = connections.find(walk, flow, Direction.IN)
        if is_reply:
            self._north_south.restore(walk, packet, found)
            return
        walk.pay(LOOKUP, at=_POLICY)
        if found is None:
            called = None
            if self._is_replacement:
                origin = connections.find_exactly(walk, flow, Direction.OUT)
                called = origin.called if origin is not None and origin.is_from_card else None
            connections.add(walk, flow, Direction.IN, Tracked(called))

    @staticmethod
    def _tunnel(walk: Walk, packet: Packet, overlay: Vxlan, node: str) -> None:
        """Send a packet to another node through the tunnel (``encap_and_redirect_with_nodeid``)."""
        walk.pay("bpf_tunnel_key", at=overlay.name)
        walk.pay("bpf_redirect", at=overlay.name)
        overlay.send_to(walk, packet, node)
