"""Connection tracking: one entry per connection, found by the tuple of either direction (nf_conntrack_core.c)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubesim.kernel.address import flow_hash
from kubesim.kernel.fragment import reassemble
from kubesim.kernel.netfilter.hooks import Hook, HookCall, Priority, Verdict

UDP_TIMEOUT_S = 30
"""How long an entry of UDP without an answer stays (nf_conntrack_udp_timeout)."""

BUCKETS = 262_144
"""Buckets of the table on machines with more than 4 GiB (nf_conntrack_init_start); all namespaces share them."""

BUCKETS_SEARCHED = 8
"""Buckets in which a full table looks for an entry that can go (NF_CT_EVICTION_RANGE)."""

if TYPE_CHECKING:
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import FlowTuple, Packet
    from kubesim.kernel.walk import Walk


@dataclass(slots=True, eq=False)
class Connection:
    """A conntrack entry.

    Parameters
    ----------
    original
        The tuple of the packet that made the entry.
    reply
        The tuple that answers will have; NAT changes it.
    is_confirmed
        Whether the first packet has left the host or reached a socket, so that the entry is in the table.
    has_reply
        Whether an answer has been seen; until then packets count as NEW.
    is_assured
        Whether the entry stays when the table is full: TCP's does as soon as the handshake is done; UDP's would after
        2 s of traffic both ways, but a walk takes no time.
    has_destination_nat, has_source_nat
        Whether addresses are rewritten.
    nat_done
        The manipulations (``"destination"``, ``"source"``) that have been settled: nat chains are not walked again.
    """

    original: FlowTuple
    reply: FlowTuple
    is_confirmed: bool = False
    has_reply: bool = False
    is_assured: bool = False
    has_destination_nat: bool = False
    has_source_nat: bool = False
    nat_done: frozenset[str] = frozenset()


class Conntrack:
    """The table of one namespace.

    ``limit`` is how many connections it may hold (``nf_conntrack_max``), None for any number; ``others`` is how many
    assured ones it holds besides those walked here; ``buckets`` is the length of the hash table.

    Parameters
    ----------
    namespace
        The namespace whose hooks it uses.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._entries: dict[FlowTuple, tuple[Connection, bool]] = {}
        self._namespace = namespace
        self.limit: int | None = None
        self.others = 0
        self.buckets = BUCKETS
        namespace.conntrack = self
        for hook in (Hook.PREROUTING, Hook.OUTPUT):
            namespace.hooks.register(hook, Priority.DEFRAGMENT, self.defragment)
            namespace.hooks.register(hook, Priority.CONNTRACK, self.track)
        for hook in (Hook.INPUT, Hook.POSTROUTING):
            namespace.hooks.register(hook, Priority.CONNTRACK_CONFIRM, self.confirm)

    @classmethod
    def of(cls, namespace: Namespace) -> Conntrack:
        """The namespace's table; tracking starts when something first needs it, as in Linux."""
        return cls(namespace) if namespace.conntrack is None else namespace.conntrack

    def __len__(self) -> int:
        return len({id(entry) for entry, _ in self._entries.values()})

    def connections(self) -> list[Connection]:
        """All confirmed entries, in the order in which they were made."""
        return [entry for entry, is_reply in self._entries.values() if not is_reply]

    def flush(self, *, keeps_tunnels: bool = False) -> None:
        """Forget all entries, or all but those of flows between tunnel endpoints."""
        kept = [entry for entry in self.connections() if keeps_tunnels and self._is_of_tunnel(entry.original)]
        self._entries.clear()
        for entry in kept:
            self._insert(entry)

    def is_free(self, flow: FlowTuple) -> bool:
        """Whether no entry has this tuple."""
        return flow not in self._entries

    def defragment(self, walk: Walk, packet: Packet, call: HookCall) -> Verdict:
        """Put fragments together, since only the first has ports (nf_defrag_ipv4.c)."""
        reassemble(walk, packet, call.hook)
        return Verdict.ACCEPT

    def track(self, walk: Walk, packet: Packet, call: HookCall) -> Verdict:
        """Find the packet's entry, or make one (``nf_conntrack_in``)."""
        if packet.connection is not None or packet.is_untracked:
            return Verdict.ACCEPT
        walk.pay("conntrack_lookup", at=call.hook)
        found = self._entries.get(packet.flow)
        if found is None:
            with walk.for_first_buffer():
                if not self._has_room(walk, packet.flow, call):
                    walk.drop(f"nf_conntrack: table full, dropping packet, in {self._namespace.name}")
                    return Verdict.STOP
                walk.pay("conntrack_new", at=call.hook)
            flow = packet.flow
            packet.connection, packet.is_reply = Connection(flow, flow.reversed()), False
            packet.state = "NEW"
            return Verdict.ACCEPT
        packet.connection, packet.is_reply = found
        if packet.is_reply:
            packet.connection.has_reply = True
        elif packet.connection.has_reply and packet.protocol == "tcp":
            packet.connection.is_assured = True
        packet.state = "ESTABLISHED" if packet.connection.has_reply else "NEW"
        return Verdict.ACCEPT

    def confirm(self, walk: Walk, packet: Packet, call: HookCall) -> Verdict:
        """Put a new entry into the table, under both its tuples (``__nf_conntrack_confirm``)."""
        connection = packet.connection
        if connection is not None and not connection.is_confirmed:
            with walk.for_first_buffer():
                walk.pay("conntrack_confirm", at=call.hook)
            if not (self.is_free(connection.original) and self.is_free(connection.reply)):
                walk.drop(f"conntrack of {self._namespace.name}: another connection has the same tuple (insert_failed)")
                return Verdict.STOP
            connection.is_confirmed = True
            self._insert(connection)
        return Verdict.ACCEPT

    def _has_room(self, walk: Walk, flow: FlowTuple, call: HookCall) -> bool:
        """Whether the table takes one more, if need be for another that goes (``early_drop``).

        The first of the buckets behind the new one's that has entries which are not assured loses them all.
        """
        if self.limit is None or len(self) + self.others < self.limit:
            return True
        first = self._bucket(flow)
        near: dict[int, list[Connection]] = {}
        for found, (connection, _) in self._entries.items():
            near.setdefault((self._bucket(found) - first) % self.buckets, []).append(connection)
        evicted: list[Connection] = []
        buckets = met = 0
        while buckets < BUCKETS_SEARCHED and not evicted:
            here = near.get(buckets, [])
            evicted = [connection for connection in dict.fromkeys(here) if not connection.is_assured]
            buckets, met = buckets + 1, met + len(here)
        walk.pay("conntrack_early_drop", met + buckets * 2 * self.others // self.buckets, at=call.hook)
        for connection in evicted:
            walk.pay("conntrack_evict", at=call.hook)
            self._remove(connection)
        return bool(evicted)

    def _bucket(self, flow: FlowTuple) -> int:
        """Where a tuple is: requests and replies in buckets of their own, as ``hash_conntrack_raw`` has it."""
        return flow_hash("|".join(str(part) for part in flow)) % self.buckets

    def _remove(self, connection: Connection) -> None:
        for flow in (connection.original, connection.reply):
            self._entries.pop(flow, None)

    def _insert(self, connection: Connection) -> None:
        self._entries[connection.original] = (connection, False)
        self._entries[connection.reply] = (connection, True)

    def _is_of_tunnel(self, flow: FlowTuple) -> bool:
        return (flow.protocol, flow.destination_port) in self._namespace.encapsulation_sockets
