"""Network address translation: chains decide once per connection, the conntrack entry does the rest (nf_nat_core.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.address import flow_hash
from kubesim.kernel.netfilter.conntrack import Connection, Conntrack
from kubesim.kernel.netfilter.hooks import Hook, HookCall, HookFunction, Priority, Verdict
from kubesim.kernel.packet import TRANSPORT_HEADER_BYTES

if TYPE_CHECKING:
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import FlowTuple, Packet
    from kubesim.kernel.walk import Walk

DESTINATION, SOURCE = "destination", "source"
_MANIPULATION = {
    Hook.PREROUTING: DESTINATION,
    Hook.OUTPUT: DESTINATION,
    Hook.INPUT: SOURCE,
    Hook.POSTROUTING: SOURCE,
}
_FIRST_PORT, _PORTS = 1024, 64512  # nf_nat_l4proto_unique_tuple: any unprivileged port
_PORT_WINDOWS = (128, 64, 32, 16, 8)  # NF_NAT_MAX_ATTEMPTS, halved while it is at least 16

SOURCE_PORTS = _PORTS
"""Ports that translated sources may have, for each address, destination and protocol."""

PORTS_TRIED = sum(_PORT_WINDOWS)
"""How many ports are tried before a search gives up."""

LONGEST_WINDOW = _PORT_WINDOWS[0]
"""So many ports, or fewer, are all tried."""


class Nat:
    """What walks nat chains for new connections and rewrites the packets of all.

    Parameters
    ----------
    namespace
        The namespace whose hooks it uses.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._conntrack = Conntrack.of(namespace)
        self._chains: dict[Hook, list[tuple[int, HookFunction]]] = {hook: [] for hook in _MANIPULATION}
        namespace.nat = self
        for hook, manipulation in _MANIPULATION.items():
            priority = Priority.NAT_DESTINATION if manipulation == DESTINATION else Priority.NAT_SOURCE
            namespace.hooks.register(hook, priority, self)

    @classmethod
    def of(cls, namespace: Namespace) -> Nat:
        """The namespace's translation; it starts when the first nat chain is registered."""
        return cls(namespace) if namespace.nat is None else namespace.nat

    def register(self, hook: Hook, priority: int, chain: HookFunction) -> None:
        """Add a nat chain; chains of iptables and nftables stand side by side, ordered by priority."""
        self._chains[hook].append((priority, chain))
        self._chains[hook].sort(key=lambda entry: entry[0])

    def __call__(self, walk: Walk, packet: Packet, call: HookCall) -> Verdict:
        """Set a new connection up, and rewrite the packet if its connection says so (``nf_nat_inet_fn``)."""
        connection = packet.connection
        if connection is None:
            return Verdict.ACCEPT
        manipulation = _MANIPULATION[call.hook]
        if packet.state == "NEW" and manipulation not in connection.nat_done:
            with walk.for_first_buffer():
                if not self._settle(walk, packet, call, connection, manipulation):
                    return Verdict.STOP
        if self._rewrite(packet, connection, manipulation):
            walk.pay("nat_rewrite", at=call.hook)
        return Verdict.ACCEPT

    def _settle(self, walk: Walk, packet: Packet, call: HookCall, connection: Connection, manipulation: str) -> bool:
        """Walk the chains of a hook until one has decided; whether the packet may go on."""
        for _, chain in self._chains[call.hook]:
            if chain(walk, packet, call) is Verdict.STOP:
                return False
            if manipulation in connection.nat_done:
                break
        connection.nat_done |= {manipulation}
        walk.pay("nat_setup", at=call.hook)
        return True

    def translate_destination(self, connection: Connection, address: str, port: int) -> None:
        """Send this connection to another address (DNAT)."""
        connection.reply = connection.reply._replace(source=address, source_port=port)
        connection.has_destination_nat = True
        connection.nat_done |= {DESTINATION}

    def translate_source(self, walk: Walk, connection: Connection, address: str, *, is_random_port: bool) -> None:
        """Let this connection seem to come from another address (SNAT, MASQUERADE), under a port that is free.

        Linux keeps the port where it can, or draws one (``--random-fully``); here the draw is a hash of the flow,
        so that a walk is always the same. Ports are free or not for each server by itself; a protocol without ports,
        as IP in IP, keeps none.
        """
        port = connection.original.source_port
        reply = connection.reply._replace(destination=address, destination_port=port)
        has_ports = connection.original.protocol in TRANSPORT_HEADER_BYTES
        if has_ports and (is_random_port or not self._conntrack.is_free(reply)):
            reply = self._with_free_port(walk, reply, connection.original)
        connection.reply = reply
        connection.has_source_nat = True
        connection.nat_done |= {SOURCE}

    def _with_free_port(self, walk: Walk, reply: FlowTuple, original: FlowTuple) -> FlowTuple:
        """Look for a free port in windows that shrink, each from another start (``nf_nat_l4proto_unique_tuple``).

        When all are in use, or this search only meets such, a port is taken all the same, and the packet is dropped
        when its entry is to be confirmed.
        """
        tried = 0
        for number, window in enumerate(_PORT_WINDOWS):
            start = flow_hash(*original, number)
            for step in range(window):
                reply = reply._replace(destination_port=_FIRST_PORT + (start + step) % _PORTS)
                if self._conntrack.is_free(reply):
                    if tried:
                        walk.pay("nat_port_search", tried)
                    return reply
                tried += 1
        walk.pay("nat_port_search", tried)
        return reply

    @staticmethod
    def _rewrite(packet: Packet, connection: Connection, manipulation: str) -> bool:
        """Bring the headers to what the other side is to see (``nf_nat_packet``); whether anything changed."""
        reverts = connection.has_source_nat if manipulation == DESTINATION else connection.has_destination_nat
        applies = connection.has_destination_nat if manipulation == DESTINATION else connection.has_source_nat
        if not (reverts if packet.is_reply else applies):
            return False
        seen = connection.original if packet.is_reply else connection.reply
        if manipulation == DESTINATION:
            packet.destination, packet.destination_port = seen.source, seen.source_port
        else:
            packet.source, packet.source_port = seen.destination, seen.destination_port
        return True
