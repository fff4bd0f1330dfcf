"""Requests by HTTP as messages: which connections each needs, and what is sent over them, for all requests at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from kubesim.workload import _http
from kubesim.workload._messages import INITIAL_RTO_NS, MINIMUM_RTO_NS, NONE, Script

if TYPE_CHECKING:
    import numpy.typing as npt

_BEFORE = -2
"""Where a message follows none of its own request, but the reply to the one before."""


class Requests(NamedTuple):
    """What is asked for, request by request, those of a connection slot together; ``r`` of them.

    Parameters
    ----------
    slot
        The connection slot.
    called, backend
        Numbers of what clients call, and of where a controller passes requests on; the latter is empty without one.
    client_key, upstream_key
        Requests of a slot with the same key share a connection, if it is kept.
    has_tls
        Whether clients use TLS.
    keeps_client, keeps_upstream
        Whether the connections are kept for later requests.
    """

    slot: npt.NDArray[np.int64]
    called: npt.NDArray[np.int64]
    backend: npt.NDArray[np.int64]
    client_key: npt.NDArray[np.int64]
    upstream_key: npt.NDArray[np.int64]
    has_tls: npt.NDArray[np.bool_]
    keeps_client: npt.NDArray[np.bool_]
    keeps_upstream: npt.NDArray[np.bool_]

    @property
    def is_passed_on(self) -> bool:
        """Whether there is a controller."""
        return len(self.backend) > 0


@dataclass
class _Template:
    """The messages of one request.

    Parameters
    ----------
    is_upstream
        Whether each is of the controller's connection.
    step
        Which of the kinds of such a connection it is.
    after
        Which of the messages it follows, or :data:`_BEFORE`.
    timeout_ns
        Time from the loss of that one.
    reply
        Which of them is the reply to the client.
    """

    is_upstream: list[bool] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    timeout_ns: list[int] = field(default_factory=list)
    reply: int = NONE

    @classmethod
    def of(
        cls, *, opens_client: bool, has_tls: bool, is_passed_on: bool, opens_upstream: bool, closes: tuple[bool, bool]
    ) -> _Template:
        """Those of a request with these handshakes; ``closes`` is of both connections."""
        made = cls()
        after, timeout_ns = _BEFORE, MINIMUM_RTO_NS
        if opens_client:
            after, timeout_ns = made._connect(after, is_upstream=False, has_tls=has_tls), INITIAL_RTO_NS
        after = made._send(_http.REQUEST, after, timeout_ns)
        if is_passed_on:
            after = made._pass_on(after, opens=opens_upstream, closes=closes[1])
        made.reply = made._send(_http.REPLY, after)
        made.timeout_ns[0] = timeout_ns
        if closes[0]:
            made._close(made.reply, is_upstream=False)
        return made

    def _pass_on(self, after: int, *, opens: bool, closes: bool) -> int:
        """The controller's part: its request to a pod, and the reply; a connection that is not kept is closed."""
        timeout_ns = NONE
        if opens:
            after, timeout_ns = self._connect(after, is_upstream=True, has_tls=False), INITIAL_RTO_NS
        request = self._send(_http.REQUEST, after, timeout_ns, is_upstream=True)
        reply = self._send(_http.REPLY, request, is_upstream=True)
        if closes:
            self._close(reply, is_upstream=True)
        return reply

    def _connect(self, after: int, *, is_upstream: bool, has_tls: bool) -> int:
        """Open a connection; the message that whoever opened it waits for."""
        for step in (_http.SYN_STEP, _http.SYN_ACK_STEP):
            after = self._send(step, after, is_upstream=is_upstream)
        self._send(_http.ACK_STEP, after, is_upstream=is_upstream)
        if has_tls:
            hello = self._send(_http.CLIENT_HELLO, after, INITIAL_RTO_NS, is_upstream=is_upstream)
            after = self._send(_http.SERVER_HELLO, hello, is_upstream=is_upstream)
            self._send(_http.CLIENT_FINISHED, after, is_upstream=is_upstream)
        return after

    def _close(self, after: int, *, is_upstream: bool) -> None:
        """Close a connection; who serves closes first, and nobody waits for the rest."""
        for step in (_http.FIN_STEP, _http.FIN_ACK_STEP, _http.LAST_ACK_STEP):
            after = self._send(step, after, is_upstream=is_upstream)

    def _send(self, step: int, after: int, timeout_ns: int = NONE, *, is_upstream: bool = False) -> int:
        """Add a message that follows another, or is sent so long after that is lost; its number."""
        self.is_upstream.append(is_upstream)
        self.step.append(step)
        self.after.append(after)
        self.timeout_ns.append(timeout_ns)
        return len(self.step) - 1


class Connections(NamedTuple):
    """The connections that requests need, ``f`` of them, numbered as they are opened.

    Parameters
    ----------
    of_client, upstream : array of int64, shape (r,)
        Those of each request: the client's, and the controller's.
    opened_by : array of int64, shape (f,)
        The request for which each was opened.
    is_upstream : array of bool, shape (f,)
        Whether it is one of the controller's.
    """

    of_client: npt.NDArray[np.int64]
    upstream: npt.NDArray[np.int64]
    opened_by: npt.NDArray[np.int64]
    is_upstream: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, client_from: npt.NDArray[np.int64], upstream_from: npt.NDArray[np.int64]) -> Connections:
        """Number them, where it is known for which request each was opened; a client's is opened first."""
        every = np.arange(len(client_from))
        opens = np.column_stack([client_from == every, upstream_from == every])
        opened_by, is_upstream = np.nonzero(opens)
        number = np.cumsum(opens.ravel()).reshape(opens.shape) - 1  # without a controller some number, for nobody
        return cls(number[client_from, 0], number[upstream_from, 1], opened_by, is_upstream > 0)


@dataclass(frozen=True, eq=False)
class Exchanged:
    """The messages of all requests, ``n`` of them.

    Parameters
    ----------
    connections
        Those that they need.
    request : array of int64, shape (n,)
        Which request each message is of.
    is_upstream : array of bool, shape (n,)
        Whether it is sent over the controller's connection.
    script
        As :class:`Messages` has it.
    first, last : array of int64, shape (r,)
        The first message of each request, and the reply.
    """

    connections: Connections
    request: npt.NDArray[np.int64]
    is_upstream: npt.NDArray[np.bool_]
    script: Script
    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]

    @property
    def flow(self) -> npt.NDArray[np.int64]:
        """The connection of each message, shape (n,)."""
        of_client, upstream, *_ = self.connections
        return np.where(self.is_upstream, upstream[self.request], of_client[self.request])


def exchange(requests: Requests, think_ns: int) -> Exchanged:
    """Make the messages.

    Parameters
    ----------
    requests
        What is asked for.
    think_ns
        Time from a reply to the next request of the slot.
    """
    every = np.arange(len(requests.slot))
    client_from = _opened_by(requests.slot, requests.client_key, requests.keeps_client)
    upstream_from = np.full(len(every), NONE)
    if requests.is_passed_on:
        upstream_from = _opened_by(requests.slot, requests.upstream_key, requests.keeps_upstream)
    templates, template = _templates(requests, client_from == every, upstream_from == every)

    lengths, replies = (np.array(one) for one in zip(*((len(one.step), one.reply) for one in templates), strict=True))
    first = np.cumsum(lengths[template]) - lengths[template]
    last = first + replies[template]
    request = np.repeat(every, lengths[template])
    # Where in the templates, one behind the other, each message is.
    place = np.arange(len(request)) - first[request] + (np.cumsum(lengths) - lengths)[template][request]
    is_upstream, step, follows, timeout_ns = (
        np.concatenate([np.array(getattr(one, name)) for one in templates])[place]
        for name in ("is_upstream", "step", "after", "timeout_ns")
    )
    is_first = np.diff(requests.slot, prepend=-1) > 0
    before = np.where(is_first, NONE, np.concatenate([[NONE], last[:-1]]))
    thinks_ns = np.zeros(len(request), np.int64)
    thinks_ns[first] = np.where(is_first, 0, think_ns)
    script = Script(
        kind=step + _kinds_begin(requests)[is_upstream.astype(np.int64), request],
        after=np.where(follows == _BEFORE, before[request], first[request] + follows),
        think_ns=thinks_ns,
        timeout_ns=timeout_ns,
    )
    return Exchanged(Connections.of(client_from, upstream_from), request, is_upstream, script, first, last)


def _kinds_begin(requests: Requests) -> npt.NDArray[np.int64]:
    """Where the kinds of message of a request's connections begin, shape (2, r): of the client's, the controller's."""
    has_tls = requests.has_tls.astype(np.int64)
    return np.array([_http.KINDS * has_tls, _http.KINDS * (2 + has_tls)])


def _opened_by(
    slot: npt.NDArray[np.int64], key: npt.NDArray[np.int64], keeps: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """For which request the connection was opened that each uses, shape (r,)."""
    every = np.arange(len(slot))
    _, first, which = np.unique(slot * (int(key.max(initial=0)) + 1) + key, return_index=True, return_inverse=True)
    return np.where(keeps, first[which], every)


def _templates(
    requests: Requests, opens_client: npt.NDArray[np.bool_], opens_upstream: npt.NDArray[np.bool_]
) -> tuple[list[_Template], npt.NDArray[np.int64]]:
    """The sorts of request that there are, and which of them each request is, shape (r,)."""
    flags = np.array(
        [opens_client, requests.has_tls, opens_upstream, ~requests.keeps_client, ~requests.keeps_upstream], np.int64
    )
    found, template = np.unique(flags.T @ (1 << np.arange(len(flags))), return_inverse=True)
    made = []
    for number in found.tolist():
        is_new, has_tls, is_new_upstream, *closes = (bool(number >> bit & 1) for bit in range(len(flags)))
        made.append(
            _Template.of(
                opens_client=is_new,
                has_tls=has_tls,
                is_passed_on=requests.is_passed_on,
                opens_upstream=is_new_upstream,
                closes=(closes[0], closes[1]),
            )
        )
    return made, template
