"""Reading one rule of nftables: ``ip daddr 10.0.0.1 tcp dport 80 jump CHAIN comment "…"``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.errors import did_you_mean
from kubesim.kernel.netfilter.nft_expressions import BIT_OPERATORS, ExpressionReader, SetFinder, read_fields
from kubesim.kernel.netfilter.nft_fields import UnmodelledError, number_of, value_of
from kubesim.kernel.netfilter.nft_matches import MarkChange, Unmodelled, Untrack, UpdateSet
from kubesim.kernel.netfilter.nft_tokens import Cursor, NftSyntaxError, Token, tokens_of
from kubesim.kernel.netfilter.nft_verdicts import VERDICTS, read_verdict
from kubesim.kernel.netfilter.rule import Rule
from kubesim.kernel.netfilter.targets import DestinationNat, Masquerade, Redirect, Reject, SourceNat, Target

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kubesim.kernel.netfilter.rule import Match

_NAT_OPTIONS = ("random", "fully-random", "persistent")
_STATEMENTS = (
    "counter", "log", "limit", "quota", "notrack", "update", "add", "delete", "queue", "flow", "dup", "fwd", "tproxy",
    "synproxy", "meter", "last", "secmark",
)  # fmt: skip
_SELECTORS = (
    "ip", "ip6", "tcp", "udp", "sctp", "th", "udplite", "dccp", "icmp", "icmpv6", "igmp", "ether", "vlan", "arp", "esp",
    "ah", "comp", "meta", "mark", "iif", "iifname", "iiftype", "iifkind", "iifgroup", "oif", "oifname", "oiftype",
    "oifkind", "oifgroup", "ibrname", "obrname", "ibriport", "obriport", "skuid", "skgid", "nftrace", "rtclassid",
    "pkttype", "cpu", "cgroup", "nfproto", "l4proto", "protocol", "priority", "length", "random", "ipsec", "time",
    "day", "hour", "ct", "fib", "rt", "osf", "socket", "tunnel", "numgen", "jhash", "symhash", "hbh", "frag", "dst",
    "mh", "srh", "exthdr", "gre", "gretap", "geneve", "vxlan", "inner", "xt", "set",
)  # fmt: skip
"""Words that nft's expressions begin with (src/parser_bison.y of nftables 1.1)."""

_TERMINAL = (*VERDICTS, "reject", "dnat", "snat", "masquerade", "redirect")
_STARTERS = frozenset((*_TERMINAL, *_STATEMENTS, *_SELECTORS, "comment"))
_AFTER_VALUES = frozenset((*_TERMINAL, *_STATEMENTS, "comment"))


def parse_nft_rule(text: str, find_set: SetFinder = lambda _name: None) -> Rule:
    """Read a rule.

    Parameters
    ----------
    text
        What stands behind ``add rule TABLE CHAIN``.
    find_set
        Finds the table's sets.

    Raises
    ------
    NftSyntaxError
        If it is no rule.
    """
    return read_rule(Cursor(tokens_of(text)), find_set)


def read_rule(cursor: Cursor, find_set: SetFinder) -> Rule:
    """Read a rule from its words; see :func:`parse_nft_rule`."""
    return _RuleReader(cursor, find_set).read()


class _RuleReader:
    """Sorts the words of a rule into matches, target and comment."""

    def __init__(self, cursor: Cursor, find_set: SetFinder) -> None:
        self._cursor = cursor
        self._find_set = find_set
        self._matches: list[Match] = []

    def read(self) -> Rule:
        """Read all words."""
        cursor = self._cursor
        target: Target | None = None
        if cursor.has_ended():
            raise NftSyntaxError("a rule is empty")
        while target is None and not cursor.has_ended() and not cursor.is_next("comment"):
            target = self._take()
        note = cursor.word("a comment") if cursor.take_if("comment") else ""
        if not cursor.has_ended():
            token = cursor.peek()
            place = "comment" if target is None else "verdict"
            raise NftSyntaxError(f"{token.text!r} stands behind the {place}", token.line)
        return Rule(target, matches=tuple(self._matches), note=note)

    def _take(self) -> Target | None:
        """Take an expression or statement; the target, if it is one."""
        cursor, token = self._cursor, self._cursor.peek()
        if token.is_sign(*VERDICTS):
            return read_verdict(cursor)
        if token.is_sign("dnat", "snat"):
            return self._address_translation()
        if not token.is_quoted and token.text in _TARGETS:
            cursor.take("a target")
            return _TARGETS[token.text](cursor)
        if token.is_sign(*_STATEMENTS):
            self._statement()
            return None
        if token.is_sign(*_SELECTORS) or (not token.is_quoted and token.text.startswith("@")):
            return self._expression()
        hint = did_you_mean(token.text, _STARTERS)
        raise NftSyntaxError(f"{token.text!r} begins no expression: {hint}", token.line)

    def _address_translation(self) -> Target | None:
        """``dnat [ip] to ADDRESS[:PORT] [options]`` and ``snat``; what is not modelled is kept by name."""
        cursor, start = self._cursor, self._cursor.position
        word = cursor.take("a target").text
        cursor.take_if("ip", "ip6")
        if cursor.take_if("addr"):
            cursor.expect(".")
            cursor.expect("port")
        cursor.expect("to")
        is_looked_up = cursor.is_next(*_SELECTORS)
        try:
            if is_looked_up and word == "dnat":
                target = ExpressionReader(cursor, self._find_set).read_destination()
                _nat_options(cursor)
            else:
                target = _nat_target(cursor, word)
            if cursor.has_ended() or cursor.is_next("comment"):
                return target
        except UnmodelledError:
            pass
        cursor.position = start
        words = []
        while not cursor.has_ended() and not cursor.is_next("comment"):
            words.append(_written(cursor.take("a word")))
        self._matches.append(Unmodelled(f"{word} to {'a map' if is_looked_up else words[-1]}", " ".join(words)))
        return None

    def _expression(self) -> Target | None:
        """Take an expression; one that is not modelled is kept by name."""
        start = self._cursor.position
        try:
            if self._sets_the_mark():
                return None
            reader = ExpressionReader(self._cursor, self._find_set)
            match = reader.read()
        except UnmodelledError:
            self._cursor.position = start
            self._unmodelled()
            return None
        if match is not None:
            self._matches.append(match)
        return reader.target

    def _sets_the_mark(self) -> bool:
        """Take ``meta mark set …`` if it comes; whether it did."""
        cursor, start = self._cursor, self._cursor.position
        if not cursor.is_next("mark", "meta"):
            return False
        fields = read_fields(cursor)
        if not cursor.take_if("set"):
            cursor.position = start
            return False
        if fields[0].kind != "mark":
            raise UnmodelledError(fields[0].name)
        self._matches.append(self._change_of_mark())
        return True

    def _change_of_mark(self) -> MarkChange:
        cursor = self._cursor
        if cursor.is_next("mark", "meta"):
            if read_fields(cursor)[0].kind != "mark":
                raise UnmodelledError("meta")
            change = MarkChange()
        elif cursor.peek().text in _STARTERS:
            raise UnmodelledError("meta mark")
        else:
            change = MarkChange(0, number_of(cursor.word("a number"), "mark"))
        while cursor.is_next(*BIT_OPERATORS):
            sign = cursor.take("an operator").text
            change = change.then(sign, number_of(cursor.word("a number"), "mark"))
        return change

    def _statement(self) -> None:
        cursor, start = self._cursor, self._cursor.position
        word = cursor.word("a statement")
        if word == "counter":
            self._counter()
        elif word == "notrack":
            self._matches.append(Untrack())
        elif word in ("update", "add") and self._updates_sources():
            return
        else:
            cursor.position = start
            self._unmodelled()

    def _counter(self) -> None:
        cursor = self._cursor
        if cursor.take_if("name"):
            cursor.word("a name")
            return
        while cursor.take_if("packets", "bytes"):
            token = cursor.take("a number")
            if not token.text.isdecimal():
                raise NftSyntaxError(f"{token.text!r} is not a number", token.line)

    def _updates_sources(self) -> bool:
        """Take ``@SET { ip saddr }`` if it comes; whether it did."""
        cursor = self._cursor
        token = cursor.take("a set")
        if not token.text.startswith("@"):
            raise NftSyntaxError(f"{token.text!r} stands where a set such as @name should", token.line)
        name = token.text[1:] or cursor.word("the name of a set")
        if self._find_set(name) is None:
            raise NftSyntaxError(f"there is no set {name!r}", token.line)
        cursor.expect("{")
        words = [one.text for one in cursor.block()]
        if words[:2] not in (["ip", "saddr"], ["ip6", "saddr"]) or (words[2:] and words[2] != "timeout"):
            return False
        self._matches.append(UpdateSet(name))
        return True

    def _unmodelled(self) -> None:
        """Keep the words up to the next expression or statement."""
        cursor = self._cursor
        named = _words_of_name(cursor)
        words, depth, stops = [_written(cursor.take("an expression"))], 0, _STARTERS
        while not cursor.has_ended():
            token = cursor.peek()
            is_stop = not token.is_quoted and token.text in stops and len(words) > named and words[-1] != "."
            if is_stop and not depth:
                break
            if token.is_sign("set", "vmap", "map", "with", "to"):
                stops = _AFTER_VALUES
            depth += token.is_sign("{", "(") - token.is_sign("}", ")")
            words.append(_written(cursor.take("a word")))
        is_statement = words[0] in _STATEMENTS or "set" in words
        holds = is_statement and "over" not in words
        self._matches.append(Unmodelled(" ".join(words[:named]), " ".join(words), holds))


def _words_of_name(cursor: Cursor) -> int:
    """How many words name the expression that comes."""
    first = cursor.peek().text
    if first in _STATEMENTS or first.startswith("@"):
        return 1
    count = 2
    if first == "fib":
        count = 3
        while cursor.peek(count - 1).is_sign("."):
            count += 2
    return count


def _written(token: Token) -> str:
    return f'"{token.text}"' if token.is_quoted else token.text


def _reject(cursor: Cursor) -> Target:
    if not cursor.take_if("with"):
        return Reject()
    words = [cursor.word("a reason")]
    while not cursor.has_ended() and not cursor.is_next("comment"):
        words.append(cursor.word("a reason"))
    return Reject("-".join(word for word in words if word != "type"))


def _nat_target(cursor: Cursor, word: str) -> Target:
    """``ADDRESS[:PORT] [options]``: the first address and port, and all of it as text."""
    token = cursor.peek()
    text = cursor.word("an address")
    if cursor.take_if(":"):
        text += f":{cursor.word('a port')}"
    address, port = _split_address(text, token.line)
    _nat_options(cursor)
    return DestinationNat(address, port, text) if word == "dnat" else SourceNat(address, text)


def _nat_options(cursor: Cursor) -> None:
    while cursor.is_next(*_NAT_OPTIONS, ","):
        cursor.take("an option")


def _split_address(text: str, line: int) -> tuple[str, int | None]:
    """The first address and port of ``10.0.0.1-10.0.0.9:80-90`` or ``[fd00::1]:80``."""
    if text.startswith("["):
        address, _, port = text[1:].partition("]")
        port = port.removeprefix(":")
    elif text.count(":") > 1:
        address, port = text, ""
    else:
        address, _, port = text.partition(":")
    address = address.partition("-")[0]
    try:
        number = number_of(port.partition("-")[0], "port") if port else None
        found = _checked_address(address) if address else ""
    except NftSyntaxError as error:
        raise NftSyntaxError(str(error), line) from None
    return found, number


def _checked_address(text: str) -> str:
    found = value_of("address", text)
    if not isinstance(found, str):
        raise UnmodelledError(text)
    return found


def _masquerade(cursor: Cursor) -> Target:
    words = _nat_words(cursor)
    return Masquerade(is_random=any(word in ("random", "fully-random") for word in words), text=" ".join(words))


def _redirect(cursor: Cursor) -> Target:
    words = _nat_words(cursor)
    port = words[words.index("to") + 1].lstrip(":").partition("-")[0] if "to" in words[:-1] else ""
    return Redirect(int(port) if port.isdecimal() and int(port) <= 0xFFFF else None, " ".join(words))


def _nat_words(cursor: Cursor) -> list[str]:
    """``[to :PORT] [random,persistent]``, word by word."""
    words: list[str] = []
    while not cursor.has_ended() and not cursor.is_next("comment"):
        token = cursor.take("an option")
        if token.is_sign("to"):
            cursor.take_if(":")
            words += ["to", cursor.word("a port")]
        elif token.is_sign(*_NAT_OPTIONS):
            words.append(token.text)
        elif not token.is_sign(","):
            raise NftSyntaxError(f"{token.text!r} is no option of a translation", token.line)
    return words


_TARGETS: Mapping[str, Callable[[Cursor], Target]] = {
    "reject": _reject,
    "masquerade": _masquerade,
    "redirect": _redirect,
}
