"""Sockets: where packets start and where they are delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel import ip
from kubesim.kernel.walk import Chance, Context, Path, Walk

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet


def send(
    namespace: Namespace,
    packet: Packet,
    *,
    chance: Chance | None = None,
    materialise: Callable[[str], None] = lambda _address: None,
    from_process: bool = True,
    to_process: bool = True,
    stop_at_decision: bool = False,
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
    from_process
        Whether a process sends it, by a system call, rather than the kernel itself (a SYN-ACK, an ACK).
    to_process
        Whether a process waits for it, rather than the kernel alone (an ACK).
    stop_at_decision
        Go no further than the choice of a real server.

    Returns
    -------
    Path
        Every operation in order, and where the packet came to.
    """
    walk = Walk(chance, materialise, to_process=to_process, stop_at_decision=stop_at_decision)
    walk.host = namespace.host.name
    materialise(packet.destination)
    if from_process:
        walk.pay("syscall_send", size_bytes=packet.payload_bytes, at=namespace.name)
    else:
        walk.context = Context.SOFTIRQ
    walk.pay(f"{packet.protocol}_send", at=namespace.name)
    walk.defer(ip.send, walk, packet, namespace)
    return walk.run(packet)


def receive(walk: Walk, packet: Packet, namespace: Namespace) -> None:
    """Deliver a packet to the transport layer, and to the process that waits for it."""
    walk.pay(f"{packet.protocol}_receive", at=namespace.name)
    if walk.to_process:
        walk.pay("socket_wakeup", at=namespace.name)
        walk.context = Context.PROCESS
        walk.pay("syscall_receive", size_bytes=packet.payload_bytes, at=namespace.name)
    walk.deliver(namespace)
