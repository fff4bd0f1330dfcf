"""What all network devices have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kubesim.kernel import ip
from kubesim.kernel.address import mac_address
from kubesim.kernel.bpf.program import Verdict

if TYPE_CHECKING:
    from kubesim.kernel.bpf.program import Program
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk


class Switch(Protocol):
    """What devices can be ports of: it takes what they receive in IP's place (``rx_handler``)."""

    def receive_from(self, port: Device, walk: Walk, packet: Packet) -> None:
        """Take a frame from a port."""

    def answer(self, address: str) -> str | None:
        """Who behind the other ports has an address (ARP); the link-layer address, or None if nobody answers."""


class Device:
    """A network device in a namespace; each kind says in a file of its own what happens to a packet there.

    Parameters
    ----------
    namespace
        Where the device is.
    name
        Its name, such as ``eth0``.
    mtu
        Longest IP packet it carries, in bytes.
    """

    def __init__(self, namespace: Namespace, name: str, mtu: int) -> None:
        self.namespace = namespace
        self.name = name
        self.mtu = mtu
        self.mac = mac_address(namespace.host.name, namespace.name, name)
        self.master: Switch | None = None
        self.addresses: list[str] = []
        self.ingress_program: Program | None = None
        self.egress_program: Program | None = None
        namespace.add_device(self)

    def send(self, walk: Walk, packet: Packet) -> None:
        """Send the packet out, if a program at the egress lets it (``dev_queue_xmit``)."""
        if self.egress_program is None or self.egress_program(walk, packet, self) is Verdict.PASS:
            self.transmit(walk, packet)

    def transmit(self, walk: Walk, packet: Packet) -> None:  # noqa: ARG002 - what devices share
        """Send the packet, whose link-layer destination is set, out of the device."""
        walk.drop(f"{self.name} of {self.namespace.name} does not send packets")

    def receive(self, walk: Walk, packet: Packet) -> None:
        """Hand a packet that came in up: to a program, to the switch the device is a port of, or to IP."""
        if self.ingress_program is not None and self.ingress_program(walk, packet, self) is Verdict.TAKEN:
            return
        if self.master is not None:
            self.master.receive_from(self, walk, packet)
        else:
            ip.receive(walk, packet, self)

    def resolve(self, address: str) -> str | None:
        """Ask on the link who has an address (ARP); the link-layer address, or None if nobody answers."""
        return self.namespace.neighbours.get((self.name, address))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} in {self.namespace.name}>"
