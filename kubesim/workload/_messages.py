"""What a workload is made of: which message is sent in which flow, and when. No network, no cost."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.cluster import Node, Pod, Service, ServicePort

NONE = -1

INITIAL_RTO_NS = 1_000_000_000
"""How long a lost SYN takes to be sent again (RFC 6298, TCP_TIMEOUT_INIT)."""

MINIMUM_RTO_NS = 200_000_000
"""How long a lost segment takes to be sent again where nothing follows it (TCP_RTO_MIN)."""

SOCKET_BUFFER_BYTES = 212_992
"""``net.core.wmem_default`` and ``rmem_default``."""

BUFFER_OVERHEAD_BYTES = 768
"""What a datagram takes of a socket's buffer besides its payload (``SKB_TRUESIZE``), rounded."""

FAST_RETRANSMIT_NS = 1_000_000
"""How long a lost segment of a stream blocks its window: about a round trip under load (assumed)."""


def socket_places(payload_bytes: int) -> int:
    """Datagrams of a size that a socket's buffer holds."""
    return max(1, SOCKET_BUFFER_BYTES // (payload_bytes + BUFFER_OVERHEAD_BYTES))


NODE_LOCAL_DNS = "169.254.20.10"
"""Where NodeLocal DNSCache listens on each node (its manifest's ``__PILLAR__LOCAL__DNS__``)."""


class Through(StrEnum):
    """By which of a Service's addresses a client calls it."""

    CLUSTER_IP = "cluster-ip"
    ENDPOINTS = "endpoints"
    """A pod's own address, as DNS gives it for a headless Service, or an ingress controller takes from Endpoints."""
    NODE_PORT = "node-port"
    LOAD_BALANCER = "load-balancer"
    LOCALHOST = "localhost"
    """A client that is one of the Service's pods calls itself, or another container of its own."""
    NODE_LOCAL_DNS = "node-local-dns"
    """The cache of names on the client's own node, which answers for the Service."""


class Destination(NamedTuple):
    """What flows are sent to; ``node`` is the one whose port is called, where that is one of a node."""

    service: Service
    port: ServicePort
    through: Through = Through.CLUSTER_IP
    node: Node | None = None

    @property
    def called(self) -> tuple[str, int] | None:
        """The virtual address and port that clients send to, None where they send to an endpoint's own."""
        match self.through:
            case Through.CLUSTER_IP if self.service.cluster_ip is not None:
                return self.service.cluster_ip, self.port.port
            case Through.NODE_PORT if self.node is not None and self.port.node_port is not None:
                return self.node.address, self.port.node_port
            case Through.LOAD_BALANCER:
                return next(one for one in self.service.load_balancer_ips if ":" not in one), self.port.port
            case Through.NODE_LOCAL_DNS:
                return NODE_LOCAL_DNS, self.port.port
        return None


class Work(NamedTuple):
    """An operation of the cost set that a process does before it sends a message: a program's own, not the kernel's."""

    operation: str
    size_bytes: int = 0


class Part(Enum):
    """Which part of a packet's way a message stands for."""

    WHOLE = auto()
    DEPARTURE = auto()
    """Until the packet has left the sender's card: after that its socket buffer is free for the next."""
    ARRIVAL = auto()
    """From the wire on."""


@dataclass(frozen=True, slots=True)
class MessageKind:
    """A kind of packet that a workload sends.

    Parameters
    ----------
    name
        What it is called in results.
    is_request
        Whether it goes from client to server.
    payload_bytes
        What it carries.
    is_opening
        Whether it is the first packet of its flow.
    is_closing
        Whether it is part of the close of its flow.
    send_call, receive_call
        The system calls by which processes send it and wait for it; None where the kernel does that by itself.
    work_ns
        What the sending process computes before it sends, on its core.
    work
        The same, as operations that the cost set prices.
    part
        Which part of the way it is played for.
    """

    name: str
    is_request: bool
    payload_bytes: int = 0
    is_opening: bool = False
    is_closing: bool = False
    send_call: str | None = "syscall_send"
    receive_call: str | None = "syscall_receive"
    work_ns: int = 0
    work: tuple[Work, ...] = ()
    part: Part = Part.WHOLE

    @property
    def opens_here(self) -> bool:
        """Whether what opening a connection takes is paid on the part of the way that it is played for."""
        return self.is_opening and self.part is not Part.ARRIVAL


@dataclass(frozen=True, eq=False)
class Flows:
    """The connections of a workload; ``f`` of them.

    Parameters
    ----------
    client : array of int64, shape (f,)
        Position of the client in ``Messages.clients``.
    service : array of int64, shape (f,)
        Position of the service port in ``Messages.services``.
    source_port : array of int64, shape (f,)
        The client's port.
    """

    client: npt.NDArray[np.int64]
    service: npt.NDArray[np.int64]
    source_port: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.client)


@dataclass(frozen=True, eq=False)
class Messages:
    """A workload, ready to be sent; ``n`` messages, of which ``t`` pairs bound a transaction.

    Parameters
    ----------
    kinds
        Kinds of message, in the order in which a new connection meets them.
    clients, services
        Who sends, and what they send to.
    flows
        The connections.
    flow : array of int64, shape (n,)
        Which connection each message is of.
    thread : array of int64, shape (n,)
        Which thread of client and server sends and receives it: a thread runs on one core.
    server_thread : array of int64, shape (n,), optional
        Which thread of the server does, where that is another.
    serving_clients
        Positions of clients that are servers themselves: their threads are those that serve.
    script
        Kind of each message, and which one it follows.
    release_ns : array of int64, shape (n,)
        As in :class:`kubesim.engine.Plan`.
    first, last : array of int64, shape (t,)
        First and last message of each transaction.
    bytes_per_transaction
        Payload that a transaction brings to its receivers.
    socket_places
        Messages that wait in a receiving socket at most, None where senders are held back before that (TCP).
    """

    kinds: tuple[MessageKind, ...]
    clients: tuple[Pod, ...]
    services: tuple[Destination, ...]
    flows: Flows
    flow: npt.NDArray[np.int64]
    thread: npt.NDArray[np.int64]
    script: Script
    release_ns: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    last: npt.NDArray[np.int64]
    bytes_per_transaction: int
    socket_places: int | None = None
    server_thread: npt.NDArray[np.int64] | None = None
    serving_clients: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self.flow)

    def whole(self, _why: str | None = None) -> Messages:
        """All messages: these."""
        return self

    def kinds_by_service(self) -> list[tuple[int, ...]]:
        """The kinds of message that flows to each of the services have, in order."""
        service = self.flows.service[self.flow]
        counts = np.bincount(
            service * len(self.kinds) + self.script.kind, minlength=len(self.services) * len(self.kinds)
        )
        return [tuple(np.flatnonzero(row).tolist()) for row in counts.reshape(len(self.services), len(self.kinds))]

    def repeated_kinds(self) -> frozenset[int]:
        """Numbers of the kinds of which a flow has more than one message."""
        pairs = self.flow * len(self.kinds) + self.script.kind
        distinct, counts = np.unique(pairs, return_counts=True)
        return frozenset((distinct[counts > 1] % len(self.kinds)).tolist())


@dataclass(frozen=True, eq=False)
class Script:
    """Messages in the order in which they are numbered, and what each waits for; ``l`` of them.

    Parameters
    ----------
    kind : array of int64, shape (l,)
        Position of each step's kind.
    after : array of int64, shape (l,)
        The step whose end releases it; −1 for one that begins.
    think_ns, timeout_ns : array of int64, shape (l,)
        Time from the end, or the loss, of that step.
    """

    kind: npt.NDArray[np.int64]
    after: npt.NDArray[np.int64]
    think_ns: npt.NDArray[np.int64]
    timeout_ns: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.kind)
