"""Messages as the planner sees them: what tells where they go and how long they are served."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.workload import Messages, MessagesPart, Sequences

Key = tuple[int, int]
"""Of what packets have in common on their way: a route, and a kind of message."""


class Rows(NamedTuple):
    """Messages, in the order of their numbers; ``m`` of them. Arrays are as in :class:`Messages`."""

    number: npt.NDArray[np.int64]
    flow: npt.NDArray[np.int64]
    kind: npt.NDArray[np.int64]
    thread: npt.NDArray[np.int64]
    server_thread: npt.NDArray[np.int64]

    @classmethod
    def of_messages(cls, messages: Messages) -> Rows:
        """All messages of a workload."""
        threads = messages.thread if messages.server_thread is None else messages.server_thread
        return cls(np.arange(len(messages)), messages.flow, messages.script.kind, messages.thread, threads)

    @classmethod
    def of_part(cls, part: MessagesPart) -> Rows:
        """Some messages."""
        return cls(part.number, part.flow, part.kind, part.thread, part.thread)

    @classmethod
    def of_connections(cls, messages: Sequences) -> Rows:
        """One message of each kind of each connection, as if they were numbered so."""
        kinds = np.arange(len(messages.kinds))
        flow = np.repeat(np.arange(len(messages.flows)), len(kinds))
        thread = flow // messages.script.connections
        return cls(np.arange(len(flow)), flow, np.tile(kinds, len(messages.flows)), thread, thread)

    def take(self, rows: npt.NDArray[np.int64] | slice) -> Rows:
        """Some of them."""
        return Rows(*(column[rows] for column in self))
