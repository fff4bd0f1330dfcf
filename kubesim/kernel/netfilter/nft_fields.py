"""What nftables looks at in a packet: selectors such as ``ip daddr``, and values to hold against them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from kubesim.errors import did_you_mean
from kubesim.kernel.address import address_number
from kubesim.kernel.netfilter.nft_tokens import NftSyntaxError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from kubesim.kernel.netfilter.rule import Probe
    from kubesim.kernel.netfilter.traversal import State

Getter = Callable[["Probe", "State"], "str | int | None"]

WORDS: Mapping[str, Mapping[str, int]] = {
    "state": {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64},
    "status": {
        "expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 16, "dnat": 32, "dying": 512,
    },
    "type": {
        "unspec": 0, "unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5, "blackhole": 6,
        "unreachable": 7, "prohibit": 8,
    },
    "family": {"ipv4": 2, "ipv6": 10},
    "flags": {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128},
}  # fmt: skip
"""Words for values, and the numbers that ``nft -n`` prints in their place."""

PROTOCOLS: Mapping[int, str] = {
    1: "icmp", 2: "igmp", 4: "ipencap", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 50: "esp", 51: "ah",
    58: "ipv6-icmp", 132: "sctp", 136: "udplite",
}  # fmt: skip
_PROTOCOL_NAMES = {name: name for name in PROTOCOLS.values()} | {
    "icmpv6": "ipv6-icmp",
    "comp": "ipcomp",
    "vrrp": "vrrp",
}
_HIGHEST = {"port": 0xFFFF, "mark": 0xFFFFFFFF, "number": 0xFFFFFFFF}
_NUMBER = re.compile(r"0x[0-9A-Fa-f]{1,8}|[1-9]\d{0,9}|0")
_NAME = re.compile(r"[A-Za-z][\w.+/-]*")
_ADDRESS_CHARACTERS = re.compile(r"[0-9A-Fa-f.:]+")


FLAG_KINDS = ("status", "flags")
"""Kinds of which a packet may have several values at once."""


class UnmodelledError(Exception):
    """Something that nft knows and the walk does not."""


class Interval(NamedTuple):
    """Values from one to another."""

    first: int
    last: int


Value = str | Interval
"""What one part of an element or comparison is: a single value as text, or many."""


@dataclass(frozen=True, slots=True)
class Field:
    """A selector.

    Parameters
    ----------
    name
        As nft prints it.
    kind
        What its values are: ``address``, ``protocol``, ``port``, ``mark``, ``state``, ``status``, ``device``, ``type``,
        ``family`` or ``flags``.
    get
        Its value for a packet; None where the packet has none, so that nothing matches.
    """

    name: str
    kind: str
    get: Getter


def _is_of(family: str, address: str) -> bool:
    return (":" in address) is (family == "ip6")


def _address(family: str, name: str) -> Getter:
    def get(probe: Probe, _state: State) -> str | None:
        address: str = getattr(probe.packet, name)
        return address if _is_of(family, address) else None

    return get


def _port(protocol: str | None, name: str) -> Getter:
    def get(probe: Probe, _state: State) -> int | None:
        packet = probe.packet
        return getattr(packet, name) if protocol is None or packet.protocol == protocol else None

    return get


def _address_type(name: str) -> Getter:
    def get(probe: Probe, _state: State) -> str:
        return "local" if probe.namespace.is_local(getattr(probe.packet, name)) else "unicast"

    return get


def _protocol(probe: Probe, _state: State) -> str:
    return probe.packet.protocol


def _mark(_probe: Probe, state: State) -> int:
    return state.mark


def _ct_state(probe: Probe, _state: State) -> str:
    return probe.packet.state.lower()


def _ct_status(probe: Probe, _state: State) -> str:
    connection = probe.packet.connection
    if connection is None:
        return ""
    flags = {
        "seen-reply": connection.has_reply,
        "confirmed": connection.is_confirmed,
        "snat": connection.has_source_nat,
        "dnat": connection.has_destination_nat,
    }
    return ",".join(name for name, is_set in flags.items() if is_set)


def _tcp_flags(probe: Probe, _state: State) -> str | None:
    packet = probe.packet
    if packet.protocol != "tcp":
        return None
    return "syn" if packet.is_opening else "ack"


def _in_device(probe: Probe, _state: State) -> str | None:
    return probe.in_device


def _out_device(probe: Probe, _state: State) -> str | None:
    return probe.out_device


def _family(probe: Probe, _state: State) -> str:
    return "ipv6" if ":" in probe.packet.destination else "ipv4"


def _fields() -> dict[tuple[str, ...], Field]:
    found = [
        Field("meta l4proto", "protocol", _protocol),
        Field("ip protocol", "protocol", _protocol),
        Field("ip6 nexthdr", "protocol", _protocol),
        Field("meta mark", "mark", _mark),
        Field("meta nfproto", "family", _family),
        Field("ct state", "state", _ct_state),
        Field("ct status", "status", _ct_status),
        Field("tcp flags", "flags", _tcp_flags),
        Field("fib saddr type", "type", _address_type("source")),
        Field("fib daddr type", "type", _address_type("destination")),
    ]
    for family in ("ip", "ip6"):
        found.append(Field(f"{family} saddr", "address", _address(family, "source")))
        found.append(Field(f"{family} daddr", "address", _address(family, "destination")))
    for protocol in ("th", "tcp", "udp", "sctp", "udplite", "dccp"):
        only = None if protocol == "th" else protocol
        found.append(Field(f"{protocol} sport", "port", _port(only, "source_port")))
        found.append(Field(f"{protocol} dport", "port", _port(only, "destination_port")))
    for word, get in (("iif", _in_device), ("iifname", _in_device), ("oif", _out_device), ("oifname", _out_device)):
        found.append(Field(word, "device", get))
    return {tuple(field.name.split()): field for field in found}


FIELDS = _fields()
"""Selectors by their words; ``mark`` and ``meta iif`` are other ways to write some of them."""

KINDS_OF_TYPES = {
    "ipv4_addr": "address", "ipv6_addr": "address", "inet_proto": "protocol", "inet_service": "port", "mark": "mark",
    "ifname": "device", "iface_index": "device", "ct_state": "state", "ct_status": "status", "fib_addrtype": "type",
    "nf_proto": "family", "tcp_flag": "flags",
}  # fmt: skip
"""What values of a set's declared types are."""


def value_of(kind: str, text: str) -> Value:
    """Read a value.

    Parameters
    ----------
    kind
        Of the field, see :class:`Field`.
    text
        As nft has it: one value, a prefix, or a range.

    Raises
    ------
    NftSyntaxError
        If it is no such value.
    UnmodelledError
        If it is a name that stands for one, such as that of a port.
    """
    reader = _READERS.get(kind)
    return text if reader is None else reader(kind, text)


def _read_address(_kind: str, text: str) -> Value:
    first, dash, last = text.partition("-")
    try:
        if not dash:
            return _address_or_prefix(text)
        low, high = address_number(first), address_number(last)
    except ValueError:
        if _NAME.fullmatch(text) and not _ADDRESS_CHARACTERS.fullmatch(text):
            raise UnmodelledError(text) from None
        raise NftSyntaxError(f"{text!r} is not an address or range") from None
    return _interval(low, high, text)


def _address_or_prefix(text: str) -> Value:
    if "/" not in text:
        return str(ipaddress.ip_address(text))
    network = ipaddress.ip_network(text, strict=False)
    if network.prefixlen == network.max_prefixlen:
        return str(network.network_address)
    return Interval(address_number(str(network[0])), address_number(str(network[-1])))


def _read_protocol(_kind: str, text: str) -> Value:
    if text.isdecimal():
        return PROTOCOLS.get(int(text), text)
    found = _PROTOCOL_NAMES.get(text)
    if found is None:
        raise NftSyntaxError(f"{text!r} is not a protocol: {did_you_mean(text, _PROTOCOL_NAMES)}")
    return found


def _read_number(kind: str, text: str) -> Value:
    first, dash, last = text.partition("-")
    low = number_of(first, kind)
    return _interval(low, number_of(last, kind), text) if dash else str(low)


def number_of(text: str, kind: str = "number") -> int:
    """A number, decimal or with 0x.

    Raises
    ------
    NftSyntaxError
        If it is none, or too large.
    UnmodelledError
        If it is a name.
    """
    try:
        number = int(text, 16) if text[:2].lower() == "0x" else int(text)
    except ValueError:
        if _NAME.fullmatch(text):
            raise UnmodelledError(text) from None
        raise NftSyntaxError(f"{text!r} is not a {kind}") from None
    if not 0 <= number <= _HIGHEST.get(kind, 0xFFFFFFFF):
        raise NftSyntaxError(f"{text!r} is not a {kind}: it is out of range")
    return number


def _interval(first: int, last: int, text: str) -> Interval:
    if first > last:
        raise NftSyntaxError(f"range {text!r} ends before it begins")
    return Interval(first, last)


def _read_word(kind: str, text: str) -> Value:
    known = WORDS[kind]
    number = int(text, 0) if _NUMBER.fullmatch(text) else None
    if number is not None and number in known.values():
        return next(word for word, value in known.items() if value == number)
    if text not in known:
        raise NftSyntaxError(f"{text!r} is not a {kind}: {did_you_mean(text, known)}")
    return text


_READERS: Mapping[str, Callable[[str, str], Value]] = {
    "address": _read_address,
    "protocol": _read_protocol,
    "port": _read_number,
    "mark": _read_number,
    "number": _read_number,
    "state": _read_word,
    "status": _read_word,
    "type": _read_word,
    "family": _read_word,
    "flags": _read_word,
}


def flags_of(kind: str, text: str) -> frozenset[str]:
    """The flags that a word or a number stands for.

    Raises
    ------
    NftSyntaxError
        If it is neither.
    """
    if _NUMBER.fullmatch(text):
        number = int(text, 0)
        return frozenset(word for word, bit in WORDS[kind].items() if number & bit)
    return frozenset((str(_read_word(kind, text)),))


def is_in(value: str, kind: str, wanted: Value) -> bool:
    """Whether a packet's value is what is wanted; flags are, if one of them is set."""
    if isinstance(wanted, Interval):
        number = address_number(value) if kind == "address" else int(value)
        return wanted.first <= number <= wanted.last
    if kind == "device" and wanted.endswith("*"):
        return value.startswith(wanted[:-1])
    if kind in FLAG_KINDS:
        return wanted in value.split(",")
    return value == wanted


def key_of(fields: Sequence[Field], probe: Probe, state: State) -> tuple[str, ...] | None:
    """A packet's values of several fields; None if it lacks one."""
    values = [field.get(probe, state) for field in fields]
    return None if None in values else tuple(map(str, values))
