"""The IPv4 layer: receiving, forwarding and sending, with netfilter's hooks where Linux has them (net/ipv4/ip_*.c)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel import fragment, socket
from kubesim.kernel.netfilter.hooks import Hook

if TYPE_CHECKING:
    from kubesim.kernel.device import Device
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.route import Route
    from kubesim.kernel.walk import Walk


def receive(walk: Walk, packet: Packet, device: Device) -> None:
    """Take a packet from a device (``ip_rcv``)."""
    namespace = device.namespace
    walk.see(packet, namespace)
    if namespace.hooks.run(walk, packet, Hook.PREROUTING, namespace, in_device=device.name):
        receive_finish(walk, packet, device)


def receive_finish(walk: Walk, packet: Packet, device: Device) -> None:
    """Decide where a packet that passed PREROUTING goes (``ip_rcv_finish``)."""
    namespace = device.namespace
    walk.pay("ip_receive", at=device.name)
    walk.pay("route_lookup", at=device.name)
    if namespace.is_local(packet.destination):
        _deliver_locally(walk, packet, device)
    else:
        _forward(walk, packet, device)


def send(walk: Walk, packet: Packet, namespace: Namespace, tunnel: Device | None = None) -> None:
    """Send a packet that starts in this namespace (``ip_local_out``); ``tunnel`` is the device that wrapped it."""
    walk.see(packet, namespace)
    route = _route(walk, packet, namespace)
    if route is None:
        return
    out_device = namespace.loopback if namespace.is_local(packet.destination) else route.device
    if tunnel is None and packet.protocol == "udp":
        # A socket's datagram that fits goes with DF, and one that does not is cut here (IP_PMTUDISC_WANT).
        packet.is_dont_fragment = out_device is None or packet.length_bytes <= out_device.mtu
    destination = packet.destination
    if not namespace.hooks.run(walk, packet, Hook.OUTPUT, namespace, out_device=_name(out_device)):
        return
    if packet.destination != destination:
        rerouted = _route(walk, packet, namespace)
        if rerouted is None:
            return
        route = rerouted
    _output(walk, packet, namespace, route, in_device=tunnel)


def send_translated(walk: Walk, packet: Packet, namespace: Namespace) -> None:
    """Send a packet whose destination IPVS has rewritten (``ip_vs_nat_send_or_cont``): OUTPUT again, then out."""
    walk.see(packet, namespace)
    route = _route(walk, packet, namespace)
    if route is None:
        return
    if namespace.hooks.run(walk, packet, Hook.OUTPUT, namespace, out_device=_name(route.device)):
        _output(walk, packet, namespace, route, in_device=None)


def _deliver_locally(walk: Walk, packet: Packet, device: Device) -> None:
    """Hand a packet for this namespace up (``ip_local_deliver``)."""
    namespace = device.namespace
    fragment.reassemble(walk, packet, device.name)
    if not namespace.hooks.run(walk, packet, Hook.INPUT, namespace, in_device=device.name):
        return
    tunnel = namespace.encapsulation_sockets.get((packet.protocol, packet.destination_port))
    if tunnel is not None:
        tunnel(walk, packet)
    else:
        socket.receive(walk, packet, namespace)


def _forward(walk: Walk, packet: Packet, device: Device) -> None:
    """Pass a packet on (``ip_forward``)."""
    namespace = device.namespace
    route = namespace.routes.lookup(packet.destination)
    if route is None or route.device is None:
        walk.drop(f"no route to {packet.destination} in {namespace.name}: network unreachable")
        return
    if not namespace.is_forwarding:
        walk.drop(f"{namespace.name} does not forward packets (net.ipv4.ip_forward is 0)")
        return
    packet.ttl -= 1
    if packet.ttl <= 0:
        walk.drop(f"time to live exceeded in {namespace.name}: the packet goes in circles")
        return
    walk.pay("ip_forward", at=f"{device.name}>{route.device.name}")
    if not fragment.fits(walk, packet, route.device):
        return
    if namespace.hooks.run(walk, packet, Hook.FORWARD, namespace, in_device=device.name, out_device=route.device.name):
        _output(walk, packet, namespace, route, in_device=device)


def _output(walk: Walk, packet: Packet, namespace: Namespace, route: Route, in_device: Device | None) -> None:
    """Send a routed packet to its next hop (``ip_output``, ``ip_finish_output``)."""
    device = namespace.loopback if namespace.is_local(packet.destination) else route.device
    if device is None:
        walk.drop(f"no route to {packet.destination} in {namespace.name}: network unreachable")
        return
    if not namespace.hooks.run(
        walk, packet, Hook.POSTROUTING, namespace, in_device=_name(in_device), out_device=device.name
    ):
        return
    if not fragment.fits(walk, packet, device):
        return
    fragment.cut(walk, packet, device)
    if device is namespace.loopback:
        device.transmit(walk, packet)
        return
    next_hop = route.next_hop(packet.destination)
    mac = device.resolve(next_hop)
    if mac is None:
        walk.drop(f"nobody answers for {next_hop} on {device.name} of {namespace.name}: host unreachable")
        return
    walk.pay("ip_output", at=device.name)
    packet.destination_mac = mac
    device.send(walk, packet)


def _route(walk: Walk, packet: Packet, namespace: Namespace) -> Route | None:
    """Look up where a packet that starts here goes."""
    walk.pay("route_lookup", at=namespace.name)
    route = namespace.routes.lookup(packet.destination)
    if (route is None or route.device is None) and not namespace.is_local(packet.destination):
        walk.drop(f"no route to {packet.destination} in {namespace.name}: network unreachable")
        return None
    return route


def _name(device: Device | None) -> str | None:
    return None if device is None else device.name
