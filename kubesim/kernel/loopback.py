"""The loopback device: what is sent comes back in through the backlog of the same core."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel import backlog
from kubesim.kernel.device import Device

if TYPE_CHECKING:
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk

LOOPBACK_MTU = 65536
LOCALHOST = "127.0.0.1"


class Loopback(Device):
    """``lo`` (drivers/net/loopback.c)."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__(namespace, "lo", LOOPBACK_MTU)

    def transmit(self, walk: Walk, packet: Packet) -> None:
        """Put the packet into this core's backlog."""
        walk.pay("loopback_transmit", at=self.name)
        backlog.enqueue(walk, packet, self)
