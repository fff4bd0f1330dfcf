"""Connections that Open vSwitch tracks, each in a zone, apart from those of the hooks (net/openvswitch/conntrack.c).

The code that finds and makes entries is netfilter's own, and so are the operations.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubesim.kernel.openvswitch import Track
    from kubesim.kernel.packet import FlowTuple, Packet
    from kubesim.kernel.walk import Walk

NEW, ESTABLISHED, REPLY = "new", "established", "reply"
"""How a packet is to its connection; until a reply has been seen, all packets are new."""


@dataclass(slots=True)
class _Entry:
    """A connection of a zone."""

    original: FlowTuple
    reply: FlowTuple
    mark: int
    has_reply: bool = False


class Zones:
    """The tables of all zones."""

    def __init__(self) -> None:
        self._entries: dict[tuple[int, FlowTuple], tuple[_Entry, bool]] = {}

    def __len__(self) -> int:
        return sum(not is_reply for _, is_reply in self._entries.values())

    def flush(self) -> None:
        """Forget all connections."""
        self._entries.clear()

    def track(self, walk: Walk, packet: Packet, track: Track) -> tuple[str, int]:
        """Find a packet's connection, and translate the packet as that says, or make one (``ovs_ct_execute``).

        Returns
        -------
        tuple of str and int
            How the packet is to the connection, and what was noted with that.
        """
        found = self._entries.get((track.zone, packet.flow))
        place = f"zone {track.zone}"
        if track.commit:
            # What was looked up before is still with the packet.
            entry, is_reply = found or (self._make(walk, packet, track, place), False)
        else:
            walk.pay("conntrack_lookup", at=place)
            if found is None:
                walk.pay("conntrack_new", at=place)
                return NEW, 0
            entry, is_reply = found
        entry.has_reply |= is_reply
        _translate(walk, packet, entry.original if is_reply else entry.reply, place)
        return REPLY if is_reply else ESTABLISHED if entry.has_reply else NEW, entry.mark

    def _make(self, walk: Walk, packet: Packet, track: Track, place: str) -> _Entry:
        """Put a new connection into its zone, under both its tuples."""
        flow = packet.flow
        reply = flow.reversed()
        if track.destination is not None or track.source:
            walk.pay("nat_setup", at=place)
            if track.destination is not None:
                reply = reply._replace(source=track.destination[0], source_port=track.destination[1])
            if track.source:
                reply = reply._replace(destination=track.source)
        walk.pay("conntrack_confirm", at=place)
        entry = _Entry(flow, reply, track.mark)
        self._entries[track.zone, flow] = entry, False
        self._entries[track.zone, reply] = entry, True
        return entry


def _translate(walk: Walk, packet: Packet, other_way: FlowTuple, place: str) -> None:
    """Rewrite a packet so that one which answers it has this tuple."""
    wanted = other_way.reversed()
    if packet.flow == wanted:
        return
    walk.pay("nat_rewrite", at=place)
    packet.source, packet.source_port = wanted.source, wanted.source_port
    packet.destination, packet.destination_port = wanted.destination, wanted.destination_port
