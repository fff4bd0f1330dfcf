"""The packets of TCP that workloads share: how a connection is opened, used and closed."""

from __future__ import annotations

from dataclasses import dataclass

from kubesim.workload._messages import (
    INITIAL_RTO_NS,
    MINIMUM_RTO_NS,
    MessageKind,
)
from kubesim.workload._sequences import Step

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
    """A connection: handshake, exchanges and, if wanted, the close.

    Parameters
    ----------
    request_bytes, response_bytes
        What they carry.
    work_ns
        What the server computes for each.
    think_ns
        Time from a reply to the next request.
    is_closed
        Whether the connection is closed at the end.
    """

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

    @property
    def handshake(self) -> tuple[Step, ...]:
        """SYN, SYN-ACK and ACK."""
        return Step(0, back=0), Step(1), Step(2)

    @property
    def first_exchange(self) -> tuple[Step, ...]:
        """The first request and its reply; the client sends as soon as it has the SYN-ACK, its ACK is on the way."""
        return Step(3, back=2, timeout_ns=INITIAL_RTO_NS, begins=True), Step(4, ends=True)

    @property
    def exchange(self) -> tuple[Step, ...]:
        """Any later request and its reply."""
        return Step(3, think_ns=self.think_ns, timeout_ns=MINIMUM_RTO_NS, begins=True), Step(4, ends=True)

    @property
    def close(self) -> tuple[Step, ...]:
        """FIN, FIN-ACK and last ACK."""
        return Step(5), Step(6), Step(7)
