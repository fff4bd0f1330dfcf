"""The packets of TCP that workloads share: how a connection is opened, used and closed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kubesim.workload._messages import (
    INITIAL_RTO_NS,
    MINIMUM_RTO_NS,
    NONE,
    MessageKind,
    Script,
)

SYN = MessageKind("syn", is_request=True, is_opening=True, send_call="syscall_connect", receive_call=None)
SYN_ACK = MessageKind("syn_ack", is_request=False, send_call=None)
ACK = MessageKind("ack", is_request=True, send_call=None, receive_call="syscall_accept")
"""RFC 9293, 3.5; the kernels answer by themselves, the client is woken by the SYN-ACK, the server by the ACK."""

FIN = MessageKind("fin", is_request=False, is_closing=True, send_call="syscall_close")
FIN_ACK = MessageKind("fin_ack", is_request=True, is_closing=True, send_call="syscall_close", receive_call=None)
LAST_ACK = MessageKind("last_ack", is_request=False, is_closing=True, send_call=None, receive_call=None)
"""RFC 9293, 3.6; the server closes first, as netserver does, and the client's process is woken by the FIN."""


@dataclass(frozen=True)
class Conversation:
    """A connection: handshake, a number of exchanges and, if wanted, the close.

    Parameters
    ----------
    exchanges
        Requests, each with its reply.
    request_bytes, response_bytes
        What they carry.
    work_ns
        What the server computes for each.
    think_ns
        Time from a reply to the next request.
    is_closed
        Whether the connection is closed at the end.
    """

    exchanges: int
    request_bytes: int
    response_bytes: int
    work_ns: int = 0
    think_ns: int = 0
    is_closed: bool = True

    @property
    def kinds(self) -> tuple[MessageKind, ...]:
        """Kinds of message, in the order in which they come."""
        request = MessageKind("request", is_request=True, payload_bytes=self.request_bytes)
        reply = MessageKind("reply", is_request=False, payload_bytes=self.response_bytes, work_ns=self.work_ns)
        closing = (FIN, FIN_ACK, LAST_ACK) if self.is_closed else ()
        return SYN, SYN_ACK, ACK, request, reply, *closing

    def requests(self) -> npt.NDArray[np.int64]:
        """The steps that are requests, shape (exchanges,); each one's reply is the step behind it."""
        return 3 + 2 * np.arange(self.exchanges, dtype=np.int64)

    @property
    def fin(self) -> int:
        """The step that is the FIN."""
        return 3 + 2 * self.exchanges

    def script(self) -> Script:
        """The steps: SYN, SYN-ACK, ACK, exchanges, and FIN, FIN-ACK, last ACK."""
        closing = [5, 6, 7] if self.is_closed else []
        kind = np.concatenate([[0, 1, 2], np.tile([3, 4], self.exchanges), np.array(closing, np.int64)])
        after = np.arange(-1, len(kind) - 1, dtype=np.int64)
        after[3] = 1  # the client sends as soon as it has the SYN-ACK; its ACK is on the way
        think_ns, timeout_ns = np.zeros(len(kind), np.int64), np.full(len(kind), NONE, np.int64)
        requests = self.requests()
        think_ns[requests[1:]] = self.think_ns
        timeout_ns[requests] = MINIMUM_RTO_NS
        timeout_ns[3] = INITIAL_RTO_NS
        return Script(kind, after, think_ns, timeout_ns)
