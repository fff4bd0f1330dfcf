"""IPVS: virtual services, the connection table, and the hooks that send packets to real servers (ip_vs_core.c)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from kubesim.kernel import ip
from kubesim.kernel.address import address_number
from kubesim.kernel.ipvs.schedulers import SCHEDULERS, RealServer, Scheduler
from kubesim.kernel.netfilter.conntrack import Conntrack
from kubesim.kernel.netfilter.hooks import Hook, HookCall, Priority, Verdict
from kubesim.kernel.walk import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import FlowTuple, Packet
    from kubesim.kernel.walk import Walk

SERVICE_BUCKETS = 256
"""Buckets of the service table (``IP_VS_SVC_TAB_BITS`` 8, ip_vs_ctl.c)."""

CONNECTION_BUCKETS = 4096
"""Buckets of the connection table by default (``conn_tab_bits`` 12)."""


_WORD = 0xFFFFFFFF
_PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17, "sctp": 132}


def service_bucket(address: int, protocol: str, port: int) -> int:
    """The bucket of a service in the service table, by its address as one 32-bit number."""
    return (_PROTOCOL_NUMBERS[protocol] ^ address ^ port >> 8 ^ port) % SERVICE_BUCKETS


class ServiceKey(NamedTuple):
    """What a virtual service is found by."""

    address: str
    protocol: str
    port: int

    @property
    def bucket(self) -> int:
        """Its place in the service table (``ip_vs_svc_hashkey``, but for the namespace's own part, same for all)."""
        number = address_number(self.address)
        folded = number & _WORD
        if ":" in self.address:
            folded ^= (number >> 32 ^ number >> 64 ^ number >> 96) & _WORD
        return service_bucket(folded, self.protocol, self.port)


@dataclass(slots=True)
class VirtualService:
    """A virtual address and port, and who serves it.

    Parameters
    ----------
    key
        Address, protocol and port.
    scheduler
        Chooses among its real servers.
    is_persistent
        Whether a client stays with its server (``ipvsadm -p``).
    """

    key: ServiceKey
    scheduler: Scheduler
    is_persistent: bool = False
    _templates: dict[str, RealServer] = field(default_factory=dict)

    @classmethod
    def of(
        cls, key: ServiceKey, scheduler: str, servers: list[RealServer], *, is_persistent: bool = False
    ) -> VirtualService:
        """Make a service with a scheduler by name."""
        return cls(key, SCHEDULERS[scheduler](servers, key.address), is_persistent)

    def schedule(self, source: str, source_port: int) -> RealServer | None:
        """Choose a server for a new connection, and count the connection."""
        server = self._templates.get(source) if self.is_persistent else None
        if server is None:
            server = self.scheduler.schedule(source, source_port)
        if server is not None:
            server.active_connections += 1
            if self.is_persistent:
                self._templates[source] = server
        return server

    def place_for(self, source: str, source_port: int) -> tuple[str, int]:
        """As :meth:`schedule`, for a service that is known to have a server."""
        server = self.schedule(source, source_port)
        if server is None:
            raise LookupError(f"no server of {self.key.address}:{self.key.port} takes connections")
        return server.address, server.port

    def shares(self) -> dict[tuple[str, int], float]:
        """The part of many connections from many clients that each server gets: by its weight."""
        total = sum(server.weight for server in self.scheduler.servers)
        return {(one.address, one.port): one.weight / total for one in self.scheduler.servers if one.weight}

    def server_at(self, address: str, port: int) -> RealServer | None:
        """The server with this address, None if there is none."""
        servers = self.scheduler.servers
        return next((server for server in servers if (server.address, server.port) == (address, port)), None)


class ConnectionTable:
    """Connections by the tuples of both directions; buckets of a fixed number, so that chains grow with them.

    ``others`` is how many connections the node has besides those walked here: they lengthen the chains.
    """

    def __init__(self) -> None:
        self.others = 0
        self._by_flow: dict[FlowTuple, tuple[VirtualService, RealServer]] = {}

    def flush(self) -> None:
        """Forget all connections."""
        self._by_flow.clear()

    def find(self, flow: FlowTuple) -> tuple[VirtualService, RealServer] | None:
        """The connection a packet of this tuple belongs to."""
        return self._by_flow.get(flow)

    def add(self, request: FlowTuple, reply: FlowTuple, service: VirtualService, server: RealServer) -> None:
        """Note a new connection."""
        self._by_flow[request] = self._by_flow[reply] = (service, server)

    def chain_length(self) -> int:
        """Entries looked through on average to find one: itself, and half of the others in its bucket."""
        return 1 + self.others // (2 * CONNECTION_BUCKETS)


class Ipvs:
    """The IPVS of one namespace, in NAT mode.

    Parameters
    ----------
    namespace
        The namespace whose hooks it uses.
    find_service
        Gives the virtual service for a key, or None; services may be made when first asked for.
    bucket_sizes
        How many services are in each bucket of the service table.
    """

    def __init__(
        self,
        namespace: Namespace,
        find_service: Callable[[ServiceKey], VirtualService | None],
        bucket_sizes: dict[int, int],
    ) -> None:
        self.connections = ConnectionTable()
        self._find_service = find_service
        self._bucket_sizes = bucket_sizes
        self._services: dict[ServiceKey, VirtualService | None] = {}
        namespace.ipvs = self
        Conntrack.of(namespace)
        hooks = namespace.hooks
        hooks.register(Hook.INPUT, Priority.NAT_SOURCE - 2, self.reply)
        hooks.register(Hook.INPUT, Priority.NAT_SOURCE - 1, self.request)
        hooks.register(Hook.OUTPUT, Priority.NAT_DESTINATION + 1, self.reply)
        hooks.register(Hook.OUTPUT, Priority.NAT_DESTINATION + 2, self.request)
        hooks.register(Hook.FORWARD, Priority.NAT_SOURCE, self.reply)

    def replace_services(
        self, find_service: Callable[[ServiceKey], VirtualService | None], bucket_sizes: dict[int, int]
    ) -> None:
        """Have these virtual services and no others; connections stay with their real servers."""
        self._find_service = find_service
        self._bucket_sizes = bucket_sizes
        self._services = {}

    def service(self, key: ServiceKey) -> VirtualService | None:
        """The virtual service for a key, None if there is none."""
        if key not in self._services:
            self._services[key] = self._find_service(key)
        return self._services[key]

    def request(self, walk: Walk, packet: Packet, call: HookCall) -> Verdict:
        """Send a packet for a virtual service to a real server (``ip_vs_in_hook``)."""
        if packet.is_ipvs or packet.is_reply or packet.protocol not in _PROTOCOL_NUMBERS:
            return Verdict.ACCEPT  # a tunnel's packets among them (ip_vs_proto_data_get)
        walk.pay("ipvs_connection_lookup", self.connections.chain_length(), at=call.hook)
        found = self.connections.find(packet.flow)
        if found is None:
            if packet.protocol == "tcp" and not packet.is_opening:
                return Verdict.ACCEPT  # only a SYN is scheduled (tcp_conn_schedule, ip_vs_proto_tcp.c)
            service = self._look_up(walk, packet, call)
            if service is None:
                return Verdict.ACCEPT
            server = self._schedule(walk, packet, call, service)
            if server is None or walk.is_over:
                return Verdict.STOP
        else:
            _, server = found
        walk.pay("ipvs_nat", at=call.hook)
        packet.destination, packet.destination_port = server.address, server.port
        packet.is_ipvs = True
        if call.hook is Hook.OUTPUT or call.namespace.is_local(server.address):
            return Verdict.ACCEPT
        ip.send_translated(walk, packet, call.namespace)
        return Verdict.STOP

    def reply(self, walk: Walk, packet: Packet, call: HookCall) -> Verdict:
        """Give an answer of a real server the virtual address as its source (``ip_vs_reply_hook``)."""
        if packet.is_ipvs or packet.protocol not in _PROTOCOL_NUMBERS:
            return Verdict.ACCEPT
        walk.pay("ipvs_connection_lookup", self.connections.chain_length(), at=call.hook)
        found = self.connections.find(packet.flow)
        if found is not None and packet.is_reply:
            service, _ = found
            walk.pay("ipvs_nat", at=call.hook)
            packet.source, packet.source_port = service.key.address, service.key.port
            packet.is_ipvs = True
        return Verdict.ACCEPT

    def _look_up(self, walk: Walk, packet: Packet, call: HookCall) -> VirtualService | None:
        """Find the virtual service in its bucket (``ip_vs_service_find``)."""
        key = ServiceKey(packet.destination, packet.protocol, packet.destination_port)
        walk.pay("ipvs_service_lookup", max(1, self._bucket_sizes.get(key.bucket, 0)), at=call.hook)
        return self.service(key)

    def _schedule(self, walk: Walk, packet: Packet, call: HookCall, service: VirtualService) -> RealServer | None:
        """Choose a server for a new connection (``ip_vs_schedule``) and tell conntrack (``ip_vs_update_conntrack``)."""
        scheduler = service.scheduler
        walk.pay("ipvs_schedule", len(scheduler.servers) if scheduler.scans_servers else 1, at=call.hook)
        chosen = walk.chance.server
        server = service.server_at(*chosen) if chosen else service.schedule(packet.source, packet.source_port)
        if server is None:
            walk.drop(
                f"connection refused by IPVS of {call.namespace.name}: "
                f"no real server behind {service.key.address}:{service.key.port}",
                Refusal("REJECT", None),  # ip_vs_leave answers "port unreachable"
            )
            return None
        walk.pay("ipvs_connection_new", at=call.hook)
        request = packet.flow
        translated = request._replace(destination=server.address, destination_port=server.port)
        self.connections.add(request, translated.reversed(), service, server)
        if packet.connection is not None:
            packet.connection.reply = translated.reversed()
        walk.decide(
            server.address,
            server.port,
            schedule=service.place_for,
            is_sticky=service.is_persistent,
            shares=service.shares,
        )
        return server
