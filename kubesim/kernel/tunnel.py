"""What tunnel devices share: how a packet comes out of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from kubesim.kernel.device import Device

if TYPE_CHECKING:
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk


class Tunnel(Device):
    """A device that wraps packets, and unwraps those that its protocol and port of the namespace get.

    Parameters
    ----------
    namespace, name, mtu
        As for every device.
    local_address
        Outer source address.
    protocol, port
        Where outer packets arrive; a protocol without ports has port 0.
    """

    decapsulation: ClassVar[str]
    """The operation of unwrapping."""
    is_one_flow: ClassVar[bool] = False
    """Whether outer addresses and ports are the same for all flows between two hosts."""

    def __init__(self, namespace: Namespace, name: str, mtu: int, local_address: str, protocol: str, port: int) -> None:
        super().__init__(namespace, name, mtu)
        self.local_address = local_address
        self.port = port
        namespace.encapsulation_sockets[protocol, port] = self.decapsulate
        if self.is_one_flow:
            namespace.one_flow_tunnels.add((protocol, port))

    def decapsulate(self, walk: Walk, outer: Packet) -> None:
        """Unwrap a packet that has arrived; it goes on through a queue of its own."""
        walk.pay(self.decapsulation, at=self.name)
        if outer.inner is None:
            walk.drop(f"{self.name} of {self.namespace.name} got a packet that carries none")
            return
        walk.defer(self._receive_inner, walk, outer.inner)

    def _receive_inner(self, walk: Walk, packet: Packet) -> None:
        """What ``gro_cells`` hands up: a second NAPI on the same core."""
        walk.pay("gro_cells", at=self.name)
        walk.see(packet, self.namespace)
        if walk.buffers > 1 and packet.is_mergeable:
            walk.pay("gro", at=self.name)
            walk.buffers = 1
        packet.forget_connection()
        packet.mark = 0
        self.receive(walk, packet)
