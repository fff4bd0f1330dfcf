"""What HTTP sends over one connection: kinds of message, with the work of those who send them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kubesim.workload._messages import MessageKind, Work
from kubesim.workload._tcp import ACK, FIN, FIN_ACK, LAST_ACK, SYN, SYN_ACK

CLIENT_HELLO_BYTES = 517
"""What browsers and Go pad it to (RFC 7685)."""

SERVER_HELLO_BYTES = 2700
"""With a chain of two certificates of 2048-bit RSA, of some 1.2 kB each."""

CLIENT_FINISHED_BYTES = 80
"""Change of cipher and Finished (RFC 8446, 4.4.4), as records."""

OPENING = 3
"""Messages of TCP's handshake."""


@dataclass(frozen=True)
class HttpConnection:
    """The kinds of message of one sort of connections.

    Parameters
    ----------
    request_bytes, response_bytes
        What they carry.
    has_tls
        Whether it begins with the handshake of TLS 1.3, one round trip more (RFC 8446).
    is_upstream
        Whether it is one of a controller to a pod.
    has_controller
        Whether the other end is a controller, which passes requests on.
    client_has_tls
        Whether what a controller sends on here came with TLS.
    server_ns
        What the pod that serves computes for each request.
    """

    request_bytes: int
    response_bytes: int
    has_tls: bool = False
    is_upstream: bool = False
    has_controller: bool = False
    client_has_tls: bool = False
    server_ns: int = 0

    @property
    def kinds(self) -> tuple[MessageKind, ...]:
        """Opening, request and reply, close, and the handshake of TLS, in this order."""
        plain = (SYN, SYN_ACK, ACK, self._request(), self._reply(), FIN, FIN_ACK, LAST_ACK)
        hello = MessageKind("client_hello", is_request=True, payload_bytes=CLIENT_HELLO_BYTES)
        certificate = MessageKind(
            "server_hello",
            is_request=False,
            payload_bytes=SERVER_HELLO_BYTES,
            work=(Work("tls_server_handshake"),),
        )
        finished = MessageKind(
            "client_finished",
            is_request=True,
            payload_bytes=CLIENT_FINISHED_BYTES,
            work=(Work("tls_client_handshake"),),
        )
        prefix = "upstream_" if self.is_upstream else ""
        return tuple(replace(kind, name=f"{prefix}{kind.name}") for kind in (*plain, hello, certificate, finished))

    def _request(self) -> MessageKind:
        """A client's request, or what a controller makes of it."""
        record = Work("tls_record", self.request_bytes)
        if self.is_upstream:
            work = (*((record,) if self.client_has_tls else ()), Work("http_proxy_request"))
        else:
            work = (record,) if self.has_tls else ()
        return MessageKind("request", is_request=True, payload_bytes=self.request_bytes, work=work)

    def _reply(self) -> MessageKind:
        """The reply of whoever is at the other end."""
        work: tuple[Work, ...] = ()
        if self.has_controller:
            work = (Work("http_proxy_reply"),)
        elif self.has_tls:
            work = (Work("tls_record", self.request_bytes),)
        if self.has_tls:
            work = (*work, Work("tls_record", self.response_bytes))
        return MessageKind(
            "reply",
            is_request=False,
            payload_bytes=self.response_bytes,
            work=work,
            work_ns=0 if self.has_controller else self.server_ns,
        )


SYN_STEP, SYN_ACK_STEP, ACK_STEP, REQUEST, REPLY, FIN_STEP, FIN_ACK_STEP, LAST_ACK_STEP = range(8)
CLIENT_HELLO, SERVER_HELLO, CLIENT_FINISHED = range(8, 11)
KINDS = 11
"""Positions in :attr:`HttpConnection.kinds`, and how many there are."""
