"""Workloads that do one thing again and again: their messages follow from their numbers, so that nobody keeps them all.

Connections, or slots in which one connection follows another, are *sequences* that have nothing to do with each other.
All have the same script: steps that come once, the head, and a round of steps that is repeated.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
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

    def place(self, step: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Where steps, shape (m,), are in :meth:`column`."""
        head, every = len(self.head), max(1, len(self.round))
        end = head + len(self.round) * self.times
        repeated = np.where(step < end, head + (step - head) % every, step - end + head + len(self.round))
        return np.where(step < head, step, repeated)

    def round_of(self, step: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Which round steps, shape (m,), are of, from 1; 0 for the head, and for the tail the last one."""
        counted = (step - len(self.head)) // max(1, len(self.round)) + 1
        return np.where(step < len(self.head), 0, np.minimum(counted, self.times))

    def column(self, name: str) -> npt.NDArray[np.int64]:
        """One field of the steps of head, round and tail."""
        return np.array([getattr(step, name) for step in self.head + self.round + self.tail], np.int64)

    def kinds(self) -> dict[int, int]:
        """How many messages of each kind a connection has, by the kind's number."""
        counts: Counter[int] = Counter(step.kind for step in self.head + self.tail)
        if not self.is_connection_per_round:
            counts.update({kind: n * self.times for kind, n in Counter(one.kind for one in self.round).items()})
        return {kind: counts[kind] for kind in sorted(counts) if counts[kind]}


@dataclass(frozen=True, eq=False)
class MessagesPart:
    """Some of a workload's messages; ``m`` of them.

    Parameters
    ----------
    number : array of int64, shape (m,)
        The message's number in the whole workload, rising.
    flow, thread, release_ns : array of int64, shape (m,)
        As in :class:`Messages`.
    script
        Its ``after`` has numbers of the whole workload.
    begins, ends : array of int64, shape (m,)
        Number of the transaction that begins, or ends, with the message, −1 for none.
    """

    number: npt.NDArray[np.int64]
    flow: npt.NDArray[np.int64]
    thread: npt.NDArray[np.int64]
    release_ns: npt.NDArray[np.int64]
    script: Script
    begins: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]


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

    def part(self, sequence: npt.NDArray[np.int64], step: npt.NDArray[np.int64]) -> MessagesPart:
        """The messages at these steps of these sequences, shape (m,) each, in the order of their numbers."""
        script = self.script
        place, round_ = script.place(step), script.round_of(step)
        number = sequence * len(script) + step
        back, begins, ends = script.column("back")[place], script.column("begins"), script.column("ends")
        later = np.maximum(round_ - 1, 0)
        transaction = sequence * script.transactions + later
        starts = (np.cumsum(begins) - 1)[place]
        release_ns = np.where(step == 0, self.starts_ns[sequence], 0)
        if self.interval_ns:
            release_ns += np.where(begins[place], np.rint((starts + later) * self.interval_ns), 0).astype(np.int64)
        return MessagesPart(
            number=number,
            flow=sequence * script.connections + (round_ if script.is_connection_per_round else 0),
            thread=sequence,
            release_ns=release_ns,
            script=Script(
                kind=script.column("kind")[place],
                after=np.where(back > 0, number - back, NONE),
                think_ns=script.column("think_ns")[place],
                timeout_ns=script.column("timeout_ns")[place],
            ),
            begins=np.where(begins[place], transaction + starts, NONE),
            ends=np.where(ends[place], transaction + (np.cumsum(ends) - 1)[place], NONE),
        )

    def whole(self, why: str | None = None) -> Messages:
        """All messages; ``why`` says why they have to be in memory.

        Raises
        ------
        InputError
            If they are too many to be held in memory.
        """
        refuse_too_many(len(self), why)
        length = max(1, len(self.script))
        number = np.arange(len(self))
        part = self.part(number // length, number % length)
        return Messages(
            kinds=self.kinds,
            clients=self.clients,
            services=self.services,
            flows=self.flows,
            flow=part.flow,
            thread=part.thread,
            script=part.script,
            release_ns=part.release_ns,
            first=np.flatnonzero(part.begins != NONE),
            last=np.flatnonzero(part.ends != NONE),
            bytes_per_transaction=self.bytes_per_transaction,
            socket_places=self.socket_places,
        )
