"""What someone who watches a walk sees besides its path: where the packet is, by which headers, and what rules say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.netfilter.traversal import State
    from kubesim.kernel.packet import FlowTuple, Packet


class Sight(NamedTuple):
    """The packet at one moment: before which hop, in which namespace, and its headers, a tunnel's first."""

    hops_before: int
    namespace: Namespace
    headers: tuple[FlowTuple, ...]


class Ruling(NamedTuple):
    """How a table's chains at one hook ended for the packet; ``place`` is table and hook."""

    hops_before: int
    place: str
    state: State


@dataclass(slots=True)
class Watch:
    """All that was seen on one walk, each in order.

    Parameters
    ----------
    sights
        The packet in passing: where it enters a namespace or a hook, is sent, wrapped, or comes out of a hook.
    rulings
        What tables said.
    hook_starts
        For each netfilter hook of the path, how many hops came before it.
    """

    sights: list[Sight] = field(default_factory=list)
    rulings: list[Ruling] = field(default_factory=list)
    hook_starts: list[int] = field(default_factory=list)


def headers_of(packet: Packet) -> tuple[FlowTuple, ...]:
    """The flow by each header of a packet, from the outermost in."""
    headers = [packet.flow]
    while packet.inner is not None:
        packet = packet.inner
        headers.append(packet.flow)
    return tuple(headers)
