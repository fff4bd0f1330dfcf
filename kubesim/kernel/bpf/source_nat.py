"""Source translation by programs: a map with two elements for each connection, one for each way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.address import flow_hash
from kubesim.kernel.bpf.connections import Place
from kubesim.kernel.bpf.program import LOOKUP, UPDATE

if TYPE_CHECKING:
    from kubesim.kernel.packet import FlowTuple, Packet
    from kubesim.kernel.walk import Walk

_MAP = "source NAT"
_FIRST_PORT, _PORTS = 32_768, 32_768


class SourceNat:
    """The map of one host."""

    def __init__(self) -> None:
        self._translated: dict[FlowTuple, Place] = {}
        self._original: dict[FlowTuple, Place] = {}

    def translate(self, walk: Walk, packet: Packet, address: str) -> None:
        """Let the packet seem to come from another address, under a port that is free there.

        A port of the range is kept if it is free; the draw of another is a hash, so that a walk is always the same.
        """
        flow = packet.flow
        walk.pay(LOOKUP, at=_MAP)
        known = self._translated.get(flow)
        if known is None:
            known = self._free_place(flow, address)
            walk.pay(UPDATE, at=_MAP)
            walk.pay(UPDATE, at=_MAP)
            self._translated[flow] = known
            self._original[self._reply(flow, known)] = Place(flow.source, flow.source_port)
        walk.pay("bpf_nat", at=_MAP)
        packet.source, packet.source_port = known

    def revert(self, walk: Walk, packet: Packet) -> bool:
        """Send a reply on to whom it is for; whether it is one."""
        walk.pay(LOOKUP, at=_MAP)
        client = self._original.get(packet.flow)
        if client is None:
            return False
        walk.pay("bpf_nat", at=_MAP)
        packet.destination, packet.destination_port = client
        return True

    def flush(self) -> None:
        """Forget all."""
        self._translated.clear()
        self._original.clear()

    def _free_place(self, flow: FlowTuple, address: str) -> Place:
        port, attempt = flow.source_port, 0
        while port < _FIRST_PORT or self._reply(flow, Place(address, port)) in self._original:
            port = _FIRST_PORT + flow_hash(*flow, attempt) % _PORTS
            attempt += 1
        return Place(address, port)

    @staticmethod
    def _reply(flow: FlowTuple, place: Place) -> FlowTuple:
        return flow.reversed()._replace(destination=place.address, destination_port=place.port)
