"""From a watched path to its stops: the sockets, devices, hooks and decisions that the packet passed, one by one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from kubesim.kernel.netfilter.hooks import Hook
from kubesim.kernel.walk import Context

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import FlowTuple
    from kubesim.kernel.walk import HookVisit, Hop, Path
    from kubesim.kernel.watch import Ruling, Sight, Watch
    from kubesim.scenario.visits import PricedHop


class StopKind(StrEnum):
    """What sort of place a stop is."""

    SOCKET = "socket"
    DEVICE = "device"
    HOOK = "hook"
    ROUTING = "routing"
    PROCESS = "process"
    """A process on the way, or one of the kernel's threads."""
    WIRE = "wire"
    """Between machines: from the card's queue to that of the next."""


_OFF_CORE = (Context.NIC, Context.WIRE, Context.PORT)
_USUAL = (Context.PROCESS, Context.SOFTIRQ)
_DEVICES = ("ip_output", "bridge_", "veth_", "vxlan_", "geneve_", "nic_", "gso_", "backlog")
"""How operations of devices begin; a process on the way does them too when it sends."""
_ROUTING = ("route_", "ip_receive", "ip_forward")


class _Place(NamedTuple):
    host: str
    namespace: str
    kind: StopKind
    name: str


@dataclass(frozen=True)
class Stop:
    """A place that the packet passed, and what was done there.

    Parameters
    ----------
    host, namespace, kind, name
        The machine, its network namespace, and the place in that; a wire is that of the host that sends.
    hops
        The operations, with their costs.
    hooks
        The hooks passed there: the hook itself, those of a bridge, and those that cost nothing before the first hop.
    rulings
        What tables said there.
    before, after
        The packet's flow by each of its headers, outermost first, as it comes and as it goes.
    """

    host: str
    namespace: str
    kind: StopKind
    name: str
    hops: tuple[PricedHop, ...]
    hooks: tuple[HookVisit, ...]
    rulings: tuple[Ruling, ...]
    before: tuple[FlowTuple, ...]
    after: tuple[FlowTuple, ...]

    @property
    def cost_ns(self) -> int:
        """What its hops cost together."""
        return sum(one.cost_ns for one in self.hops)

    @property
    def rules_tested(self) -> int:
        """Rules tested there."""
        return sum(ruling.state.tested for ruling in self.rulings)

    @property
    def contexts(self) -> str:
        """Who works there, one after the other: ``softirq, process``; nobody where it is not a core's work."""
        found = dict.fromkeys(one.hop.context.value for one in self.hops if one.hop.context not in _OFF_CORE)
        return ", ".join(found)

    @property
    def between(self) -> str:
        """For a hook: the devices by which the packet came and will go, as ``iif cni0, oif eth0``."""
        visits = [visit for visit in self.hooks if visit.hook.upper() == self.name]
        ways = [(way, device) for visit in visits[:1] for way, device in zip(("iif", "oif"), visit[3:], strict=True)]
        return ", ".join(f"{way} {device}" for way, device in ways if device)

    @property
    def passed(self) -> tuple[str, ...]:
        """Hooks passed besides: those of a bridge, and those where nothing had to be done."""
        others = [visit for visit in self.hooks if visit.hook.upper() != self.name]
        return tuple(visit.hook.upper() if visit.family == "inet" else visit.hook for visit in others)


def stops_of(hops: Sequence[PricedHop], path: Path) -> tuple[Stop, ...]:
    """The stops of a path that was watched.

    Parameters
    ----------
    hops
        The path's hops with what they cost.
    path
        The path; of one that nobody watched only the hops are known.
    """
    sights = [] if path.watch is None else path.watch.sights
    places = _places(path.hops, sights)
    headers = _headers(len(path.hops), sights)
    hooks = _hooks_by_hop(path)
    rulings = _rulings_by_hop(path.watch)
    found = []
    for place, numbers in groupby(range(len(path.hops)), key=lambda number: places[number]):
        members = list(numbers)
        first, after_last = members[0], members[-1] + 1
        found.append(
            Stop(
                host=place.host,
                namespace=place.namespace,
                kind=place.kind,
                name=place.name,
                hops=tuple(hops[first:after_last]),
                hooks=tuple(visit for number in members for visit in hooks.get(number, ())),
                rulings=tuple(ruling for number in members for ruling in rulings.get(number, ())),
                before=headers[first],
                after=headers[after_last],
            )
        )
    return tuple(found)


def _places(hops: Sequence[Hop], sights: Sequence[Sight]) -> list[_Place]:
    """Where each hop is done; what is at no device, such as a lookup in a map, goes with what came before."""
    found: list[_Place] = []
    for hop, namespace in zip(hops, _namespaces(hops, sights), strict=True):
        last = found[-1] if found else None
        if hop.context in _OFF_CORE:
            place = last if last and last.kind is StopKind.WIRE else _Place(hop.host, "", StopKind.WIRE, "wire")
        else:
            name = hop.host if namespace is None else namespace.name  # a root namespace has its machine's name
            place = _Place(hop.host, name, *_kind_and_name(hop, name))
            is_nowhere = place.kind is StopKind.DEVICE and namespace is not None and hop.at not in namespace.devices
            if is_nowhere and last is not None and last[:2] == place[:2]:
                place = last
        found.append(place)
    return found


def _namespaces(hops: Sequence[Hop], sights: Sequence[Sight]) -> list[Namespace | None]:
    """The namespace of each hop: where the packet was last seen on that machine."""
    found = []
    seen = 0
    latest: dict[str, Namespace] = {}
    for number, hop in enumerate(hops):
        while seen < len(sights) and sights[seen].hops_before <= number:
            latest[sights[seen].namespace.host.name] = sights[seen].namespace
            seen += 1
        found.append(latest.get(hop.host))
    return found


def _kind_and_name(hop: Hop, namespace: str) -> tuple[StopKind, str]:
    """What sort of place a hop's is, and its name."""
    hook = hop.at.rpartition("/")[2]  # a table at a hook is nat/PREROUTING
    if hook in Hook.__members__:
        return StopKind.HOOK, hook
    if hop.operation.startswith(_ROUTING):
        return StopKind.ROUTING, "routing"
    if hop.context not in _USUAL and not hop.operation.startswith(_DEVICES):
        return StopKind.PROCESS, hop.at
    if hop.at == namespace:
        return StopKind.SOCKET, "socket"
    return StopKind.DEVICE, hop.at


def _headers(hops: int, sights: Sequence[Sight]) -> list[tuple[FlowTuple, ...]]:
    """The packet's headers before each hop, and at the end."""
    found: list[tuple[FlowTuple, ...]] = []
    seen = 0
    now: tuple[FlowTuple, ...] = ()
    for number in range(hops + 1):
        while seen < len(sights) and sights[seen].hops_before <= number:
            now = sights[seen].headers
            seen += 1
        found.append(now)
    return found


def _hooks_by_hop(path: Path) -> dict[int, list[HookVisit]]:
    """The hooks passed, by the hop that they go with."""
    found: dict[int, list[HookVisit]] = {}
    starts = [] if path.watch is None else path.watch.hook_starts
    for start, visit in zip(starts, path.hooks, strict=False):
        is_before = visit.family != "inet" and start > 0 and not _is_of_bridge(path.hops, start)
        number = min(start - 1 if is_before else start, len(path.hops) - 1)
        found.setdefault(number, []).append(visit)
    return found


def _is_of_bridge(hops: Sequence[Hop], number: int) -> bool:
    """Whether a hop is a bridge's, and the one before is not."""
    if number >= len(hops):
        return False
    return hops[number].operation.startswith("bridge_") and not hops[number - 1].operation.startswith("bridge_")


def _rulings_by_hop(watch: Watch | None) -> dict[int, list[Ruling]]:
    """What tables said, by the last hop that each paid for."""
    found: dict[int, list[Ruling]] = {}
    for ruling in [] if watch is None else watch.rulings:
        found.setdefault(ruling.hops_before - 1, []).append(ruling)
    return found
