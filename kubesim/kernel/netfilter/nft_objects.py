"""Reading the objects of nftables: tables, chains, sets, maps and elements; rules stay words until all are known."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from kubesim.errors import did_you_mean
from kubesim.kernel.netfilter.hooks import Hook
from kubesim.kernel.netfilter.nft_expressions import Element, ValueReader, read_destination, read_elements, read_fields
from kubesim.kernel.netfilter.nft_fields import KINDS_OF_TYPES, UnmodelledError
from kubesim.kernel.netfilter.nft_sets import NftSet
from kubesim.kernel.netfilter.nft_tokens import Cursor, NftSyntaxError, Token, statements, tokens_of
from kubesim.kernel.netfilter.nft_verdicts import read_verdict
from kubesim.kernel.netfilter.targets import Goto, Jump

if TYPE_CHECKING:
    from collections.abc import Iterable

FAMILIES = ("ip", "ip6", "inet", "arp", "bridge", "netdev")
_PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "out": 100, "srcnat": 100}
_HOOKS = {hook.lower(): hook for hook in Hook} | {"ingress": None, "egress": None}
_KINDS = ("filter", "nat", "route")
_POLICIES = ("accept", "drop")
_OTHER_OBJECTS = ("counter", "quota", "limit", "ct", "flowtable", "secmark", "synproxy", "tunnel")
_SUM = re.compile(r"([a-z]+)?\s*([+-]?)\s*(\d+)?")


@dataclass(slots=True)
class NftBase:
    """How a base chain is hooked in; ``hook`` is None for one below the IP layer."""

    kind: str
    hook: Hook | None
    priority: int
    policy: str = "ACCEPT"


@dataclass(slots=True)
class NftChainText:
    """A chain with its rules as words."""

    base: NftBase | None = None
    comment: str = ""
    rules: list[list[Token]] = field(default_factory=list)


@dataclass(slots=True)
class NftSetText:
    """A set or map, the line it is declared in, how its values are read, and the lines that first name a chain."""

    members: NftSet
    line: int
    read_value: ValueReader | None = None
    lines_of_chains: dict[str, int | None] = field(default_factory=dict)


@dataclass(slots=True)
class NftTableText:
    """A table's objects."""

    family: str
    name: str
    chains: dict[str, NftChainText] = field(default_factory=dict)
    sets: dict[str, NftSetText] = field(default_factory=dict)


_Object = TypeVar("_Object")
Tables = dict[tuple[str, str], NftTableText]


def read_objects(text: str) -> Tables:
    """Read tables and what is in them.

    Raises
    ------
    NftSyntaxError
        If a line makes no sense.
    """
    reader = _ObjectReader()
    for words in statements(tokens_of(text)):
        reader.take(Cursor(words), words)
    return reader.tables


class _ObjectReader:
    """Applies commands, and the blocks that ``nft list`` prints, one after the other."""

    def __init__(self) -> None:
        self.tables: Tables = {}

    def take(self, cursor: Cursor, words: list[Token]) -> None:
        """Apply one command."""
        token = cursor.take("a command")
        command = "" if token.is_quoted else token.text
        if command == "table":
            self._table(cursor, words)
        elif command in ("add", "create", "insert"):
            self._add(cursor, words, is_first=command == "insert")
        elif command in ("delete", "destroy", "flush"):
            self._remove(cursor, command)
        else:
            known = ("table", "add", "create", "insert", "delete", "destroy", "flush")
            raise NftSyntaxError(f"{token.text!r} is no command of nft: {did_you_mean(token.text, known)}", token.line)

    def _add(self, cursor: Cursor, words: list[Token], *, is_first: bool) -> None:
        token = cursor.take("what to add")
        if token.is_sign("table"):
            self._table(cursor, words)
        elif token.is_sign("rule", *FAMILIES):
            if token.text != "rule":  # which may be left out
                cursor.position -= 1
            table = self._existing(cursor)
            chain = _existing(table.chains, cursor, "chain")
            while cursor.take_if("handle", "position", "index"):
                cursor.word("a number")
            rule = _some(cursor.rest(), "a rule", token.line)
            chain.rules.insert(0 if is_first else len(chain.rules), rule)
        elif token.is_sign("element"):
            table = self._existing(cursor)
            members = _existing(table.sets, cursor, "set")
            cursor.expect("{")
            _add_elements(members, cursor.block())
            _end(cursor)
        elif token.is_sign("chain", "set", "map"):
            table = self._existing(cursor)
            _declare(table, token, cursor, words)
        elif not token.is_sign(*_OTHER_OBJECTS):
            known = ("table", "chain", "rule", "set", "map", "element")
            raise NftSyntaxError(f"{token.text!r} cannot be added: {did_you_mean(token.text, known)}", token.line)

    def _table(self, cursor: Cursor, words: list[Token]) -> None:
        family, name = _name_of_table(cursor)
        table = self.tables.setdefault((family, name), NftTableText(family, name))
        for inner in _block(cursor, words):
            token = inner[0]
            if token.is_sign("chain", "set", "map"):
                within = Cursor(inner)
                within.take("an object")
                _declare(table, token, within, inner)
            elif not token.is_sign("comment", "flags", *_OTHER_OBJECTS):
                known = ("chain", "set", "map", "comment", "flags")
                message = f"{token.text!r} is nothing that a table has: {did_you_mean(token.text, known)}"
                raise NftSyntaxError(message, token.line)

    def _existing(self, cursor: Cursor) -> NftTableText:
        line = cursor.line
        family, name = _name_of_table(cursor)
        found = self.tables.get((family, name))
        if found is None:
            known = [" ".join(key) for key in self.tables]
            hint = did_you_mean(f"{family} {name}", known)
            raise NftSyntaxError(f"there is no table {family} {name}: {hint}", line)
        return found

    def _remove(self, cursor: Cursor, command: str) -> None:
        token = cursor.take(f"what to {command}")
        if token.is_sign("ruleset"):
            self.tables.clear()
        elif token.is_sign("table"):
            self._remove_table(cursor, command)
        elif token.is_sign("chain", "set", "map"):
            table = self._existing(cursor)
            objects: dict[str, NftChainText] | dict[str, NftSetText] = (
                table.chains if token.text == "chain" else table.sets
            )
            name = cursor.word("a name")
            if name not in objects and command != "destroy":
                hint = did_you_mean(name, objects)
                raise NftSyntaxError(f"there is no {token.text} {name!r}: {hint}", token.line)
            if command != "flush":
                objects.pop(name, None)
            elif token.text == "chain":
                table.chains[name].rules.clear()
            else:
                table.sets[name].members.clear()
        elif token.is_sign("element"):
            table = self._existing(cursor)
            members = _existing(table.sets, cursor, "set").members
            cursor.expect("{")
            for element in _elements(members, cursor.block(), None):
                members.remove(element.key)
        else:
            raise NftSyntaxError(
                f"{command} {token.text}: only whole objects and elements can be taken out", token.line
            )

    def _remove_table(self, cursor: Cursor, command: str) -> None:
        if command == "destroy":
            self.tables.pop(_name_of_table(cursor), None)
            return
        table = self._existing(cursor)
        if command == "flush":
            for chain in table.chains.values():
                chain.rules.clear()
        else:
            del self.tables[table.family, table.name]


def _name_of_table(cursor: Cursor) -> tuple[str, str]:
    family = cursor.take("a family").text if cursor.is_next(*FAMILIES) else "ip"
    return family, cursor.word("the name of a table")


def _existing(objects: dict[str, _Object], cursor: Cursor, what: str) -> _Object:
    line = cursor.line
    name = cursor.word(f"the name of a {what}")
    found = objects.get(name)
    if found is None:
        raise NftSyntaxError(f"there is no {what} {name!r}: {did_you_mean(name, objects)}", line)
    return found


def _some(tokens: list[Token], what: str, line: int) -> list[Token]:
    if not tokens:
        raise NftSyntaxError(f"{what} is missing at the end", line)
    return tokens


def _end(cursor: Cursor) -> None:
    if not cursor.has_ended():
        token = cursor.peek()
        raise NftSyntaxError(f"{token.text!r} stands where nothing should", token.line)


def _block(cursor: Cursor, words: list[Token]) -> list[list[Token]]:
    """The statements in the braces that come next, if any do; nothing may follow."""
    if cursor.has_ended():
        return []
    cursor.expect("{")
    cursor.block()
    _end(cursor)
    opening = next(at for at, token in enumerate(words) if token.is_sign("{"))
    closing = max(at for at, token in enumerate(words) if token.is_sign("}"))
    return list(statements(words[opening + 1 : closing]))


def _declare(table: NftTableText, kind: Token, cursor: Cursor, words: list[Token]) -> None:
    """``chain NAME { … }``, ``set NAME { … }`` or ``map NAME { … }``."""
    name = cursor.word(f"the name of a {kind.text}")
    inner = _block(cursor, words)
    if kind.text != "chain":
        declared = _set(name, inner, kind)
        if name not in table.sets:
            table.sets[name] = declared
        return
    chain = table.chains.setdefault(name, NftChainText())
    for statement in inner:
        first = statement[0]
        within = Cursor(statement)
        if first.is_sign("type"):
            chain.base = _base(within)
        elif first.is_sign("policy"):
            _set_policy(chain, within)
        elif first.is_sign("comment") and len(statement) == 2:
            chain.comment = statement[1].text
        elif not first.is_sign("flags", "devices", "device"):
            chain.rules.append(statement)


def _base(cursor: Cursor) -> NftBase:
    """``type filter hook forward [device eth0] priority filter - 10``."""
    cursor.expect("type")
    kind = _known(cursor, "a type of chain", _KINDS)
    cursor.expect("hook")
    hook = _HOOKS[_known(cursor, "a hook", _HOOKS)]
    while not cursor.is_next("priority"):
        cursor.take("priority")
    cursor.expect("priority")
    line = cursor.line
    text = " ".join(token.text for token in cursor.rest())
    match = _SUM.fullmatch(text)
    if match is None or not any(match.group(1, 3)) or (match[1] and match[1] not in _PRIORITIES):
        raise NftSyntaxError(f"{text!r} is not a priority: {did_you_mean(text, _PRIORITIES)}", line)
    number = int(match[3] or 0)
    return NftBase(kind, hook, _PRIORITIES.get(match[1] or "filter", 0) + (-number if match[2] == "-" else number))


def _set_policy(chain: NftChainText, cursor: Cursor) -> None:
    cursor.expect("policy")
    line = cursor.line
    policy = _known(cursor, "a policy", _POLICIES)
    if chain.base is None:
        raise NftSyntaxError("only a chain with a hook has a policy", line)
    chain.base.policy = policy.upper()


def _known(cursor: Cursor, what: str, known: Iterable[str]) -> str:
    line = cursor.line
    word = cursor.word(what)
    if word not in known:
        raise NftSyntaxError(f"{word!r} is not {what}: {did_you_mean(word, known)}", line)
    return word


def _set(name: str, inner: list[list[Token]], kind: Token) -> NftSetText:
    """Read what a set or map is, and its elements."""
    kinds: tuple[str, ...] = ()
    read_value: ValueReader | None = read_verdict if kind.text == "map" else None
    is_dynamic = False
    elements: list[Token] | None = None
    for statement in inner:
        cursor = Cursor(statement)
        first = cursor.take("a property")
        if first.is_sign("type", "typeof"):
            kinds = _kinds(cursor, first)
            if read_value is not None and not cursor.has_ended():
                cursor.expect(":")
                read_value = _reader_of_values(cursor, first)
        elif first.is_sign("flags"):
            is_dynamic = any(token.text in ("dynamic", "timeout") for token in cursor.rest())
        elif first.is_sign("elements"):
            cursor.expect("=")
            cursor.expect("{")
            elements = cursor.block()
        elif not first.is_sign(*_PROPERTIES):
            message = f"{first.text!r} is nothing that a set has: {did_you_mean(first.text, _PROPERTIES)}"
            raise NftSyntaxError(message, first.line)
    if not kinds:
        raise NftSyntaxError(f"{kind.text} {name!r} does not say of what type it is", kind.line)
    found = NftSetText(NftSet(name, kinds, is_map=read_value is not None, is_dynamic=is_dynamic), kind.line, read_value)
    if elements is not None and (read_value is not None or kind.text == "set"):
        _add_elements(found, elements)
    return found


_PROPERTIES = ("type", "typeof", "flags", "elements", "timeout", "gc-interval", "size", "policy", "auto-merge",
               "comment", "counter", "quota", "limit")  # fmt: skip


def _reader_of_values(cursor: Cursor, first: Token) -> ValueReader | None:
    """How to read values of a map's type; None for those that lead to nothing modelled."""
    if cursor.is_next("verdict"):
        return read_verdict
    return read_destination if _kinds(cursor, first) in (("address",), ("address", "port")) else None


def _kinds(cursor: Cursor, first: Token) -> tuple[str, ...]:
    """What the parts of a set's keys are; of those that are not modelled, values are compared as text."""
    if first.text == "typeof":
        try:
            return tuple(one.kind for one in read_fields(cursor))
        except UnmodelledError:
            found = ["text"]
            while not cursor.has_ended() and not cursor.is_next(":"):
                found += ["text"] * cursor.take("a type").is_sign(".")
            return tuple(found)
    kinds = [KINDS_OF_TYPES.get(cursor.word("a type"), "text")]
    while cursor.take_if("."):
        kinds.append(KINDS_OF_TYPES.get(cursor.word("a type"), "text"))
    return tuple(kinds)


def _add_elements(given: NftSetText, tokens: list[Token]) -> None:
    members = given.members
    for element in _elements(members, tokens, given.read_value):
        members.add(element.key, element.verdict, element.comment)
        if isinstance(element.verdict, Jump | Goto):
            given.lines_of_chains.setdefault(element.verdict.chain, element.line)


def _elements(members: NftSet, tokens: list[Token], read_value: ValueReader | None) -> list[Element]:
    line = tokens[0].line if tokens else None
    try:
        return read_elements(tokens, members.kinds, read_value)
    except UnmodelledError as error:
        raise NftSyntaxError(
            f"{str(error)!r} is a name where a number is needed: list rules with nft -n", line
        ) from None
