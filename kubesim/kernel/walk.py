"""A packet's walk over kernel state, and the path it leaves: which operations were done, where, and how often."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from kubesim.kernel.watch import Ruling, Sight, headers_of

if TYPE_CHECKING:
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.netfilter.rule import Rule
    from kubesim.kernel.netfilter.traversal import State
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.watch import Watch


class Context(StrEnum):
    """Who does an operation, and so whose time it takes."""

    PROCESS = "process"
    SOFTIRQ = "softirq"
    DAEMON = "daemon"
    """A process that packets pass on their way, one thread for all of them: flanneld, Weave's router, kube-proxy."""
    WORKER = "worker"
    """The kernel's own threads, one per core, that take packets in turn: WireGuard's."""
    STEERED = "steered"
    """Softirq on the core that RPS has chosen for the packet."""
    PEER = "peer"
    """What the kernel does for one remote end at a time, in order, on one core: WireGuard's sending, and its NAPI."""
    NIC = "nic"
    WIRE = "wire"
    PORT = "port"


class Hop(NamedTuple):
    """An operation done on one packet.

    ``items`` says how often, in the operation's own terms: rules tested, buckets looked through, frames.
    ``size_bytes`` is what an operation that touches the data touches.
    ``buffers`` is how many socket buffers the packet is in there, each of which pays: more than one where it was cut,
    or where nobody merged its frames; ``items`` are of each, ``size_bytes`` of all.
    """

    host: str
    context: Context
    operation: str
    items: int
    size_bytes: int
    at: str
    buffers: int = 1

    @property
    def total_items(self) -> int:
        """Items of all buffers together."""
        return self.items * self.buffers


class HookVisit(NamedTuple):
    """A netfilter hook the packet passed, as a trace in the kernel would show it."""

    host: str
    family: str
    hook: str
    in_device: str | None
    out_device: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The choice of one real server out of several, made once for a connection.

    Parameters
    ----------
    destination, port
        The server chosen.
    hops_before
        How many of the path's hops came before the choice was made.
    interval
        The part of [0, 1) in which the flow's random number leads to this same choice, or to the same scheduler.
    schedule
        Where a scheduler decides from its own state: the function that decides for one more connection from
        ``(source, source port)``; None where it is chance.
    is_sticky
        Whether later connections of the same client will go the same way.
    shares
        Where a scheduler decides: gives the servers it would spread connections over, and the share of each.
    """

    destination: str
    port: int
    hops_before: int
    interval: tuple[float, float]
    schedule: Callable[[str, int], tuple[str, int]] | None = None
    is_sticky: bool = False
    shares: Callable[[], dict[tuple[str, int], float]] | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """A verdict of netfilter that ended a packet's way.

    Parameters
    ----------
    verdict
        ``DROP`` or ``REJECT``.
    rule
        The rule that said so, None for a policy.
    """

    verdict: str
    rule: Rule | None


@dataclass(frozen=True, slots=True)
class Path:
    """Everything that happened to one packet.

    Parameters
    ----------
    hops
        The operations in order.
    hooks
        The netfilter hooks passed, in order.
    rules_tested
        Rules tested per host, table and hook: ``(host, "nat/PREROUTING") -> 10007``.
    delivered_to
        Name of the namespace that got the packet, None if none did.
    reason
        Why the packet got nowhere, None if it arrived.
    refusal
        The rule that saw to that, where it was one.
    packet
        The packet with its headers as they were at the end.
    decision
        The choice of a server, where there was one.
    queue_hash
        What chose the receive queue of the last card, where that was not the flow itself: a tunnel whose outer headers
        are the same for all flows, or fragments.
    steering_hash
        The same for what RPS chose there.
    ways
        The machines that were chosen before a server was: by a load balancer, or by a router with several next hops.
    interval
        The part of [0, 1) in which the flow's random number leads to the same choices.
    watch
        What was seen on the way, where somebody watched.
    """

    hops: tuple[Hop, ...]
    hooks: tuple[HookVisit, ...]
    rules_tested: dict[tuple[str, str], int]
    delivered_to: str | None
    reason: str | None
    packet: Packet
    decision: Decision | None
    refusal: Refusal | None = None
    queue_hash: int | None = None
    steering_hash: int | None = None
    ways: tuple[str, ...] = ()
    interval: tuple[float, float] = (0.0, 1.0)
    watch: Watch | None = None


class Chance:
    """A flow's random number, spent piece by piece on the random decisions it meets.

    Each decision cuts the interval in which the number is known to lie; one uniform number is enough for a whole
    chain of ``statistic`` rules, and the choice is the same as if each had drawn its own.

    Parameters
    ----------
    number
        Uniform in [0, 1).
    server
        The real server that a scheduler has already chosen for this flow, if one has.
    """

    __slots__ = ("high", "low", "number", "server")

    def __init__(self, number: float = 0.0, server: tuple[str, int] | None = None) -> None:
        self.number = number
        self.server = server
        self.low = 0.0
        self.high = 1.0

    def happens(self, probability: float) -> bool:
        """Whether something of this probability happens."""
        threshold = self.low + probability * (self.high - self.low)
        if self.number < threshold:
            self.high = threshold
            return True
        self.low = threshold
        return False

    def pick(self, ways: int) -> int:
        """One of so many equally likely ways."""
        width = (self.high - self.low) / ways
        way = min(ways - 1, int((self.number - self.low) / width))
        self.low, self.high = self.low + way * width, self.low + (way + 1) * width
        return way


class Walk:
    """The way of one packet through kernel state.

    Work that the kernel puts into a queue (a backlog, a wire) is put into ``_pending`` here too, so that a long way is
    no deep recursion.

    Parameters
    ----------
    chance
        The flow's random number.
    materialise
        Called with each address the packet is sent to, before state is asked about it: builds what is built only
        when first used.
    receive_call
        The system call in which a process waits for the packet, None if nobody does.
    stop_at_decision
        End the walk as soon as a server is chosen.
    watch
        Takes what is seen on the way, None if nobody watches.

    Attributes
    ----------
    buffers
        How many socket buffers the packet is in at the moment: more than one where it is in fragments, or in frames
        that a card has not merged.
    """

    def __init__(
        self,
        chance: Chance | None = None,
        materialise: Callable[[str], None] = lambda _address: None,
        *,
        receive_call: str | None = None,
        stop_at_decision: bool = False,
        watch: Watch | None = None,
    ) -> None:
        self.chance = chance or Chance()
        self.materialise = materialise
        self.receive_call = receive_call
        self.host = ""
        self.context = Context.PROCESS
        self.buffers = 1
        self.queue_hash: int | None = None
        self.steering_hash: int | None = None
        self._stop_at_decision = stop_at_decision
        self._watch = watch
        self._hops: list[Hop] = []
        self._hooks: list[HookVisit] = []
        self._rules_tested: dict[tuple[str, str], int] = {}
        self._pending: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()
        self._delivered_to: str | None = None
        self._reason: str | None = None
        self._refusal: Refusal | None = None
        self._decision: Decision | None = None
        self._ways: list[str] = []

    def pay(self, operation: str, items: int = 1, size_bytes: int = 0, at: str = "") -> None:
        """Note an operation, done on each of the packet's buffers: ``items`` are of one, ``size_bytes`` of all."""
        self._hops.append(Hop(self.host, self.context, operation, items, size_bytes, at, self.buffers))

    @contextlib.contextmanager
    def for_first_buffer(self) -> Iterator[None]:
        """What is done meanwhile is done on the first of the packet's buffers only: it makes what the others find."""
        buffers, self.buffers = self.buffers, 1
        yield
        self.buffers = buffers

    def note_hook(self, family: str, hook: str, in_device: str | None, out_device: str | None) -> None:
        """Note a netfilter hook."""
        if self._watch is not None:
            self._watch.hook_starts.append(len(self._hops))
        self._hooks.append(HookVisit(self.host, family, hook, in_device, out_device))

    def note_rules(self, table_and_hook: str, tested: int) -> None:
        """Note how many rules were tested."""
        key = (self.host, table_and_hook)
        self._rules_tested[key] = self._rules_tested.get(key, 0) + tested

    def see(self, packet: Packet, namespace: Namespace) -> None:
        """Show the packet, as it is now, to who watches."""
        if self._watch is not None:
            self._watch.sights.append(Sight(len(self._hops), namespace, headers_of(packet)))

    def note_ruling(self, place: str, state: State) -> None:
        """Show what a table said to who watches."""
        if self._watch is not None:
            self._watch.rulings.append(Ruling(len(self._hops), place, state))

    def defer(self, work: Callable[..., None], *arguments: object) -> None:
        """Put work into a queue, as a hand-off to softirq or to another host does."""
        self._pending.append((work, arguments))

    def drop(self, reason: str, refusal: Refusal | None = None) -> None:
        """End the walk without delivery."""
        self._reason = reason
        self._refusal = refusal

    def deliver(self, namespace: Namespace) -> None:
        """End the walk at a socket."""
        self._delivered_to = namespace.name

    def decide(
        self,
        destination: str,
        port: int,
        *,
        schedule: Callable[[str, int], tuple[str, int]] | None = None,
        is_sticky: bool = False,
        shares: Callable[[], dict[tuple[str, int], float]] | None = None,
    ) -> None:
        """Note that a server was chosen for the connection."""
        interval = (self.chance.low, self.chance.high)
        self._decision = Decision(destination, port, len(self._hops), interval, schedule, is_sticky, shares)
        if not self._stop_at_decision:
            self.materialise(destination)

    def choose_way(self, machines: Sequence[str]) -> str:
        """One of several machines to go on by, each equally likely."""
        way = machines[self.chance.pick(len(machines)) if len(machines) > 1 else 0]
        self._ways.append(way)
        return way

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do because a decision was all that was asked for."""
        return self._stop_at_decision and self._decision is not None

    def run(self, packet: Packet) -> Path:
        """Work the queue off and give the path."""
        while self._pending and not self.is_over:
            work, arguments = self._pending.popleft()
            work(*arguments)
        if self._delivered_to is None and self._reason is None and not self.is_over:
            self._reason = "the packet was consumed without reaching a socket"
        return Path(
            tuple(self._hops),
            tuple(self._hooks),
            self._rules_tested,
            self._delivered_to,
            self._reason,
            packet,
            self._decision,
            self._refusal,
            self.queue_hash,
            self.steering_hash,
            tuple(self._ways),
            (self.chance.low, self.chance.high),
            self._watch,
        )
