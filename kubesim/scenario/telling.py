"""Tells a packet's way in words, in the terms of Linux networking."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from kubesim.kernel.netfilter import targets
from kubesim.kernel.netfilter.rule import Printable
from kubesim.scenario.stops import StopKind
from kubesim.units import counted, format_ns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubesim.kernel.packet import FlowTuple
    from kubesim.kernel.watch import Ruling
    from kubesim.scenario.stops import Stop
    from kubesim.scenario.tracing import TracedPacket
    from kubesim.scenario.visits import PricedHop

_WORDS = {
    "syscall_send": "system call that sends",
    "syscall_receive": "system call that receives returns",
    "socket_wakeup": "the waiting process is woken",
    "tcp_send": "TCP output",
    "tcp_receive": "TCP input",
    "udp_send": "UDP output",
    "udp_receive": "UDP input",
    "udp_first_send": "first datagram of this socket",
    "route_lookup": "FIB lookup",
    "ip_receive": "IP input",
    "ip_forward": "IP forwarding",
    "ip_output": "IP output",
    "backlog": "taken from this core's backlog",
    "rps_flow_dissect": "the flow's hash is computed",
    "rps_steer": "RPS puts it into the backlog of another core",
    "veth_transmit": "over to the peer's backlog",
    "loopback_transmit": "into this core's backlog",
    "bridge_receive": "bridge input",
    "bridge_fdb_lookup": "FDB lookup",
    "vxlan_fdb_lookup": "FDB lookup for the VTEP",
    "vxlan_encapsulate": "VXLAN encapsulation",
    "vxlan_decapsulate": "VXLAN decapsulation",
    "ipip_encapsulate": "IPIP encapsulation",
    "ipip_decapsulate": "IPIP decapsulation",
    "gro_cells": "handed up by gro_cells",
    "nic_transmit": "into the card's ring",
    "nic_serialise": "the card serialises",
    "wire": "cable and switch",
    "port_serialise": "the switch's port serialises",
    "nic_receive": "NAPI polls the ring",
    "gro": "GRO",
    "gso_segment": "GSO cuts segments",
    "nat_setup": "NAT is settled",
    "nat_rewrite": "NAT rewrites the header",
    "conntrack_confirm": "conntrack confirms the entry",
    "ipvs_connection_lookup": "IPVS looks for its connection",
    "ipvs_service_lookup": "IPVS looks for the virtual service",
    "ipvs_schedule": "the scheduler chooses a real server",
    "ipvs_connection_new": "IPVS notes the connection",
    "ipvs_nat": "IPVS rewrites the header",
}
"""Operations in words; one that is not here is called by its name."""

_QUEUES = {
    "backlog": "this core's backlog, softirq",
    "nic_receive": "the card's receive ring, softirq (NAPI)",
    "gro_cells": "queue of gro_cells, softirq (NAPI)",
}
"""Queues from which softirq takes packets, by the operation that does."""

_COUNTED_ELSEWHERE = ("_table", "_chain", "_rule")
"""How the operations end that a table's ruling tells of."""


def told(packet: TracedPacket) -> str:
    """The way of one packet as a numbered list, under a heading for each machine and namespace."""
    lines = [heading(packet)]
    number = 0
    for (host, namespace), stops in groupby(packet.stops, key=lambda stop: (stop.host, stop.namespace)):
        lines += ["", f"{place_of(host, namespace)}:"]
        for stop in stops:
            number += 1
            lines.append(f"{number:>3}. {sentence(stop, packet.total_ns)}")
    lines += ["", ending(packet)]
    return "\n".join(lines)


def heading(packet: TracedPacket) -> str:
    """Which packet it is, and by which addresses it was sent."""
    sent = flow_text(packet.stops[0].before[0]) if packet.stops else packet.sent
    name = packet.kind.replace("_", " ")
    return f"{name if name.endswith('reply') else f'{name} packet'}: {sent}"


def place_of(host: str, namespace: str) -> str:
    """A machine and a namespace of it, as a heading; what is between machines has no namespace."""
    return f"{host}, {namespace_text(host, namespace)}" if namespace else f"{namespace_text(host, namespace)} of {host}"


def namespace_text(host: str, namespace: str) -> str:
    """What a namespace of a machine is called; that of what is between machines is empty."""
    if not namespace:
        return "network"
    return "root namespace" if namespace == host else f"namespace {namespace}"


def sentence(stop: Stop, total_ns: int) -> str:
    """What happens at a stop, and how long it takes."""
    aside = stop.contexts if stop.kind is StopKind.PROCESS else stop.between
    name = f"{stop.name} ({aside})" if aside else stop.name
    parts = [*clauses(stop), *changes(stop)]
    return f"{name}: {'; '.join(parts)} ({time_and_share(stop.cost_ns, total_ns)})"


def time_and_share(cost_ns: int, total_ns: int) -> str:
    """A time, and which part of the whole it is."""
    share = cost_ns / total_ns if total_ns else 0.0
    return f"{format_ns(cost_ns)}, {share:.1%}"


def ending(packet: TracedPacket) -> str:
    """Where the packet came to, and what it took."""
    cost = (
        f"{format_ns(packet.total_ns)}, of which CPU {format_ns(packet.cpu_ns)}; "
        f"{counted(packet.rules_tested, 'rule')} tested"
    )
    if packet.delivered_to is None:
        return f"got nowhere: {packet.path.reason}. {cost}"
    flow = packet.path.packet.flow
    return f"delivered to {packet.delivered_to}: {flow_text(flow)}. {cost}"


def clauses(stop: Stop) -> list[str]:
    """What is done at a stop, in order, without what becomes of the addresses."""
    found = []
    rulings = {ruling.place: ruling for ruling in stop.rulings}
    for at, group in groupby(stop.hops, key=lambda one: one.hop.at):
        hops = list(group)
        found += _of_table(rulings[at], hops) if at in rulings else _of_operations(hops, _within(stop, at))
    return found + ([f"passes {', '.join(stop.passed)}"] if stop.passed else [])


def changes(stop: Stop) -> list[str]:
    """What becomes of the packet's headers at a stop."""
    before, after = stop.before, stop.after
    if len(after) > len(before):
        return [f"now in {flow_text(header)}" for header in after[: len(after) - len(before)]]
    if len(after) < len(before):
        return [f"now {flow_text(after[0])}"]
    found = []
    for old, new in zip(before, after, strict=True):
        ends = (("source", old[0], old[3], new[0], new[3]), ("destination", old[1], old[4], new[1], new[4]))
        found += [
            f"{end} {address_text(address, port)} → {address_text(new_address, new_port)}"
            for end, address, port, new_address, new_port in ends
            if (address, port) != (new_address, new_port)
        ]
    return found


def handed_over(stop: Stop) -> str:
    """Out of which queue the packet comes at a stop, and who takes it; empty if it just goes on."""
    first = stop.hops[0].hop
    if stop.kind is StopKind.PROCESS:
        return f"over to {first.at} ({first.context.value})"
    return _QUEUES.get(first.operation, "")


def flow_text(flow: FlowTuple) -> str:
    """A flow as ``tcp 10.244.0.2:40000 → 10.96.0.4:80``."""
    source = address_text(flow.source, flow.source_port)
    return f"{flow.protocol} {source} → {address_text(flow.destination, flow.destination_port)}"


def address_text(address: str, port: int) -> str:
    """An address with its port; a protocol without ports has 0."""
    if not port:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _within(stop: Stop, at: str) -> str:
    """Where in a stop something is done, such as in a map; empty if at the stop itself."""
    own = ("", stop.name, stop.namespace)
    is_own = stop.kind in (StopKind.ROUTING, StopKind.WIRE) or at in own or at.rpartition("/")[2] == stop.name
    return "" if is_own else f" ({at})"


def _of_operations(hops: Sequence[PricedHop], within: str) -> list[str]:
    """Operations in words; conntrack's lookup together with what it leads to."""
    found = []
    names = [one.hop.operation for one in hops]
    for number, (name, one) in enumerate(zip(names, hops, strict=True)):
        if name == "conntrack_lookup":
            is_new = names[number + 1 : number + 2] == ["conntrack_new"]
            found.append("conntrack finds no entry and makes one" if is_new else "conntrack finds the entry")
        elif name != "conntrack_new":
            found.append(_times(_WORDS.get(name, name.replace("_", " ")) + within, one.hop.items))
    return [text for text, _ in groupby(found)]


def _of_table(ruling: Ruling, hops: Sequence[PricedHop]) -> list[str]:
    """What a table said, and what else it took."""
    table = ruling.place.rpartition("/")[0]
    if not ruling.state.tested and ruling.state.verdict is None:
        return [f"{table}: no rules"]
    matches = [one.hop for one in hops if not one.hop.operation.endswith(_COUNTED_ELSEWHERE)]
    took = [_times(hop.operation.replace("_", " "), hop.items) for hop in matches]
    parts = [f"{counted(ruling.state.tested, 'rule')} tested", *took, _verdict(ruling)]
    return [f"{table}: {', '.join(parts)}"]


def _verdict(ruling: Ruling) -> str:
    """How a table's chains ended."""
    state = ruling.state
    if state.verdict is None:
        return "none decides"
    said = _said(state.verdict)
    if state.rule is None:
        return f"the policy says {said}"
    comment = f" ({state.rule.comment})" if state.rule.comment else ""
    return f"a rule of {state.chain.name}{comment} says {said}"


def _said(verdict: targets.Target) -> str:
    """A verdict in a word or two."""
    match verdict:
        case targets.DestinationNat(address, port):
            return f"DNAT to {address_text(address, port or 0)}"
        case targets.SourceNat(address):
            return f"SNAT to {address}"
        case targets.Masquerade():
            return "MASQUERADE"
        case targets.Reject():
            return "REJECT"
        case Printable():
            return verdict.save().removeprefix("-j ")
        case _:
            return type(verdict).__name__


def _times(text: str, count: int) -> str:
    return text if count == 1 else f"{text} ×{count:,}"
