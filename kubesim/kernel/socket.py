"""Sockets: where packets start and where they are delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel import ip
from kubesim.kernel.walk import Chance, Context, Path, Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import FlowTuple, Packet
    from kubesim.kernel.watch import Watch

SEND, RECEIVE = "syscall_send", "syscall_receive"
"""Sending and receiving on a socket that is there."""

CONNECT, ACCEPT, CLOSE = "syscall_connect", "syscall_accept", "syscall_close"
"""System calls that make and remove TCP sockets: they cost far more than sending."""

FIRST_SEND = "udp_first_send"
"""What the first datagram of a UDP socket takes more; TCP's is in :data:`CONNECT`."""


def send(
    namespace: Namespace,
    packet: Packet,
    *,
    chance: Chance | None = None,
    materialise: Callable[[str], None] = lambda _address: None,
    send_call: str | None = SEND,
    receive_call: str | None = RECEIVE,
    stop_at_decision: bool = False,
    watch: Watch | None = None,
    work: Iterable[tuple[str, int]] = (),
) -> Path:
    """Send a packet from a socket in ``namespace`` and follow it to its end.

    Parameters
    ----------
    namespace
        Where the sender is.
    packet
        The packet; it is changed on its way, and its final headers are in the path.
    chance
        The flow's random number; 0 when not given, which takes the first of several ways.
    materialise
        Called with each address the packet is sent to; builds state that is made only when first used.
    send_call
        The system call by which a process sends it; None if the kernel does by itself (a SYN-ACK, an ACK).
    receive_call
        The system call in which a process waits for it; None if nobody does (a SYN).
    stop_at_decision
        Go no further than the choice of a real server.
    watch
        Takes what is seen on the way, None if nobody watches.
    work
        Operations of the sending process itself before it sends, each with the bytes that it touches.

    Returns
    -------
    Path
        Every operation in order, and where the packet came to.
    """
    walk = Walk(chance, materialise, receive_call=receive_call, stop_at_decision=stop_at_decision, watch=watch)
    walk.host = namespace.host.name
    walk.see(packet, namespace)
    materialise(packet.destination)
    for operation, size_bytes in work:
        walk.pay(operation, size_bytes=size_bytes, at=namespace.name)
    if send_call is not None:
        walk.pay(send_call, size_bytes=packet.payload_bytes, at=namespace.name)
    else:
        walk.context = Context.SOFTIRQ
    walk.pay(f"{packet.protocol}_send", at=namespace.name)
    if packet.is_opening and packet.protocol == "udp":
        walk.pay(FIRST_SEND, at=namespace.name)
    bpf = namespace.host.bpf
    if bpf is None or bpf.sockets is None or bpf.sockets.send(walk, packet, namespace):
        if packet.is_opening:
            answer = packet.flow.reversed()
            namespace.sockets.setdefault(_here(answer), set()).add(_there(answer))
        walk.defer(ip.send, walk, packet, namespace)
    return walk.run(packet)


def receive(walk: Walk, packet: Packet, namespace: Namespace) -> None:
    """Deliver a packet to the transport layer, and to the process that waits for it, or passes it on.

    A port from which a connection was opened takes packets of whom it was opened to, and of nobody else
    (``__inet_lookup_established``).
    """
    walk.pay(f"{packet.protocol}_receive", at=namespace.name)
    walk.buffers = 1
    called = namespace.sockets.get(_here(packet.flow))
    if called is not None and not packet.is_opening and _there(packet.flow) not in called:
        places = " and ".join(f"{address}:{port}" for address, port in sorted(called))
        walk.drop(
            f"{namespace.name} gets an answer of {packet.source}:{packet.source_port}, but has called {places}: "
            "no socket takes it"
        )
        return
    if namespace.relay is not None and namespace.relay.takes(packet):
        namespace.relay.pass_on(walk, packet)
        return
    if walk.receive_call is not None:
        walk.pay("socket_wakeup", at=namespace.name)
        walk.context = Context.PROCESS
        walk.pay(walk.receive_call, size_bytes=packet.payload_bytes, at=namespace.name)
    bpf = namespace.host.bpf
    if bpf is not None and bpf.sockets is not None:
        bpf.sockets.receive(walk, packet, namespace)
    walk.deliver(namespace)


def _here(flow: FlowTuple) -> tuple[str, str, int]:
    """The end of a flow where its packets arrive."""
    return flow.protocol, flow.destination, flow.destination_port


def _there(flow: FlowTuple) -> tuple[str, int]:
    """The end of a flow where its packets come from."""
    return flow.source, flow.source_port
