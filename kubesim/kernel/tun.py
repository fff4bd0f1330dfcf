"""Tun devices, and the processes that carry what goes into one to other hosts in UDP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel import gso, ip
from kubesim.kernel.device import Device
from kubesim.kernel.packet import IP_HEADER_BYTES, TRANSPORT_HEADER_BYTES, Packet
from kubesim.kernel.route import Route, RoutingTable
from kubesim.kernel.walk import Context

if TYPE_CHECKING:
    from kubesim.kernel.address import Prefix
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.walk import Walk

UDP_OVERHEAD_BYTES = IP_HEADER_BYTES + TRANSPORT_HEADER_BYTES["udp"]
"""Outer IP and UDP headers: what the inner MTU loses."""


class Tun(Device):
    """A device whose other end is a process (drivers/net/tun.c); it is offered no offload (``TUNSETOFFLOAD``).

    Parameters
    ----------
    namespace, name, mtu
        As for every device.
    """

    reader: TunDaemon | None = None

    def resolve(self, address: str) -> str | None:
        """There is no link layer (``NOARP``): the next hop stands for itself."""
        return address

    def transmit(self, walk: Walk, packet: Packet) -> None:
        """Cut the packet, fill in checksums, and wake who reads (``validate_xmit_skb``, ``tun_net_xmit``)."""
        gso.segment(walk, packet, at=self.name)
        walk.pay("checksum", size_bytes=packet.ip_bytes, at=self.name)
        walk.pay("tun_transmit", at=self.name)
        if self.reader is None:
            walk.drop(f"nobody reads {self.name} of {self.namespace.name}")
            return
        walk.pay("socket_wakeup", at=self.name)
        walk.defer(self.reader.read, walk, packet)

    def write(self, walk: Walk, packet: Packet) -> None:
        """Take a packet that the process writes; it is a new buffer, of which nothing is known (``tun_get_user``)."""
        walk.pay("tun_write", size_bytes=packet.ip_bytes, at=self.name)
        packet.scrub()
        self.receive(walk, packet)


class TunDaemon:
    """A process between a tun device and a UDP socket: one thread, one packet per system call.

    flannel's is pkg/backend/udp/proxy_amd64.c. While there are packets it goes on without waiting (``MSG_DONTWAIT``);
    what it takes to be woken when idle is the core's.

    Parameters
    ----------
    device
        Its tun device.
    local_address
        What the socket is bound to.
    port
        UDP port on all hosts.
    """

    def __init__(self, device: Tun, local_address: str, port: int) -> None:
        self._device = device
        self._namespace: Namespace = device.namespace
        self._address = local_address
        self._port = port
        self._hosts = RoutingTable()
        device.reader = self
        self._namespace.encapsulation_sockets["udp", port] = self.receive
        self._namespace.one_flow_tunnels.add(("udp", port))

    def add_host(self, prefix: Prefix, address: str) -> None:
        """Tell it which host has a range of addresses."""
        self._hosts.add(Route(prefix, self._device, via=address))

    def read(self, walk: Walk, packet: Packet) -> None:
        """Read a packet from the device and send it in UDP to the host that has its destination."""
        name = self._device.name
        walk.context = Context.DAEMON
        walk.pay("tun_read", size_bytes=packet.ip_bytes, at=name)
        walk.pay("tun_daemon_lookup", at=name)
        route = self._hosts.lookup(packet.destination)
        if route is None:
            walk.drop(f"the process behind {name} of {self._namespace.name} knows no host for {packet.destination}")
            return
        packet.forget_connection()
        outer = Packet(
            source=self._address,
            destination=route.next_hop(packet.destination),
            protocol="udp",
            source_port=self._port,
            destination_port=self._port,
            payload_bytes=0,
            inner=packet,
            is_opaque=True,
            is_dont_fragment=False,
        )
        walk.pay("syscall_send", size_bytes=packet.ip_bytes, at=name)
        walk.pay("udp_send", at=name)
        ip.send(walk, outer, self._namespace)

    def receive(self, walk: Walk, outer: Packet) -> None:
        """Queue a packet to the socket and wake the process."""
        walk.pay("udp_receive", at=self._device.name)
        walk.pay("socket_wakeup", at=self._device.name)
        if outer.inner is None:
            walk.drop(f"the process behind {self._device.name} of {self._namespace.name} got no packet in a packet")
            return
        walk.defer(self._write, walk, outer.inner)

    def _write(self, walk: Walk, packet: Packet) -> None:
        """Take a packet out of the socket and write it to the device."""
        walk.context = Context.DAEMON
        walk.pay("syscall_receive_nonblocking", size_bytes=packet.ip_bytes, at=self._device.name)
        self._device.write(walk, packet)
