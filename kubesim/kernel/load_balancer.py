"""A load balancer on a machine of its own: it takes connections to its addresses, and makes others of them.

It translates both addresses, so that answers come back through it: what a network load balancer that aims at ports of
machines does, and a proxy of layer 4 amounts to. What it costs is what Linux would pay for it; others may be faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kubesim.kernel.netfilter.hooks import Hook, HookCall, Verdict
from kubesim.kernel.netfilter.nat import Nat

if TYPE_CHECKING:
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk


class Listener(NamedTuple):
    """What is balanced: an address, protocol and port."""

    address: str
    protocol: str
    port: int


class LoadBalancer:
    """Spreads connections over machines, each equally likely.

    Parameters
    ----------
    namespace
        The machine's; its addresses are those that are listened on, and one of its own.
    targets
        Addresses and ports of machines for each listener.
    """

    def __init__(self, namespace: Namespace, targets: dict[Listener, tuple[tuple[str, int], ...]]) -> None:
        self._nat = Nat.of(namespace)
        self._targets = targets
        namespace.is_forwarding = True
        self._nat.register(Hook.PREROUTING, 0, self.aim)
        self._nat.register(Hook.POSTROUTING, 0, self.hide)

    def aim(self, walk: Walk, packet: Packet, call: HookCall) -> Verdict:
        """Choose a machine for a new connection."""
        listener = Listener(packet.destination, packet.protocol, packet.destination_port)
        targets = self._targets.get(listener)
        if targets is None or packet.connection is None:
            return Verdict.ACCEPT
        if not targets:
            walk.drop(f"connection refused by {call.namespace.name}: no machine serves {listener.address}")
            return Verdict.STOP
        ports = dict(targets)
        way = walk.choose_way(tuple(ports))
        self._nat.translate_destination(packet.connection, way, ports[way])
        return Verdict.ACCEPT

    def hide(self, _walk: Walk, packet: Packet, call: HookCall) -> Verdict:
        """Give a connection that was taken an address of this machine as its source."""
        connection = packet.connection
        if connection is not None and connection.has_destination_nat and call.out_device is not None:
            device = call.namespace.devices[call.out_device]
            self._nat.translate_source(connection, call.namespace.primary_address(device), is_random_port=False)
        return Verdict.ACCEPT
