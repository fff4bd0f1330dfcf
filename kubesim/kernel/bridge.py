"""A Linux bridge: switches frames between its ports by their MAC addresses, and is a device of its host too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel import fragment, ip
from kubesim.kernel.device import Device
from kubesim.kernel.netfilter.hooks import Hook

if TYPE_CHECKING:
    from kubesim.kernel.device import Switch
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.veth import Veth
    from kubesim.kernel.walk import Walk


class Bridge(Device):
    """A bridge (net/bridge); with ``bridge-nf-call-iptables`` its frames pass the IP hooks too (br_netfilter_hooks.c).

    Parameters
    ----------
    namespace, name, mtu
        As for every device.
    """

    def __init__(self, namespace: Namespace, name: str, mtu: int) -> None:
        super().__init__(namespace, name, mtu)
        self.ports: dict[str, Veth] = {}
        self.forwarding_database: dict[str, Veth] = {}
        self._links: list[tuple[Veth, Switch]] = []

    def add_port(self, port: Veth) -> None:
        """Make a device a port; the address of who is behind it is learnt at once, unless that is another switch."""
        port.master = self
        self.ports[port.name] = port
        if port.peer is not None and port.peer.master is not None:
            self._links.append((port, port.peer.master))
        elif port.peer is not None:
            self.forwarding_database[port.peer.mac] = port

    def answer(self, address: str) -> str | None:
        """Ask all ports, and the host, who has an address (ARP)."""
        return self.mac if self.namespace.is_local(address) else self.resolve(address)

    def receive_from(self, port: Device, walk: Walk, packet: Packet) -> None:
        """Take a frame from a port (``br_handle_frame``)."""
        walk.note_hook("bridge", "br_prerouting", port.name, None)
        walk.pay("bridge_receive", at=self.name)
        has_passed_ip_hooks = self.namespace.is_bridge_nf_call_iptables
        if has_passed_ip_hooks:
            destination = packet.destination
            if not self._run_ip_hook(walk, packet, Hook.PREROUTING, in_device=self.name):
                return
            if packet.destination != destination:
                self._follow_translation(walk, packet)
        if packet.destination_mac == self.mac:
            walk.note_hook("bridge", "br_input", port.name, None)
            if has_passed_ip_hooks:
                ip.receive_finish(walk, packet, self)
            else:
                ip.receive(walk, packet, self)
        else:
            self._forward(walk, packet, port)

    def transmit(self, walk: Walk, packet: Packet) -> None:
        """Send a packet of the host to a port (``br_dev_xmit``)."""
        out = self._look_up(walk, packet)
        if out is not None:
            walk.note_hook("bridge", "br_output", None, out.name)
            walk.note_hook("bridge", "br_postrouting", None, out.name)
            out.transmit(walk, packet)

    def resolve(self, address: str) -> str | None:
        """The host asks on its own bridge, and on the switches it is joined to; from an answer the bridge learns."""
        known = super().resolve(address)
        if known is not None:
            return known
        for port, switch in self._links:
            mac = switch.answer(address)
            if mac is not None:
                self.forwarding_database[mac] = port
                return mac
        return None

    def _follow_translation(self, walk: Walk, packet: Packet) -> None:
        """Readdress the frame after DNAT: to the new destination if it is on this bridge, else up to the host."""
        walk.pay("route_lookup", at=self.name)
        route = self.namespace.routes.lookup(packet.destination)
        is_here = route is not None and route.device is self and not self.namespace.is_local(packet.destination)
        packet.destination_mac = (self.resolve(packet.destination) if is_here else None) or self.mac

    def _forward(self, walk: Walk, packet: Packet, port: Device) -> None:
        """Switch a frame from one port to another (``br_forward``)."""
        out = self._look_up(walk, packet)
        if out is None:
            return
        if out is port and not out.is_hairpin:
            walk.drop(f"{out.name} of {self.namespace.name} is not in hairpin mode: no way back out of the same port")
            return
        walk.note_hook("bridge", "br_forward", port.name, out.name)
        if not self._run_ip_hook(walk, packet, Hook.FORWARD, in_device=self.name, out_device=self.name):
            return
        walk.note_hook("bridge", "br_postrouting", None, out.name)
        if self._run_ip_hook(walk, packet, Hook.POSTROUTING, in_device=None, out_device=self.name):
            fragment.cut(walk, packet, out)  # br_nf_dev_queue_xmit: what conntrack has put together
            out.transmit(walk, packet)

    def _look_up(self, walk: Walk, packet: Packet) -> Veth | None:
        """Find the port behind which a MAC address is."""
        walk.pay("bridge_fdb_lookup", at=self.name)
        out = self.forwarding_database.get(packet.destination_mac)
        if out is None:
            walk.drop(f"{self.name} of {self.namespace.name} floods a frame to {packet.destination_mac}: nobody has it")
        return out

    def _run_ip_hook(
        self, walk: Walk, packet: Packet, hook: Hook, in_device: str | None, out_device: str | None = None
    ) -> bool:
        """Run an IP hook from inside the bridge, if the host wants that."""
        if not self.namespace.is_bridge_nf_call_iptables:
            return True
        return self.namespace.hooks.run(walk, packet, hook, self.namespace, in_device, out_device)
