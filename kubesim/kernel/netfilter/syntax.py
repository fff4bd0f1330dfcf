"""Reading one rule as iptables takes and prints it: ``-A CHAIN -s … -m … -j …``."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import NamedTuple

from kubesim.kernel.address import Prefix
from kubesim.kernel.netfilter.match_syntax import OPTIONS, read_match
from kubesim.kernel.netfilter.matches import RecentlySeen, in_quotes
from kubesim.kernel.netfilter.option import Option, RuleSyntaxError
from kubesim.kernel.netfilter.rule import ANY, Header, Match, Rule
from kubesim.kernel.netfilter.target_syntax import read_target
from kubesim.kernel.netfilter.targets import Reject, Target

_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_ESCAPE = re.compile(r"\\(.)")
_COUNTERS = re.compile(r"\[\d+:\d+\]")

_HEADER = {
    "-s": "source", "--source": "source", "--src": "source",
    "-d": "destination", "--destination": "destination", "--dst": "destination",
    "-i": "in_device", "--in-interface": "in_device",
    "-o": "out_device", "--out-interface": "out_device",
    "-p": "protocol", "--protocol": "protocol", "--proto": "protocol",
}  # fmt: skip
_PROTOCOLS = {"6": "tcp", "17": "udp", "132": "sctp", "1": "icmp", "47": "gre", "50": "esp", "51": "ah", "58": "icmpv6",
              "ipv6-icmp": "icmpv6", "4": "ipencap", "136": "udplite"}  # fmt: skip
_SAVED_PROTOCOLS = {"icmpv6": "ipv6-icmp"}


class Token(NamedTuple):
    """A word of a rule, and whether it stood in quotes."""

    text: str
    is_quoted: bool = False

    @property
    def written(self) -> str:
        """The word as it stood there."""
        return in_quotes(self.text) if self.is_quoted else self.text

    @property
    def is_option(self) -> bool:
        """Whether it begins an option."""
        return not self.is_quoted and len(self.text) > 1 and self.text[0] == "-" and not self.text[1].isdigit()


class ParsedRule(NamedTuple):
    """A rule and the chain it is for."""

    chain: str
    rule: Rule


def tokens_of(line: str) -> list[Token]:
    """The words of a line.

    Raises
    ------
    RuleSyntaxError
        If a quote is not closed.
    """
    found = []
    for match in _TOKEN.finditer(line):
        inside, word = match.groups()
        if word is None:
            found.append(Token(_ESCAPE.sub(r"\1", inside), is_quoted=True))
        elif word.startswith('"'):
            raise RuleSyntaxError("a quote is not closed")
        else:
            found.append(Token(word))
    return found


@dataclass
class _Extension:
    """A match or target with the options that were given for it."""

    name: str
    options: list[Option] = field(default_factory=list)


class _Reader:
    """Sorts the options of a rule into header, matches and target."""

    def __init__(self) -> None:
        self.header: dict[str, object] = {}
        self.matches: list[_Extension] = []
        self.target: _Extension | None = None
        self.is_goto = False
        self._current: _Extension | None = None

    def take(self, option: Option) -> None:
        """Put one option where it belongs."""
        name = option.name
        if name in _HEADER:
            self._take_header(_HEADER[name], option)
        elif name in ("-f", "--fragment"):
            self.header["is_fragment"] = not option.is_inverted
        elif name in ("-m", "--match"):
            self._current = _Extension(option.value)
            self.matches.append(self._current)
        elif name in ("-j", "--jump", "-g", "--goto"):
            self.target = self._current = _Extension(option.value)
            self.is_goto = name in ("-g", "--goto")
        elif name not in ("-c", "--set-counters", "-4", "-6", "--ipv4", "--ipv6"):
            self._owner(name).options.append(option)

    def _owner(self, name: str) -> _Extension:
        """The extension an option is of: the last one that knows it, or the protocol's own."""
        current = self._current
        if current is not None and (current.name not in OPTIONS or name in OPTIONS[current.name]):
            return current
        for extension in reversed(self.matches):
            if name in OPTIONS.get(extension.name, ()):
                return extension
        protocol = str(self.header.get("protocol", ""))
        if name in OPTIONS.get(protocol, ()):
            self.matches.append(_Extension(protocol))
            return self.matches[-1]
        if self.target is not None:
            return self.target
        if current is not None:
            return current
        raise RuleSyntaxError(f"{name} belongs to no match or target")

    def _take_header(self, name: str, option: Option) -> None:
        value: object = option.value
        if name == "protocol":
            value = _PROTOCOLS.get(option.value.lower(), option.value.lower())
            if value in ("all", "0"):
                return
        elif name in ("source", "destination"):
            prefix = _prefix(option.value)
            if prefix.length == 0 and not option.is_inverted:
                return
            value = prefix
        elif value == "+":
            return
        self.header[name] = value
        if option.is_inverted:
            self.header[f"not_{name}"] = True


def parse_rule(line: str, *, is_ipv6: bool = False) -> ParsedRule:
    """Read one rule.

    Parameters
    ----------
    line
        ``-A CHAIN …``, with packet counters in front or without.
    is_ipv6
        Whether it is one of ip6tables, whose defaults differ.

    Raises
    ------
    RuleSyntaxError
        If it is no rule.
    """
    tokens = tokens_of(line)
    if tokens and _COUNTERS.fullmatch(tokens[0].text):
        tokens = tokens[1:]
    if len(tokens) < 2 or tokens[0].text not in ("-A", "--append") or tokens[1].is_option:
        raise RuleSyntaxError("a rule begins with -A CHAIN")
    reader = _Reader()
    for option in _options(tokens[2:]):
        reader.take(option)
    header = Header(**reader.header) if reader.header else ANY  # type: ignore[arg-type]
    matches: tuple[Match, ...] = tuple(read_match(one.name, one.options, header) for one in reader.matches)
    target = None
    if reader.target is not None:
        target = read_target(reader.target.name, reader.target.options, is_goto=reader.is_goto)
    if is_ipv6:
        _set_defaults_of_ipv6(matches, target)
    return ParsedRule(tokens[1].text, Rule(target, header, matches))


def _set_defaults_of_ipv6(matches: tuple[Match, ...], target: Target | None) -> None:
    for match in matches:
        if isinstance(match, RecentlySeen):
            match.mask = str(ipaddress.IPv6Address(2**128 - 1))
    if isinstance(target, Reject) and target.reject_with == Reject().reject_with:
        target.reject_with = "icmp6-port-unreachable"


def _options(tokens: list[Token]) -> list[Option]:
    """Options with their values; a value is everything up to the next option."""
    found: list[Option] = []
    is_inverted = False
    for token in tokens:
        if token.text == "!" and not token.is_quoted:
            is_inverted = True
        elif token.is_option:
            found.append(Option(token.text, is_inverted))
            is_inverted = False
        elif not found:
            raise RuleSyntaxError(f"{token.text!r} stands where an option should")
        else:
            last = found[-1]
            inverted, values = last.is_inverted or is_inverted, (*last.values, token.text)
            found[-1] = Option(last.name, inverted, values, (*last.written, token.written))
            is_inverted = False
    if is_inverted:
        raise RuleSyntaxError("'!' stands before nothing")
    return found


def _prefix(text: str) -> Prefix:
    """An address or range."""
    try:
        prefix = Prefix(text if "/" in text else str(ipaddress.ip_address(text)))
    except ValueError:
        raise RuleSyntaxError(f"{text!r} is not an address or range") from None
    return prefix if prefix.host is None else Prefix(prefix.host)


class RuleText:
    """A rule as text, read when a packet first has to be held against it.

    Parameters
    ----------
    line
        The rule.
    destination
        The only address whose packets it can match, None if there is no such address.
    is_ipv6
        Whether it is one of ip6tables.
    """

    __slots__ = ("_is_ipv6", "_rule", "destination", "line")

    def __init__(self, line: str, destination: str | None = None, *, is_ipv6: bool = False) -> None:
        self.line = line
        self.destination = destination
        self._is_ipv6 = is_ipv6
        self._rule: Rule | None = None

    @property
    def rule(self) -> Rule:
        """The rule."""
        if self._rule is None:
            self._rule = parse_rule(self.line, is_ipv6=self._is_ipv6).rule
        return self._rule
