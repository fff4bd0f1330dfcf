"""Follows single packets through a scenario, hop by hop."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from kubesim.errors import InputError, did_you_mean
from kubesim.html import shown
from kubesim.kernel import socket
from kubesim.kernel.loopback import LOCALHOST
from kubesim.kernel.packet import Packet
from kubesim.kernel.watch import Watch
from kubesim.scenario.provenance import provenance
from kubesim.scenario.showing import packet_html, trace_pieces, trace_title
from kubesim.scenario.simulation import costs_of, deploy
from kubesim.scenario.stops import stops_of
from kubesim.scenario.telling import heading, told
from kubesim.scenario.visits import PricedHop, Role, priced
from kubesim.units import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubesim.cluster import Cluster, Pod, Service, ServicePort
    from kubesim.cost import CostSet
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.walk import Path
    from kubesim.scenario.deployment import Deployment
    from kubesim.scenario.spec import Scenario
    from kubesim.scenario.stops import Stop

SOURCE_PORT = 40_000
DEFAULT_PORT = 80
DEFAULT_BYTES = 64
_MOST = 0.5
PROTOCOLS = ("tcp", "udp")
_WOKEN = (Role.SOFTIRQ, Role.STEERED, Role.DAEMON, Role.WORKER, Role.PEER, Role.RECEIVE)

KINDS = ("first", "first_reply", "established", "reply")
"""The packets of a connection that are followed: those that open it, and those of later."""


@dataclass(frozen=True)
class TracedPacket:
    """One packet's way.

    Parameters
    ----------
    kind
        ``first``, ``first_reply``, ``established`` or ``reply``.
    sent
        The packet's headers when it was sent, as ``address:port > address:port``.
    hops
        Its hops with their mean costs.
    path
        Everything that happened to it.
    delivered_to
        The pod, or node, that got it; None if nobody did.
    core_wakeup_ns
        What an idle core would need besides, each time one is woken.
    """

    kind: str
    sent: str
    hops: tuple[PricedHop, ...]
    path: Path
    delivered_to: str | None
    core_wakeup_ns: int

    @property
    def total_ns(self) -> int:
        """Sum of its hops: from socket to socket where all cores are awake and nobody waits."""
        return sum(hop.cost_ns for hop in self.hops)

    @property
    def cpu_ns(self) -> int:
        """The part of it that is CPU time."""
        return sum(hop.cost_ns for hop in self.hops if hop.role not in (Role.NIC, Role.WIRE, Role.PORT))

    @property
    def rules_tested(self) -> int:
        """Rules tested on all hosts."""
        return sum(self.path.rules_tested.values())

    @property
    def wakeups(self) -> int:
        """Cores it wakes where they are idle: of each receive queue, those that RPS chose, and of each thread."""
        roles = [hop.role for hop in self.hops]
        changes = [role for before, role in zip([None, *roles], roles, strict=False) if role != before]
        return sum(role in _WOKEN for role in changes)

    @cached_property
    def stops(self) -> tuple[Stop, ...]:
        """The sockets, devices, hooks and decisions it passed, with its headers before and after each."""
        return stops_of(self.hops, self.path)

    def text(self) -> str:
        """Its way in words, a numbered list."""
        return told(self)

    def __repr__(self) -> str:
        return f"<TracedPacket: {heading(self)}>"

    def _repr_html_(self) -> str:
        return packet_html(self)

    def to_dict(self) -> dict[str, Any]:
        """What ``kubesim trace --json`` prints of it."""
        packet = self.path.packet
        return {
            "kind": self.kind,
            "sent": self.sent,
            "delivered_to": self.delivered_to,
            "to": f"{packet.destination}:{packet.destination_port}" if self.delivered_to else None,
            "from": f"{packet.source}:{packet.source_port}" if self.delivered_to else None,
            "reason": self.path.reason,
            "total_ns": self.total_ns,
            "cpu_ns": self.cpu_ns,
            "wakeups": self.wakeups,
            "wakeup_ns": self.wakeups * self.core_wakeup_ns,
            "rules_tested": self.rules_tested,
            "rules_tested_at": {f"{host} {place}": count for (host, place), count in self.path.rules_tested.items()},
            "hooks": [visit._asdict() for visit in self.path.hooks],
            "hops": [
                {
                    "node": one.hop.host,
                    "operation": one.hop.operation,
                    "count": one.hop.total_items,
                    "cost_ns": one.cost_ns,
                    "at": one.hop.at,
                    "context": one.hop.context.value,
                }
                for one in self.hops
            ],
        }


@dataclass(frozen=True)
class TraceResult:
    """The ways of a connection's packets.

    Parameters
    ----------
    provenance
        Version, scenario, seed and cost set.
    notices
        What a person should know about the input.
    source, target
        From whom to whom, as asked.
    packets
        First packet, its reply, an established packet and its reply; fewer if one gets nowhere.
    """

    provenance: dict[str, str]
    notices: tuple[str, ...]
    source: str
    target: str
    packets: tuple[TracedPacket, ...]

    def packet(self, kind: str) -> TracedPacket:
        """One of the packets, by its kind.

        Raises
        ------
        InputError
            If there is no such kind, or the connection did not come so far.
        """
        if kind not in KINDS:
            raise InputError(f"packet: there is no {kind!r}: {did_you_mean(kind, KINDS)}")
        for packet in self.packets:
            if packet.kind == kind:
                return packet
        last = self.packets[-1]
        raise InputError(f"packet: there is no {kind}: the {last.kind} packet got nowhere: {last.path.reason}")

    def text(self, kinds: Sequence[str] = ()) -> str:
        """The ways of the packets in words: of those asked for, or of all."""
        chosen = [self.packet(kind) for kind in kinds] if kinds else self.packets
        return "\n\n".join(packet.text() for packet in chosen)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} from {self.source} to {self.target}: {counted(len(self.packets), 'packet')}>"

    def _repr_html_(self) -> str:
        return shown(trace_title(self), *trace_pieces(self))

    def to_dict(self) -> dict[str, Any]:
        """What ``kubesim trace --json`` prints."""
        return {
            "kubesim_version": self.provenance["kubesim_version"],
            "cost_set": self.provenance["cost_set"],
            "from": self.source,
            "to": self.target,
            "packets": [packet.to_dict() for packet in self.packets],
        }


def trace(
    scenario: Scenario, source: str, target: str, *, protocol: str | None = None, payload_bytes: int = DEFAULT_BYTES
) -> TraceResult:
    """Follow a new connection's packets.

    Parameters
    ----------
    scenario
        The cluster and its costs; its traffic is only needed for the pods it makes.
    source
        A pod, ``namespace/name`` or ``name``; of a Deployment, its first; a node, for a process on it; or a machine
        outside of the cluster, ``outside-1``.
    target
        A Service, a pod, a node or an address, each with ``:PORT`` if needed. A machine outside calls a Service by its
        load balancer's address or, where it has none, by its port of the first node.
    protocol
        ``tcp`` or ``udp``; that of the Service's port, or TCP, if not given.
    payload_bytes
        What each packet carries.

    Returns
    -------
    TraceResult

    Raises
    ------
    InputError
        If there is no such source or target.
    """
    deployment = deploy(scenario)
    costs = costs_of(scenario)
    tracer = _Tracer(deployment, costs, payload_bytes)
    packets = tracer.follow(source, target, protocol)
    return TraceResult(provenance(scenario), deployment.notices, source, target, packets)


class _Tracer:
    def __init__(self, deployment: Deployment, costs: CostSet, payload_bytes: int) -> None:
        self._deployment = deployment
        self._costs = costs
        self._payload_bytes = payload_bytes

    def follow(self, source: str, target: str, protocol: str | None) -> tuple[TracedPacket, ...]:
        """First packet, its reply, an established packet and its reply."""
        deployment = self._deployment
        client_address, client_name = self._source(source)
        is_outside = source in (host.name for host in deployment.cluster.outside)
        address, port, own_protocol = _target(deployment, target, is_outside=is_outside)
        protocol = protocol or own_protocol or "tcp"
        if protocol not in PROTOCOLS:
            raise InputError(f"protocol: only {' and '.join(PROTOCOLS)} can be traced, not {protocol!r}")
        ends = client_address, client_name, address, port, protocol
        found = self._converse(*ends)
        if deployment.upcall_ratio is not None and deployment.upcall_ratio < _MOST:
            # Most connections find what others have left in Open vSwitch's cache.
            deployment.forget_connections(keeps_megaflows=True)
            found = self._converse(*ends)
        return tuple(found)

    def _converse(
        self, client_address: str, client_name: str, address: str, port: int, protocol: str
    ) -> list[TracedPacket]:
        """Open a connection and use it, as far as it comes."""
        deployment = self._deployment
        client = deployment.namespace_at(client_address)
        if address.startswith("127."):
            client_address = LOCALHOST
        found: list[TracedPacket] = []
        for kinds in (KINDS[:2], KINDS[2:]):
            request = Packet(client_address, address, protocol, SOURCE_PORT, port, self._payload_bytes)
            request.is_opening = kinds[0] == "first"
            sent = self._send(kinds[0], client, request)
            found.append(sent)
            if sent.path.delivered_to is None:
                break
            arrived = sent.path.packet.flow.reversed()
            server = deployment.namespace_named(sent.path.delivered_to)
            answer = self._send(kinds[1], server, Packet(*arrived, payload_bytes=self._payload_bytes))
            found.append(answer)
            if answer.delivered_to is None:
                break
            if answer.path.packet.destination == client_address:
                found[-1] = replace(answer, delivered_to=client_name)  # its port on a host says nothing of the pod
        return found

    def _source(self, source: str) -> tuple[str, str]:
        """The address of the sender, and its name."""
        cluster = self._deployment.cluster
        machines = {node.name: node.address for node in cluster.nodes}
        machines |= {host.name: host.address for host in cluster.outside}
        if source in machines:
            return machines[source], source
        try:
            pod = cluster.pod(source)
        except InputError as error:
            if source in cluster.pod_names():
                raise InputError(f"from: {error}") from None
            known = did_you_mean(source, [*cluster.pod_names(), *machines])
            raise InputError(f"from: there is no pod, node or machine outside {source!r}: {known}") from None
        return pod.address, pod.full_name

    def _send(self, kind: str, sender: Namespace, packet: Packet) -> TracedPacket:
        deployment = self._deployment
        sent = f"{packet.source}:{packet.source_port} > {packet.destination}:{packet.destination_port}"
        if packet.protocol == "tcp":
            packet.segment_bytes = deployment.segment_bytes
        path = socket.send(sender, packet, materialise=deployment.materialise, watch=Watch())
        hops = priced(path.hops, self._costs)
        arrived = path.packet
        delivered_to = deployment.pod_name(
            path.delivered_to, arrived.destination, arrived.destination_port, arrived.protocol
        )
        return TracedPacket(kind, sent, hops, path, delivered_to, self._costs.price_ns("core_wakeup"))


def _target(deployment: Deployment, target: str, *, is_outside: bool) -> tuple[str, int, str | None]:
    """Address, port and, where it is known, protocol of what is called."""
    name, _, port_text = target.partition(":")
    if not name:
        raise InputError("to: a Service, a pod, a node or an address is needed")
    cluster = deployment.cluster
    if _is_address(name):
        return name, _port_number(port_text) or DEFAULT_PORT, None
    service_error: InputError | None = None
    try:
        service = cluster.service(name)
    except InputError as error:
        service_error = error
    else:
        port = _service_port(service, port_text)
        if is_outside:
            return *_from_outside(cluster, service, port), port.protocol
        if service.cluster_ip is not None and not deployment.proxy.is_headless:
            return service.cluster_ip, port.port, port.protocol
        endpoints = cluster.endpoints(service, port)
        if not endpoints:
            raise InputError(f"to: Service {name} has no virtual address and no endpoints: its name leads nowhere")
        return endpoints[0].address, endpoints[0].port, port.protocol
    if name in (node.name for node in cluster.nodes):
        return cluster.node(name).address, _port_number(port_text) or DEFAULT_PORT, None
    pod = _pod(cluster, name, service_error)
    declared = [one for one in pod.ports if port_text in ("", one.name, str(one.number))]
    number = declared[0].number if declared else _port_number(port_text) or DEFAULT_PORT
    return pod.address, number, declared[0].protocol if declared else None


def _from_outside(cluster: Cluster, service: Service, port: ServicePort) -> tuple[str, int]:
    """By which address and port a machine outside calls a Service."""
    balanced = next((address for address in service.load_balancer_ips if ":" not in address), None)
    if balanced is not None:
        return balanced, port.port
    if port.node_port is None:
        raise InputError(f"to: Service {service.name} is a {service.kind}: nobody outside of the cluster can call it")
    return cluster.nodes[0].address, port.node_port


def _service_port(service: Service, wanted: str) -> ServicePort:
    """The port of a Service that is called: by name or number, or the first."""
    if service.kind == "ExternalName":
        raise InputError(
            f"to: Service {service.name} is an ExternalName, another name in DNS: no packet goes through it"
        )
    matching = [one for one in service.ports if wanted in ("", one.name, str(one.port))]
    if not service.ports:
        raise InputError(f"to: Service {service.name} has no ports")
    if not matching:
        known = [one.name or str(one.port) for one in service.ports]
        raise InputError(f"to: Service {service.name} has no port {wanted!r}: {did_you_mean(wanted, known)}")
    return matching[0]


def _pod(cluster: Cluster, name: str, service_error: InputError) -> Pod:
    try:
        return cluster.pod(name)
    except InputError:
        known = [*cluster.service_names(), *cluster.pod_names(), *(node.name for node in cluster.nodes)]
        message = f"to: there is no Service, pod or node {name!r}: {did_you_mean(name, known)}"
        raise InputError(message) from service_error


def _is_address(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True


def _port_number(text: str) -> int | None:
    """A port's number, None if nothing is given."""
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise InputError(f"to: {text!r} is not a port")
    return int(text)
