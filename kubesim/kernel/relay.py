"""A process that takes connections and makes others in their stead, and copies what comes on one to the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kubesim.kernel import ip
from kubesim.kernel.address import flow_hash
from kubesim.kernel.packet import DEFAULT_TTL, FlowTuple
from kubesim.kernel.walk import Context, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk

COPY_BYTES = 32 * 1024
"""What is copied at a time (Go's ``io.Copy``): larger messages go on in several buffers."""

FIRST_PORT, LAST_PORT = 32768, 60999
"""``net.ipv4.ip_local_port_range``: where a process gets ports from that asks for none."""


@dataclass(slots=True)
class Listener:
    """A port that the process listens on, and the servers it connects to in turn (``rr``).

    Parameters
    ----------
    name
        Who is served there, for the reason of a refusal.
    servers
        Address and port of each.
    is_sticky
        Whether a client, by its address, stays with its server.
    """

    name: str
    servers: tuple[tuple[str, int], ...]
    is_sticky: bool = False
    _next: int = 0
    _servers_of_clients: dict[str, tuple[str, int]] = field(default_factory=dict)

    def schedule(self, source: str, _source_port: int) -> tuple[str, int]:
        """The server for one more connection of a client; there must be one."""
        if self.is_sticky and source in self._servers_of_clients:
            return self._servers_of_clients[source]
        server = self.servers[self._next]
        self._next = (self._next + 1) % len(self.servers)
        if self.is_sticky:
            self._servers_of_clients[source] = server
        return server

    def shares(self) -> dict[tuple[str, int], float]:
        """The part of many connections that each server gets."""
        return dict.fromkeys(self.servers, 1 / len(self.servers))


class Relay:
    """One process of a namespace that passes connections on: one thread for all of them.

    A message goes up to the process and down again: two connections, two transport layers, and four copies between
    kernel and user where there were two. The server sees an address of this host.

    A SYN is passed on too, and answered by the server's SYN-ACK; Linux would answer it at once and the process would
    accept, then connect. The work is the same, but a client here waits for the server's handshake before it sends,
    where it would send at once and its first request would wait for that handshake. What neither carries data nor
    wakes a process is passed on without it: each kernel does so by itself. Closing costs a system call on each side.

    Parameters
    ----------
    namespace
        Where the process is.
    find_listener
        Gives what is listened for at a port of a protocol, or None; listeners may be made when first asked for.
    """

    def __init__(self, namespace: Namespace, find_listener: Callable[[str, int], Listener | None]) -> None:
        self._namespace = namespace
        self._find_listener = find_listener
        self._listeners: dict[tuple[str, int], Listener | None] = {}
        self._ways: dict[FlowTuple, FlowTuple] = {}
        namespace.relay = self

    def forget(self) -> None:
        """Close all connections; whose turn it is, and which server a client has, stays known."""
        self._ways.clear()

    def listener(self, protocol: str, port: int) -> Listener | None:
        """What the process listens for at a port, None if it does not."""
        key = (protocol, port)
        if key not in self._listeners:
            self._listeners[key] = self._find_listener(protocol, port)
        return self._listeners[key]

    def takes(self, packet: Packet) -> bool:
        """Whether a packet that has arrived is for this process: of a connection it has, or opening one it wants."""
        if packet.flow in self._ways:
            return True
        return packet.is_opening and self.listener(packet.protocol, packet.destination_port) is not None

    def pass_on(self, walk: Walk, packet: Packet) -> None:
        """Take a packet's data from one connection and send it on the other."""
        way = self._ways.get(packet.flow)
        place = self._namespace.name
        if way is None or walk.receive_call == "syscall_receive":
            walk.pay("socket_wakeup", at=place)
            walk.context = Context.DAEMON
            walk.pay("socket_poll", at=place)
            is_accepted = way is None and packet.protocol == "tcp"
            walk.pay("syscall_accept" if is_accepted else "syscall_receive", size_bytes=packet.payload_bytes, at=place)
            if way is None:
                way = self._open(walk, packet)
                if way is None:
                    return
                walk.pay("syscall_connect", at=place)
            walk.buffers = max(1, -(-packet.payload_bytes // COPY_BYTES)) if packet.protocol == "tcp" else 1
            walk.pay("syscall_send", size_bytes=packet.payload_bytes, at=place)
        self._send(walk, packet, way)

    def _open(self, walk: Walk, packet: Packet) -> FlowTuple | None:
        """Choose a server for a new client, and an address and a port of one's own; None if the walk ends here."""
        listener = self.listener(packet.protocol, packet.destination_port)
        assert listener is not None  # noqa: S101 - takes() said so
        if not listener.servers:
            walk.drop(
                f"connection refused by a process of {self._namespace.name}: it accepts, finds that nobody serves "
                f"{listener.name}, and closes",
                Refusal("REJECT", None),
            )
            return None
        address, port = walk.chance.server or listener.schedule(packet.source, packet.source_port)
        walk.decide(address, port, schedule=listener.schedule, is_sticky=listener.is_sticky, shares=listener.shares)
        if walk.is_over:
            return None
        way = self._free_flow(packet.flow, address, port)
        self._ways[packet.flow] = way
        self._ways[way.reversed()] = packet.flow.reversed()
        return way

    def _free_flow(self, client: FlowTuple, address: str, port: int) -> FlowTuple:
        """A connection to a server from an address of this host; the port is a hash of the client's flow."""
        namespace = self._namespace
        route = namespace.routes.lookup(address)
        source = address
        if route is not None and route.device is not None and not namespace.is_local(address):
            source = namespace.primary_address(route.device)
        attempt = 0
        while True:
            own = FIRST_PORT + flow_hash(*client, attempt) % (LAST_PORT + 1 - FIRST_PORT)
            flow = FlowTuple(source, address, client.protocol, own, port)
            if flow.reversed() not in self._ways and self.listener(client.protocol, own) is None:
                return flow
            attempt += 1

    def _send(self, walk: Walk, packet: Packet, way: FlowTuple) -> None:
        """Send the same data as a packet of this host's own."""
        packet.forget_connection()
        packet.source, packet.destination = way.source, way.destination
        packet.source_port, packet.destination_port = way.source_port, way.destination_port
        packet.mark, packet.ttl, packet.is_ipvs, packet.destination_mac = 0, DEFAULT_TTL, False, ""
        packet.largest_fragment_bytes = 0
        walk.pay(f"{packet.protocol}_send", at=self._namespace.name)
        walk.defer(ip.send, walk, packet, self._namespace)
