"""From a path to visits: neighbouring hops that one station does become one visit, with what they cost together."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from kubesim.kernel.walk import Context

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubesim.cost import CostSet
    from kubesim.kernel.walk import Hop


class Role(StrEnum):
    """Which of a host's stations a visit is to."""

    SEND = "send"
    """The core where the packet starts: the sending thread's, or the softirq's that answers by itself."""
    NIC = "nic"
    WIRE = "wire"
    PORT = "port"
    """The switch's port to the host."""
    SOFTIRQ = "softirq"
    """The core that polls the receive queue of the flow."""
    STEERED = "steered"
    """The core that RPS has chosen for the flow."""
    DAEMON = "daemon"
    """The core of a process that packets pass on their way."""
    WORKER = "worker"
    """The core of one of the kernel's threads, which take packets in turn."""
    PEER = "peer"
    """The core where the kernel does what has to be done in order for one remote end."""
    RECEIVE = "receive"
    """The receiving thread's core."""


_KEEPS_THE_PACKET = (Role.STEERED, Role.DAEMON, Role.WORKER, Role.PEER)
"""Whose cores go on with a packet that they have had."""


class PricedHop(NamedTuple):
    """A hop with what it costs on average, and where it is done."""

    hop: Hop
    role: Role
    cost_ns: int
    deviation_ns: float


@dataclass(frozen=True, slots=True)
class Visit:
    """A packet at one station.

    Parameters
    ----------
    host
        The machine.
    role
        Which of its stations.
    mean_ns, deviation_ns
        Mean and standard deviation of the service time; deviations of hops add up, since what makes one slow (a cold
        cache, a slow clock) makes its neighbours slow too.
    lookup_ns
        The part of the mean until conntrack has looked for the packet's connection, None where it does not.
    confirm_ns
        The part of the mean until conntrack has put a new connection into its table, None where it does not.
    """

    host: str
    role: Role
    mean_ns: int
    deviation_ns: float
    lookup_ns: int | None = None
    confirm_ns: int | None = None


class Lookup(NamedTuple):
    """Where on a packet's way conntrack first looks for its connection, and what has been done by then."""

    host: str
    until_ns: int


def first_lookup(hops: Iterable[PricedHop]) -> Lookup | None:
    """The first lookup among some hops, None if there is none."""
    return _first(hops, "conntrack_lookup")


def _first(hops: Iterable[PricedHop], operation: str) -> Lookup | None:
    """Where an operation is first done, and what has been by then."""
    done_ns = 0
    for one in hops:
        done_ns += one.cost_ns
        if one.hop.operation == operation:
            return Lookup(one.hop.host, done_ns)
    return None


def priced(hops: Iterable[Hop], costs: CostSet) -> tuple[PricedHop, ...]:
    """Price hops, and say which station does them.

    Until the packet leaves its host everything is done on the core where it started, softirq included; after a card has
    received it, softirq runs on the core of its receive queue, or from where RPS has sent it on, on that one; after a
    daemon or a thread of the kernel has had it, on theirs; and the process that gets it has its own. A packet that was
    cut pays for each of its buffers.
    """
    found = []
    core, has_started_softirq = Role.SEND, False
    for hop in hops:
        if hop.context is Context.PROCESS:
            role = Role.RECEIVE if has_started_softirq else Role.SEND
        elif hop.context is Context.SOFTIRQ:
            has_started_softirq = True
            role = core
        else:
            role = Role(hop.context.value)
            core = role if role in _KEEPS_THE_PACKET else Role.SOFTIRQ
        found.append(PricedHop(hop, role, *costs.price(hop.operation, hop.items, hop.size_bytes, hop.buffers)))
    return tuple(found)


def visits(hops: Iterable[PricedHop]) -> tuple[Visit, ...]:
    """Group neighbouring hops at one station."""
    found = []
    for (host, role), neighbours in groupby(hops, lambda one: (one.hop.host, one.role)):
        group = list(neighbours)
        lookup, confirm = first_lookup(group), _first(group, "conntrack_confirm")
        mean_ns, deviation_ns = sum(one.cost_ns for one in group), sum(one.deviation_ns for one in group)
        until_ns = (None if one is None else one.until_ns for one in (lookup, confirm))
        found.append(Visit(host, role, mean_ns, deviation_ns, *until_ns))
    return tuple(found)
