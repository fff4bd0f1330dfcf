"""Reading the targets of iptables; those that are not modelled are kept by name."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from kubesim.kernel.netfilter.option import Option, RuleSyntaxError, number_of, value_and_mask
from kubesim.kernel.netfilter.targets import (
    Accept,
    DestinationNat,
    Drop,
    Goto,
    Jump,
    Masquerade,
    NoTrack,
    PassOn,
    Redirect,
    Reject,
    Return,
    SetMark,
    SourceNat,
    Target,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ALL_BITS = 0xFFFFFFFF

_WITHOUT_EFFECT = (
    "LOG", "NFLOG", "ULOG", "TRACE", "AUDIT", "CHECKSUM", "TCPMSS", "TOS", "DSCP", "TTL", "HL", "ECN", "CLASSIFY", "CT",
    "SECMARK", "CONNSECMARK", "CONNMARK", "SET", "RATEEST", "LED", "IDLETIMER",
)  # fmt: skip
"""They change nothing that decides where a packet goes or what it pays here, and the next rule is tested."""

_NOT_MODELLED = ("TPROXY", "QUEUE", "NFQUEUE", "SYNPROXY", "NETMAP", "TEE", "DNPT", "SNPT", "MIRROR", "CLUSTERIP")
"""They do change that; a packet is passed on as if they were not there."""


def read_target(name: str, options: Sequence[Option], *, is_goto: bool) -> Target:
    """Make a target of its options; what is no target of the kernel is a chain.

    Parameters
    ----------
    name
        Of the target or chain.
    options
        In order.
    is_goto
        Whether it stands behind ``-g``.

    Raises
    ------
    RuleSyntaxError
        If an option has a value that makes no sense.
    """
    if is_goto:
        return Goto(name)
    reader = _READERS.get(name)
    if reader is not None:
        return reader({option.name: option for option in options})
    text = " ".join(option.text for option in options)
    if name in _WITHOUT_EFFECT or name in _NOT_MODELLED:
        if name == "CT" and any(option.name == "--notrack" for option in options):
            return NoTrack()
        return PassOn(name, text, is_known=name in _WITHOUT_EFFECT)
    return PassOn(name, text, is_known=False) if options else Jump(name)


_Options = dict[str, Option]


def _reject(options: _Options) -> Target:
    option = options.get("--reject-with")
    return Reject() if option is None else Reject(option.value)


def _destination_nat(options: _Options) -> Target:
    option = options.get("--to-destination")
    if option is None:
        raise RuleSyntaxError("DNAT needs --to-destination")
    address, port = _place(option)
    rest = [one.text for one in options.values() if one is not option]
    is_plain = not rest and "-" not in option.value
    return DestinationNat(address, port, "" if is_plain else " ".join([option.value, *rest]))


def _place(option: Option) -> tuple[str, int | None]:
    """The first address and port of ``ADDRESS-ADDRESS:PORT-PORT``; IPv6 with a port has brackets."""
    text = option.value
    if text.startswith("["):
        inside, bracket, rest = text[1:].partition("]")
        if not bracket:
            raise RuleSyntaxError(f"{option.name}: a bracket is not closed")
        address, port = inside.partition("-")[0], rest.removeprefix(":")
    elif text.count(":") > 1:
        address, port = text.partition("-")[0], ""
    else:
        before, _, port = text.partition(":")
        address = before.partition("-")[0]
    try:
        address = str(ipaddress.ip_address(address)) if address else ""
    except ValueError:
        raise RuleSyntaxError(f"{option.name}: {address!r} is not an address") from None
    return address, number_of(port.partition("-")[0].partition("/")[0], option.name) if port else None


def _source_nat(options: _Options) -> Target:
    option = options.get("--to-source")
    if option is None:
        raise RuleSyntaxError("SNAT needs --to-source")
    address, _ = _place(option)
    rest = [one.text for one in options.values() if one is not option]
    return SourceNat(address, " ".join([option.value, *rest]))


def _redirect(options: _Options) -> Target:
    option = options.get("--to-ports") or options.get("--to-port")
    port = None if option is None else number_of(option.value.partition("-")[0], option.name)
    return Redirect(port, " ".join(one.text for one in options.values()))


def _masquerade(options: _Options) -> Target:
    is_random = "--random-fully" in options
    return Masquerade(is_random, " ".join(one.text for one in options.values() if one.name != "--random-fully"))


def _mark(options: _Options) -> Target:
    for option in options.values():
        value, mask = value_and_mask(option)
        match option.name:
            case "--set-xmark":
                return SetMark(value, mask)
            case "--set-mark":
                return SetMark(value, mask | value)
            case "--or-mark":
                return SetMark(value, value)
            case "--xor-mark":
                return SetMark(value, 0)
            case "--and-mark":
                return SetMark(0, ~value & _ALL_BITS)
    raise RuleSyntaxError("MARK needs to be told how to change the mark")


_READERS: dict[str, Callable[[_Options], Target]] = {
    "ACCEPT": lambda _options: Accept(),
    "DROP": lambda _options: Drop(),
    "RETURN": lambda _options: Return(),
    "REJECT": _reject,
    "DNAT": _destination_nat,
    "SNAT": _source_nat,
    "REDIRECT": _redirect,
    "MASQUERADE": _masquerade,
    "MARK": _mark,
    "NOTRACK": lambda _options: NoTrack("-j NOTRACK"),
}
