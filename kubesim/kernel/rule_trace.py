"""What the rules of one host do to one packet: every outcome with its probability.

The host is nothing but rules: a device the packet comes in by, and one that all packets for others leave through.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kubesim.errors import InputError
from kubesim.html import notes, shown, table, title
from kubesim.kernel import ip
from kubesim.kernel.address import Prefix
from kubesim.kernel.device import Device
from kubesim.kernel.namespace import Host, Namespace
from kubesim.kernel.netfilter.hooks import Hook
from kubesim.kernel.netfilter.matches import AddressType
from kubesim.kernel.packet import TRANSPORT_HEADER_BYTES, Packet
from kubesim.kernel.route import Route
from kubesim.kernel.walk import Chance, Context, Path, Walk

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

SOURCE_PORT = 40_000
MOST_OUTCOMES = 20_000
_MTU = 65_535
_LOOPBACKS = ("127.0.0.1", "::1")
_DEVICE = re.compile(r"[^\s/]{1,15}")
_UNKNOWN = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - an address of the host's that is not known
"""What stands for the host's address where none is known."""


@dataclass(frozen=True, slots=True)
class Flow:
    """The packet that is followed.

    Parameters
    ----------
    source, destination, protocol, port
        Its headers; ``port`` is the destination's.
    hook
        Where it enters: PREROUTING from outside or from a pod, OUTPUT from a process of the host.
    in_device, out_device
        The devices it comes in by and would leave through.
    """

    source: str
    destination: str
    protocol: str
    port: int
    hook: Hook = Hook.PREROUTING
    in_device: str = "eth0"
    out_device: str = "eth0"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One way it can go.

    Parameters
    ----------
    to
        ``address:port`` it is sent to in the end; ``local:port`` where that is an address of the host's that is not
        known.
    verdict
        ``ACCEPT``, ``DROP`` or ``REJECT``.
    probability
        Of this way.
    is_masqueraded
        Whether its source is translated.
    rules_tested
        Rules tested, by table and hook.
    reason
        Why it got nowhere, None if it did.
    """

    to: str
    verdict: str
    probability: float
    is_masqueraded: bool
    rules_tested: dict[str, int]
    reason: str | None

    def to_dict(self) -> dict[str, Any]:
        """What ``kubesim trace --rules … --json`` prints of it."""
        return {
            "to": self.to,
            "verdict": self.verdict,
            "probability": self.probability,
            "masquerade": self.is_masqueraded,
            "rules_tested": self.rules_tested,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """All outcomes, most likely endpoints in rule order.

    Parameters
    ----------
    outcomes
        Their probabilities add up to 1.
    is_assumed_local
        Whether the destination was taken for the host's own address because rules that are only for such addresses have
        something to do with it.
    """

    outcomes: tuple[Outcome, ...]
    is_assumed_local: bool

    def _repr_html_(self) -> str:
        columns = ("to", "probability", "verdict", "source", "rules tested")
        rows = (
            (
                one.to,
                f"{one.probability:.4g}",
                one.verdict,
                "masqueraded" if one.is_masqueraded else "kept",
                ", ".join(f"{count} {place}" for place, count in one.rules_tested.items()),
            )
            for one in self.outcomes
        )
        reasons = dict.fromkeys(f"got nowhere: {one.reason}" for one in self.outcomes if one.reason is not None)
        return shown(title("what the rules do to the packet"), table(columns, rows, ("probability",)), notes(reasons))


def trace_rules(
    flow: Flow, install: Callable[[Namespace], None], local_addresses: Collection[str] | None = None
) -> RuleTrace:
    """Follow a packet of a new connection through a host's rules.

    Parameters
    ----------
    flow
        The packet.
    install
        Puts the rules into a namespace.
    local_addresses
        The host's own addresses. If None nothing is known of them: then the loopback's are, the sender's where the
        packet starts here, and the destination where a rule for the host's own addresses would send it on or refuse it.

    Returns
    -------
    RuleTrace

    Raises
    ------
    InputError
        If an address or device is none, addresses are of different families, or there are too many outcomes.
    """
    flow = _checked(flow)
    own = [_address("local", text) for text in local_addresses or ()]
    known = {*_LOOPBACKS, *(address for address in own if _version(address) == _version(flow.source))}
    if flow.hook is Hook.OUTPUT:
        known.add(flow.source)
    found = _Tracer(flow, install, known).all_paths()
    is_assumed = False
    if local_addresses is None and flow.destination not in known:
        as_local = _Tracer(flow, install, known | {flow.destination}).all_paths()
        is_assumed = _has_more_to_say(as_local, found)
        found = as_local if is_assumed else found
    return RuleTrace(_merged(_outcome(*one) for one in found), is_assumed)


def _checked(flow: Flow) -> Flow:
    """The packet with its addresses as rules write them."""
    source, destination = _address("src", flow.source), _address("dst", flow.destination)
    if _version(source) != _version(destination):
        raise InputError(f"src {source} and dst {destination} are of different families")
    if flow.protocol not in TRANSPORT_HEADER_BYTES:
        raise InputError(f"proto: {flow.protocol!r} is none of {', '.join(TRANSPORT_HEADER_BYTES)}")
    for name, device in (("in-interface", flow.in_device), ("out-interface", flow.out_device)):
        if not _DEVICE.fullmatch(device):
            raise InputError(f"{name}: {device!r} is no name of a device: 1 to 15 signs without blanks are")
    return replace(flow, source=source, destination=destination)


def _address(name: str, text: str) -> str:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise InputError(f"{name}: {text!r} is not an address") from None
    if "%" in text:
        raise InputError(f"{name}: {text!r} has a zone: give the address alone")
    return str(found)


def _version(address: str) -> int:
    return 6 if ":" in address else 4


class _Uplink(Device):
    """Where packets for others leave; who they are for is of no matter."""

    def resolve(self, _address: str) -> str | None:
        """Everybody is there."""
        return self.mac

    def transmit(self, walk: Walk, _packet: Packet) -> None:
        """The packet has passed all rules."""
        walk.deliver(self.namespace)


class _Tracer:
    """Sends the packet again and again, each time with the luck that leads a new way."""

    def __init__(self, flow: Flow, install: Callable[[Namespace], None], local: Collection[str]) -> None:
        self._flow = flow
        self._install = install
        self._local = local

    def all_paths(self) -> list[tuple[Path, float]]:
        """Every way with its probability."""
        found: list[tuple[Path, float]] = []
        number = 0.0
        while number < 1.0:
            chance = Chance(number)
            path = self._path(chance)
            end = chance.high if chance.high > number else 1.0
            found += self._scheduled(path, number, end - number)
            number = end
            if len(found) > MOST_OUTCOMES:
                raise InputError(f"the packet has more than {MOST_OUTCOMES:,} ways through the rules")
        return found

    def _scheduled(self, path: Path, number: float, probability: float) -> list[tuple[Path, float]]:
        """The path, or where a scheduler has chosen the server, one for each that it might choose."""
        if path.decision is None or path.decision.shares is None:
            return [(path, probability)]
        shares = path.decision.shares().items()
        return [(self._path(Chance(number, server)), probability * share) for server, share in shares]

    def _path(self, chance: Chance) -> Path:
        namespace = self._namespace()
        flow = self._flow
        packet = Packet(flow.source, flow.destination, flow.protocol, SOURCE_PORT, flow.port, 0, is_opening=True)
        walk = Walk(chance)
        walk.host = namespace.host.name
        if flow.hook is Hook.OUTPUT:
            walk.defer(ip.send, walk, packet, namespace)
        else:
            walk.context = Context.SOFTIRQ
            walk.defer(ip.receive, walk, packet, namespace.devices[flow.in_device])
        return walk.run(packet)

    def _namespace(self) -> Namespace:
        """A host with these rules that has seen no packet yet."""
        flow = self._flow
        root = Host("host").root
        root.is_forwarding = True
        for name in dict.fromkeys((flow.in_device, flow.out_device)):
            if name not in root.devices:
                _Uplink(root, name, _MTU)
        uplink = root.devices[flow.out_device]
        for text in sorted(self._local):
            root.add_address(uplink if text not in _LOOPBACKS else root.loopback, text)
        if not uplink.addresses:
            for name in dict.fromkeys((flow.in_device, flow.out_device)):
                root.add_address(root.devices[name], _UNKNOWN[_version(flow.source)])
        root.routes.add(Route(Prefix("::/0" if ":" in flow.destination else "0.0.0.0/0"), uplink))
        self._install(root)
        return root


def _has_more_to_say(as_local: list[tuple[Path, float]], found: list[tuple[Path, float]]) -> bool:
    """Whether rules for the host's own addresses translate the packet, or refuse it, where others do not."""
    if any(path.decision is not None for path, _ in found):
        return False
    return any(path.decision is not None or _is_refused_as_local(path) for path, _ in as_local)


def _is_refused_as_local(path: Path) -> bool:
    rule = None if path.refusal is None else path.refusal.rule
    return rule is not None and any(isinstance(match, AddressType) for match in rule.matches)


def _merged(outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    """Outcomes that differ in nothing but the chance that led there, taken together."""
    found: dict[tuple[object, ...], Outcome] = {}
    for one in outcomes:
        key = (one.to, one.verdict, one.is_masqueraded, tuple(one.rules_tested.items()), one.reason)
        before = found.get(key)
        found[key] = one if before is None else replace(one, probability=before.probability + one.probability)
    return tuple(found.values())


def _outcome(path: Path, probability: float) -> Outcome:
    packet = path.packet
    destination = f"[{packet.destination}]" if ":" in packet.destination else packet.destination
    if packet.destination in _UNKNOWN.values():
        destination = "local"
    tested: dict[str, int] = {}
    for (_, place), count in path.rules_tested.items():
        tested[place] = tested.get(place, 0) + count
    return Outcome(
        to=f"{destination}:{packet.destination_port}",
        verdict="ACCEPT" if path.refusal is None else path.refusal.verdict,
        probability=probability,
        is_masqueraded=packet.connection is not None and packet.connection.has_source_nat,
        rules_tested=tested,
        reason=path.reason,
    )
