"""Workloads that do one thing again and again: their messages follow from their numbers, so that nobody keeps them all.

Connections, or slots in which one connection follows another, are *sequences* that have nothing to do with each other.
All have the same script: steps that come once, the head, and a round of steps that is repeated.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kubesim.workload._messages import NONE, Messages, Script
from kubesim.workload._traffic import refuse_too_many

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.cluster import Pod
    from kubesim.workload._messages import Destination, Flows, MessageKind


class Step(NamedTuple):
    """A message of a script.

    Parameters
    ----------
    kind
        Which of the kinds it is of.
    back
        How many messages before it in the sequence the one is that releases it; 0 for none.
    think_ns, timeout_ns
        Time from the end, or the loss, of that one.
    begins, ends
        Whether a transaction begins with it, or ends with it.
    """

    kind: int
    back: int = 1
    think_ns: int = 0
    timeout_ns: int = NONE
    begins: bool = False
    ends: bool = False


@dataclass(frozen=True, eq=False)
class RepeatingScript:
    """What every sequence sends: the head, then the round so many times, then the tail.

    Parameters
    ----------
    head
        Steps that come once.
    round
        Steps that are repeated; exactly one transaction begins in it, and one ends, unless there are none.
    times
        How often.
    tail
        Steps that come once at the end, where no transaction begins or ends.
    is_connection_per_round
        Whether each round has a connection of its own, as the head has.
    """

    head: tuple[Step, ...]
    round: tuple[Step, ...] = ()
    times: int = 0
    tail: tuple[Step, ...] = ()
    is_connection_per_round: bool = False
    _columns: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict, init=False, repr=False)

    def __len__(self) -> int:
        return len(self.head) + len(self.round) * self.times + len(self.tail)

    @property
    def connections(self) -> int:
        """Connections of a sequence."""
        return 1 + self.times if self.is_connection_per_round else 1

    @property
    def transactions(self) -> int:
        """Transactions of a sequence."""
        return sum(step.begins for step in self.head) + (self.times if self.round else 0)

    def round_of(self, step: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Which round steps, shape (m,), are of, from 0; the head counts as the first, and the tail as the last."""
        round_ = step - len(self.head)
        round_ //= max(1, len(self.round))
        if self.head:
            np.maximum(round_, 0, out=round_)
        return np.minimum(round_, max(0, self.times - 1), out=round_) if self.tail or not self.times else round_

    def place(self, step: npt.NDArray[np.int64], round_: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where steps, shape (m,), of these rounds are in :meth:`column`."""
        return step - round_ * len(self.round)

    def column(self, name: str) -> npt.NDArray[np.int64]:
        """One field of the steps of head, round and tail."""
        if name not in self._columns:
            repeated = self.round if self.times else ()
            self._columns[name] = np.array([getattr(step, name) for step in self.head + repeated + self.tail], np.int64)
        return self._columns[name]

    def nth(self, name: str) -> npt.NDArray[np.int64]:
        """Of each step for which this field is true: how many of these come before it."""
        return np.cumsum(self.column(name)) - 1

    def kinds(self) -> dict[int, int]:
        """How many messages of each kind a connection has, by the kind's number."""
        counts: Counter[int] = Counter(step.kind for step in self.head + self.tail)
        if not self.is_connection_per_round:
            counts.update({kind: n * self.times for kind, n in Counter(one.kind for one in self.round).items()})
        return {kind: counts[kind] for kind in sorted(counts) if counts[kind]}


@dataclass(frozen=True, eq=False)
class MessagesPart:
    """Some of a workload's messages, ``m`` of them; what they are is worked out when somebody asks for it.

    Parameters
    ----------
    messages
        The workload.
    sequence, step : array of int64, shape (m,)
        Which steps of which sequences they are, in the order of their numbers.
    """

    messages: Sequences
    sequence: npt.NDArray[np.int64]
    step: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.step)

    @cached_property
    def number(self) -> npt.NDArray[np.int64]:
        """The message's number in the whole workload, rising, shape (m,)."""
        return self.sequence * len(self.messages.script) + self.step

    @property
    def thread(self) -> npt.NDArray[np.int64]:
        """As :class:`Messages` has it, and what follows likewise."""
        return self.sequence

    @property
    def flow(self) -> npt.NDArray[np.int64]:
        """Connection."""
        script = self.messages.script
        if not script.is_connection_per_round:
            return self.sequence
        return self.sequence * script.connections + self._round + (self.step >= len(script.head))

    @property
    def kind(self) -> npt.NDArray[np.int64]:
        """Position of the kind."""
        return self._column("kind")

    @property
    def release_ns(self) -> npt.NDArray[np.int64]:
        """Earliest time."""
        release_ns, first = np.zeros(len(self), np.int64), np.flatnonzero(self.step == 0)
        release_ns[first] = self.messages.starts_ns[self.sequence[first]]
        if self.messages.interval_ns:
            begins = np.flatnonzero(self._column("begins"))
            nth = self.messages.script.nth("begins")[self._place[begins]] + self._round[begins]
            release_ns[begins] += np.rint(nth * self.messages.interval_ns).astype(np.int64)
        return release_ns

    @property
    def after(self) -> npt.NDArray[np.int64]:
        """Number in the whole workload of the message that releases it."""
        back = self._column("back")
        after = self.number - back
        after[back == 0] = NONE
        return after

    @property
    def think_ns(self) -> npt.NDArray[np.int64]:
        """Time from its end."""
        return self._column("think_ns")

    @property
    def timeout_ns(self) -> npt.NDArray[np.int64]:
        """Time from its loss."""
        return self._column("timeout_ns")

    @property
    def begins(self) -> npt.NDArray[np.int64]:
        """Number of the transaction that begins with the message, −1 for none, shape (m,)."""
        return self._transaction("begins")

    @property
    def ends(self) -> npt.NDArray[np.int64]:
        """Number of the transaction that ends with it."""
        return self._transaction("ends")

    @cached_property
    def _round(self) -> npt.NDArray[np.int64]:
        return self.messages.script.round_of(self.step)

    @cached_property
    def _place(self) -> npt.NDArray[np.int64]:
        return self.messages.script.place(self.step, self._round)

    def _column(self, name: str) -> npt.NDArray[np.int64]:
        column = self.messages.script.column(name)
        return column.take(self._place) if (column != column[0]).any() else np.full(len(self), column[0])

    def _transaction(self, name: str) -> npt.NDArray[np.int64]:
        """Number of the transaction where one begins, or ends, with the message."""
        script = self.messages.script
        number = self.sequence * script.transactions + self._round + script.nth(name).take(self._place)
        return np.where(self._column(name) > 0, number, NONE)


@dataclass(frozen=True, eq=False)
class Sequences:
    """A workload of ``s`` sequences, ready to be sent; message ``i · len(script) + j`` is step ``j`` of sequence ``i``.

    A sequence has a thread of its own. Parameters that are not here are those of :class:`Messages`.

    Parameters
    ----------
    script
        What each sequence sends.
    flows
        The connections, sequence by sequence.
    starts_ns : array of int64, shape (s,)
        When the first message of each is sent.
    interval_ns
        Time between the earliest starts of a sequence's transactions; 0 for one after the other.
    """

    kinds: tuple[MessageKind, ...]
    clients: tuple[Pod, ...]
    services: tuple[Destination, ...]
    flows: Flows
    script: RepeatingScript
    starts_ns: npt.NDArray[np.int64]
    bytes_per_transaction: int
    interval_ns: float = 0.0
    socket_places: int | None = None

    def __len__(self) -> int:
        return len(self.starts_ns) * len(self.script)

    @property
    def serving_clients(self) -> frozenset[int]:
        """Positions of clients that are servers themselves: nobody is."""
        return frozenset()

    @property
    def transactions(self) -> int:
        """Transactions of all sequences."""
        return len(self.starts_ns) * self.script.transactions

    def kinds_by_service(self) -> list[tuple[int, ...]]:
        """The kinds of message that flows to each of the services have, in order."""
        called = np.bincount(self.flows.service, minlength=len(self.services)) > 0
        kinds = tuple(self.script.kinds())
        return [kinds if is_called else () for is_called in called.tolist()]

    def repeated_kinds(self) -> frozenset[int]:
        """Numbers of the kinds of which a flow has more than one message."""
        return frozenset(kind for kind, count in self.script.kinds().items() if count > 1)

    def part(self, number: npt.NDArray[np.int64]) -> MessagesPart:
        """The messages of these numbers, shape (m,), which rise."""
        sequence = number // max(1, len(self.script))
        return MessagesPart(self, sequence, number - sequence * len(self.script))

    def whole(self, why: str | None = None) -> Messages:
        """All messages; ``why`` says why they have to be in memory.

        Raises
        ------
        InputError
            If they are too many to be held in memory.
        """
        refuse_too_many(len(self), why)
        part = self.part(np.arange(len(self)))
        return Messages(
            kinds=self.kinds,
            clients=self.clients,
            services=self.services,
            flows=self.flows,
            flow=part.flow,
            thread=part.thread,
            script=Script(part.kind, part.after, part.think_ns, part.timeout_ns),
            release_ns=part.release_ns,
            first=np.flatnonzero(part.begins != NONE),
            last=np.flatnonzero(part.ends != NONE),
            bytes_per_transaction=self.bytes_per_transaction,
            socket_places=self.socket_places,
        )
