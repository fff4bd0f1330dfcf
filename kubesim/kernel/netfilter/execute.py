"""Does to a packet what the chains decided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.netfilter import targets
from kubesim.kernel.netfilter.hooks import HookCall, Verdict
from kubesim.kernel.netfilter.nat import Nat
from kubesim.kernel.netfilter.recent import RecentClients
from kubesim.kernel.walk import Refusal

if TYPE_CHECKING:
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.netfilter.traversal import State
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk


def execute(walk: Walk, packet: Packet, call: HookCall, state: State, place: str) -> Verdict:
    """Take the mark over and carry the verdict out.

    Parameters
    ----------
    walk, packet, call
        The packet at its hook.
    state
        How its way through the chains ended.
    place
        Table and hook, for the reason of a drop.
    """
    packet.mark = state.mark
    walk.note_ruling(place, state)
    for name in state.noted_in:
        call.namespace.recent_clients.setdefault(name, RecentClients()).note(packet.source)
    match state.verdict:
        case targets.Drop() | targets.Reject() as verdict:
            refusal = Refusal("REJECT" if isinstance(verdict, targets.Reject) else "DROP", state.rule)
            walk.drop(_reason(state, verdict, f"{place} of {call.namespace.name}"), refusal)
            return Verdict.STOP
        case targets.DestinationNat() | targets.Redirect() if packet.connection is not None:
            address, port = destination_of(state.verdict, packet, call)
            Nat.of(call.namespace).translate_destination(packet.connection, address, port)
            if not _is_passed_on(call.namespace, packet.protocol, address, port):
                walk.decide(address, port, is_sticky=bool(state.noted_in))
        case targets.SourceNat(address) if packet.connection is not None:
            Nat.of(call.namespace).translate_source(walk, packet.connection, address, is_random_port=False)
        case targets.Masquerade(is_random) if packet.connection is not None and call.out_device is not None:
            address = call.namespace.primary_address(call.namespace.devices[call.out_device])
            Nat.of(call.namespace).translate_source(walk, packet.connection, address, is_random_port=is_random)
    return Verdict.ACCEPT


def _is_passed_on(namespace: Namespace, protocol: str, address: str, port: int) -> bool:
    """Whether a process of this host takes what is sent there, and will choose the server."""
    relay = namespace.relay
    return relay is not None and namespace.is_local(address) and relay.listener(protocol, port) is not None


def destination_of(
    target: targets.DestinationNat | targets.Redirect, packet: Packet, call: HookCall
) -> tuple[str, int]:
    """Where a target sends a packet; what it does not say stays, and a redirected packet stays here."""
    port = packet.destination_port if target.port is None else target.port
    if isinstance(target, targets.DestinationNat):
        return target.address or packet.destination, port
    device = call.namespace.devices.get(call.in_device or "")
    return "127.0.0.1" if device is None else call.namespace.primary_address(device), port


def _reason(state: State, verdict: targets.Target, place: str) -> str:
    said = "connection refused, rejected" if isinstance(verdict, targets.Reject) else "dropped"
    comment = state.rule.comment if state.rule is not None else ""
    return f"{said} by {place}" + (f": {comment}" if comment else "")
