"""Reading the match extensions of iptables; those that are not modelled are kept by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.errors import did_you_mean
from kubesim.kernel.netfilter.matches import (
    TCP_FLAGS,
    AddressType,
    Always,
    Comment,
    ConnectionState,
    EveryNth,
    InSet,
    Mark,
    MultiPort,
    PhysicalDevice,
    PortRange,
    RecentlySeen,
    Statistic,
    TcpFlags,
    Transport,
    UnknownMatch,
)
from kubesim.kernel.netfilter.option import Option, RuleSyntaxError, number_of, value_and_mask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from kubesim.kernel.netfilter.rule import Header, Match

_SOURCE, _DESTINATION = ("--sport", "--source-port"), ("--dport", "--destination-port")
_SYN = ("FIN,SYN,RST,ACK", "SYN")
_HIGHEST_PORT = 65535

OPTIONS: dict[str, tuple[str, ...]] = {
    "comment": ("--comment",),
    "tcp": (*_SOURCE, *_DESTINATION, "--tcp-flags", "--syn", "--tcp-option"),
    "udp": (*_SOURCE, *_DESTINATION),
    "sctp": (*_SOURCE, *_DESTINATION, "--chunk-types"),
    "udplite": (*_SOURCE, *_DESTINATION),
    "dccp": (*_SOURCE, *_DESTINATION, "--dccp-types", "--dccp-option"),
    "icmp": ("--icmp-type",),
    "icmp6": ("--icmpv6-type",),
    "icmpv6": ("--icmpv6-type",),
    "multiport": ("--sports", "--source-ports", "--dports", "--destination-ports", "--ports"),
    "addrtype": ("--src-type", "--dst-type", "--limit-iface-in", "--limit-iface-out"),
    "conntrack": (
        "--ctstate", "--ctproto", "--ctorigsrc", "--ctorigdst", "--ctreplsrc", "--ctrepldst", "--ctorigsrcport",
        "--ctorigdstport", "--ctreplsrcport", "--ctrepldstport", "--ctstatus", "--ctexpire", "--ctdir",
    ),
    "state": ("--state",),
    "mark": ("--mark",),
    "statistic": ("--mode", "--probability", "--every", "--packet"),
    "recent": (
        "--name", "--set", "--rcheck", "--update", "--remove", "--seconds", "--reap", "--hitcount", "--rttl",
        "--rsource", "--rdest", "--mask",
    ),
    "set": (
        "--match-set", "--return-nomatch", "--update-counters", "--update-subcounters", "--packets-eq", "--packets-lt",
        "--packets-gt", "--bytes-eq", "--bytes-lt", "--bytes-gt",
    ),
    "physdev": (
        "--physdev-in", "--physdev-out", "--physdev-is-in", "--physdev-is-out", "--physdev-is-bridged",
    ),
    "limit": ("--limit", "--limit-burst"),
}  # fmt: skip
"""Options of the matches that are known, so that one given later than another match's finds its owner."""

LIMITS = ("limit", "hashlimit", "connlimit")
"""Matches that hold for the packets of a quiet cluster."""


def read_match(name: str, options: Sequence[Option], header: Header) -> Match:
    """Make a match of its options.

    Parameters
    ----------
    name
        Of the extension.
    options
        In order.
    header
        Of its rule.

    Raises
    ------
    RuleSyntaxError
        If an option has a value that makes no sense.
    """
    text = " ".join([f"-m {name}", *(option.text for option in options)])
    if name in LIMITS:
        return Always(name, text)
    reader = _READERS.get(name)
    found = None if reader is None else reader(name, {option.name: option for option in options})
    if found is None and name == header.protocol == "icmp":
        return Always(name, text)
    return UnknownMatch(name, text) if found is None else found


_Options = dict[str, Option]


def _comment(_name: str, options: _Options) -> Match | None:
    option = options.get("--comment")
    return None if option is None else Comment(" ".join(option.values))


def _transport(name: str, options: _Options) -> Match | None:
    flags: TcpFlags | None = None
    ports: dict[str, PortRange] = {}
    for option in options.values():
        if option.name in _SOURCE:
            ports["source"] = _ports(option.value, option)
        elif option.name in _DESTINATION:
            ports["destination"] = _ports(option.value, option)
        elif option.name in ("--syn", "--tcp-flags"):
            flags = _flags(option)
        else:
            return None
    return Transport(name, ports.get("source"), ports.get("destination"), flags)


def _flags(option: Option) -> TcpFlags:
    words = _SYN if option.name == "--syn" else option.values
    if len(words) != len(_SYN):
        raise RuleSyntaxError(f"{option.name}: flags to look at and flags that are set are needed")
    named = {"ALL": frozenset(TCP_FLAGS), "NONE": frozenset[str]()}
    mask, wanted = (named.get(word) or frozenset(word.split(",")) - {"NONE"} for word in words)
    unknown = sorted((mask | wanted) - set(TCP_FLAGS))
    if unknown:
        raise RuleSyntaxError(f"{option.name}: there is no flag {unknown[0]!r}: {did_you_mean(unknown[0], TCP_FLAGS)}")
    return TcpFlags(mask, wanted, option.is_inverted)


def _ports(text: str, option: Option) -> PortRange:
    first, colon, last = text.partition(":")
    low = _port(first, option) if first else 0
    high = low if not colon else _port(last, option) if last else _HIGHEST_PORT
    return PortRange(low, high, option.is_inverted)


def _port(text: str, option: Option) -> int:
    number = number_of(text, option.name)
    if number > _HIGHEST_PORT:
        raise RuleSyntaxError(f"{option.name}: {text} is not a port")
    return number


def _multiport(_name: str, options: _Options) -> Match | None:
    (option,) = options.values() if len(options) == 1 else (None,)
    if option is None or option.name not in OPTIONS["multiport"]:
        return None
    short = {"--source-ports": "--sports", "--destination-ports": "--dports"}.get(option.name, option.name)
    plain = Option(option.name)
    ranges = tuple(_ports(text, plain) for text in option.value.split(","))
    return MultiPort(short, ranges, option.is_inverted)


def _address_type(_name: str, options: _Options) -> Match | None:
    limits = [name for name in ("in", "out") if f"--limit-iface-{name}" in options]
    types = [option for name, option in options.items() if name in ("--src-type", "--dst-type")]
    if len(types) != 1 or len(limits) > 1:
        return None
    (option,) = types
    return AddressType(option.name == "--src-type", option.is_inverted, option.value.upper(), "".join(limits))


def _state(name: str, options: _Options) -> Match | None:
    option = options.get("--ctstate") or options.get("--state")
    if option is None or len(options) > 1:
        return None
    return ConnectionState(frozenset(option.value.upper().split(",")), option.is_inverted, name)


def _mark(_name: str, options: _Options) -> Match | None:
    option = options.get("--mark")
    return None if option is None else Mark(*value_and_mask(option), is_inverted=option.is_inverted)


def _statistic(_name: str, options: _Options) -> Match | None:
    probability, every = options.get("--probability"), options.get("--every")
    if probability is not None:
        try:
            chance = float(probability.value)
        except ValueError:
            chance = -1.0
        if not 0 <= chance <= 1:
            raise RuleSyntaxError(f"--probability: {probability.value!r} is not between 0 and 1")
        return Statistic.of(chance, is_inverted=probability.is_inverted)
    if every is None:
        return None
    if every.number < 1:
        raise RuleSyntaxError("--every: 0 is none of anything")
    start = options.get("--packet")
    return EveryNth(every.number, 0 if start is None else start.number, every.is_inverted)


def _recent(_name: str, options: _Options) -> Match | None:
    action = next((options[one] for one in ("--set", "--rcheck", "--update") if one in options), None)
    if action is None or any(one in options for one in ("--hitcount", "--rttl", "--rdest", "--remove")):
        return None
    list_name = options["--name"].value if "--name" in options else "DEFAULT"
    seconds = options["--seconds"].number if "--seconds" in options else 0
    is_set = action.name == "--set"
    return RecentlySeen(list_name, is_set, seconds, "--reap" in options, action.name, action.is_inverted)


def _set(_name: str, options: _Options) -> Match | None:
    option = options.get("--match-set")
    if option is None or len(option.values) != 2 or len(options) > 1:
        return None
    return InSet(option.values[0], tuple(option.values[1].split(",")), option.is_inverted)


def _physdev(_name: str, options: _Options) -> Match | None:
    (option,) = options.values() if len(options) == 1 else (None,)
    if option is None or option.values:
        return None
    return PhysicalDevice(option.name, option.is_inverted)


_READERS: dict[str, Callable[[str, _Options], Match | None]] = {
    "comment": _comment,
    "tcp": _transport,
    "udp": _transport,
    "sctp": _transport,
    "multiport": _multiport,
    "addrtype": _address_type,
    "conntrack": _state,
    "state": _state,
    "mark": _mark,
    "statistic": _statistic,
    "recent": _recent,
    "set": _set,
    "physdev": _physdev,
}
