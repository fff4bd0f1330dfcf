"""Reading the expressions of a rule of nftables: a selector, and what it is held against."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kubesim.kernel.netfilter.nft_fields import (
    FIELDS,
    FLAG_KINDS,
    Field,
    UnmodelledError,
    Value,
    flags_of,
    is_in,
    number_of,
    value_of,
)
from kubesim.kernel.netfilter.nft_matches import (
    Compare,
    CompareFlags,
    CompareNumber,
    InNftSet,
    Likely,
    MarkChange,
    VerdictMap,
    kinds_of,
)
from kubesim.kernel.netfilter.nft_sets import NftSet
from kubesim.kernel.netfilter.nft_tokens import Cursor, NftSyntaxError, Token, split_at_commas
from kubesim.kernel.netfilter.nft_verdicts import read_verdict
from kubesim.kernel.netfilter.targets import DestinationNat, PassOn, Random

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kubesim.kernel.netfilter.rule import Match
    from kubesim.kernel.netfilter.targets import Target

ValueReader = Callable[[Cursor], "Target"]
"""Reads what an element of a map leads to."""

_COMPARISONS: dict[str, Callable[[int, int], bool]] = {
    "==": operator.eq, "eq": operator.eq, "!=": operator.ne, "ne": operator.ne, "<": operator.lt, "lt": operator.lt,
    "<=": operator.le, "le": operator.le, ">": operator.gt, "gt": operator.gt, ">=": operator.ge, "ge": operator.ge,
}  # fmt: skip
BIT_OPERATORS = ("and", "&", "or", "|", "xor", "^")
_MOST_WAYS = 20_000
_ELEMENT_OPTIONS = ("timeout", "expires")


class SetFinder(Protocol):
    """Finds the sets of a table."""

    def __call__(self, name: str, /) -> NftSet | None:
        """The set or map of this name, None if there is none."""


class Element(NamedTuple):
    """One element as it is written in a set, and its line; a key of None is ``*``."""

    key: tuple[Value, ...] | None
    verdict: Target | None
    comment: str
    line: int | None


def read_fields(cursor: Cursor) -> tuple[Field, ...]:
    """Read selectors joined by dots.

    Raises
    ------
    UnmodelledError
        If one is not modelled.
    """
    found = [_field(cursor)]
    while cursor.take_if("."):
        found.append(_field(cursor))
    return tuple(found)


def _field(cursor: Cursor) -> Field:
    first, second = cursor.peek().text, cursor.peek(1).text
    words: tuple[str, ...] = (first,)
    if first == "fib":
        words = (first, second, cursor.peek(2).text)
    elif first == "mark":
        cursor.position += 1
        return FIELDS["meta", "mark"]
    elif first == "meta" and (second,) in FIELDS:
        words = (second,)
        cursor.position += 1
    elif (first,) not in FIELDS:
        words = (first, second)
    found = FIELDS.get(words)
    if found is None:
        raise UnmodelledError(" ".join(word for word in words if word))
    cursor.position += len(words)
    return found


class ExpressionReader:
    """Reads one expression.

    Parameters
    ----------
    cursor
        The words of the rule.
    find_set
        Finds the table's sets.
    """

    def __init__(self, cursor: Cursor, find_set: SetFinder) -> None:
        self._cursor = cursor
        self._find_set = find_set
        self.target: Target | None = None

    def read(self) -> Match | None:
        """Read it: a match, or None if with ``vmap`` it is a target, which is then in ``target``.

        Raises
        ------
        NftSyntaxError
            If it makes no sense.
        UnmodelledError
            If something of it is not modelled.
        """
        cursor = self._cursor
        if cursor.is_next("numgen"):
            return self._random()
        fields = read_fields(cursor)
        if cursor.take_if("vmap"):
            self.target = VerdictMap(fields, self._map(kinds_of(fields)))
            return None
        if cursor.is_next("map", "set", "("):
            raise UnmodelledError(fields[0].name)
        if len(fields) == 1 and fields[0].kind in FLAG_KINDS:
            return self._flags(fields[0])
        change = MarkChange()
        while cursor.is_next(*BIT_OPERATORS):
            if len(fields) > 1 or fields[0].kind != "mark":
                raise UnmodelledError(fields[0].name)
            sign = cursor.take("an operator").text
            change = change.then(sign, number_of(cursor.word("a number"), "mark"))
        relation = cursor.take("a relation").text if cursor.is_next(*_COMPARISONS) else "=="
        if change != MarkChange() or relation not in ("==", "!=", "eq", "ne"):
            return self._number(fields, change, relation)
        return self._comparison(fields, is_inverted=relation in ("!=", "ne"))

    def _flags(self, field: Field) -> Match:
        """``& MASK == FLAGS``, ``FLAGS / MASK``, or flags of which one has to be set."""
        cursor = self._cursor
        if cursor.take_if("&", "and"):
            mask = self._some_flags(field.kind)
            if not cursor.is_next("==", "!=", "eq", "ne"):
                return CompareFlags(field, mask, frozenset(), is_inverted=True)
            relation = cursor.take("a relation").text
            return CompareFlags(field, mask, self._some_flags(field.kind), relation in ("!=", "ne"))
        relation = cursor.take("a relation").text if cursor.is_next("==", "!=", "eq", "ne") else "=="
        is_inverted = relation in ("!=", "ne")
        start = cursor.position
        if not cursor.is_next("{") and not self._set_comes():
            wanted = self._some_flags(field.kind)
            if cursor.take_if("/"):
                return CompareFlags(field, self._some_flags(field.kind), wanted, is_inverted)
        cursor.position = start
        return self._comparison((field,), is_inverted=is_inverted)

    def _some_flags(self, kind: str) -> frozenset[str]:
        """Flags with ``|`` or commas between them, in parentheses or not."""
        cursor = self._cursor
        is_open = cursor.take_if("(")
        found = flags_of(kind, cursor.word(f"a value of kind {kind}"))
        while cursor.take_if("|", ","):
            found |= flags_of(kind, cursor.word(f"a value of kind {kind}"))
        if is_open:
            cursor.expect(")")
        return found

    def _number(self, fields: tuple[Field, ...], change: MarkChange, relation: str) -> Match:
        (field, *others), kind = fields, fields[0].kind
        if others or kind not in ("mark", "port") or self._cursor.is_next("{") or self._set_comes():
            raise UnmodelledError(field.name)
        number = number_of(self._cursor.word("a number"), kind)
        return CompareNumber(field, change, _COMPARISONS[relation], number)

    def _comparison(self, fields: tuple[Field, ...], *, is_inverted: bool) -> Match:
        cursor, kinds = self._cursor, kinds_of(fields)
        if self._set_comes():
            return InNftSet(fields, self._named_set(kinds), is_inverted)
        if cursor.take_if("{"):
            return InNftSet(fields, anonymous_set(cursor.block(), kinds), is_inverted)
        wanted = [read_key(cursor, kinds)]
        while cursor.take_if(",", "|"):
            wanted.append(read_key(cursor, kinds))
        return Compare(fields, tuple(wanted), is_inverted)

    def _set_comes(self) -> bool:
        token = self._cursor.peek()
        return not token.is_quoted and token.text.startswith("@")

    def _named_set(self, kinds: tuple[str, ...]) -> NftSet:
        token = self._cursor.take("a set")
        name = token.text[1:] or self._cursor.word("the name of a set")
        found = self._find_set(name)
        if found is None:
            raise NftSyntaxError(f"there is no set {name!r}", token.line)
        if len(found.kinds) != len(kinds):
            raise NftSyntaxError(f"set {name!r} has keys of {len(found.kinds)} parts, not {len(kinds)}", token.line)
        return found

    def _map(self, kinds: tuple[str, ...], read_value: ValueReader = read_verdict) -> NftSet:
        if self._set_comes():
            found = self._named_set(kinds)
            if not found.is_map:
                raise UnmodelledError("map")
            return found
        self._cursor.expect("{")
        return anonymous_set(self._cursor.block(), kinds, read_value)

    def read_destination(self) -> Target:
        """Read what is looked up to find where ``dnat`` sends a packet: ``FIELD map @MAP``, or numbers drawn.

        Raises
        ------
        NftSyntaxError
            If it makes no sense.
        UnmodelledError
            If something of it is not modelled.
        """
        cursor = self._cursor
        if cursor.is_next("numgen", "jhash", "symhash"):
            word = cursor.take("a number").text
            while not cursor.has_ended() and not cursor.is_next("mod", "map", "vmap"):
                cursor.take("mod")
            numbers = self._numbers(word)
            self._expect_map(word)
            found = self._map(("number",), read_destination)
            return Random(tuple(found.verdict((number,)) or PassOn("continue", "") for number in numbers))
        fields = read_fields(cursor)
        self._expect_map(fields[0].name)
        return VerdictMap(fields, self._map(kinds_of(fields), read_destination))

    def _expect_map(self, name: str) -> None:
        if not self._cursor.take_if("map"):
            raise UnmodelledError(name)

    def _numbers(self, what: str) -> list[str]:
        """``mod N [seed S] [offset M]``: the numbers that may come out, all equally likely."""
        cursor = self._cursor
        cursor.expect("mod")
        ways, start = number_of(cursor.word("a number")), 0
        while cursor.is_next("seed", "offset"):
            is_offset = cursor.take("an option").text == "offset"
            number = number_of(cursor.word("a number"))
            start = number if is_offset else start
        if not ways:
            raise NftSyntaxError(f"{what}: mod 0 makes no sense", cursor.line)
        if ways > _MOST_WAYS:
            raise UnmodelledError(what)
        return [str(number) for number in range(start, start + ways)]

    def _random(self) -> Match | None:
        """``numgen random mod N``, with ``vmap``, or compared with a number."""
        cursor = self._cursor
        cursor.take("numgen")
        if cursor.word("random or inc") not in ("random", "inc"):
            raise NftSyntaxError("numgen is random or inc", cursor.line)
        numbers = self._numbers("numgen")
        if cursor.is_next("map"):
            raise UnmodelledError("numgen")
        if cursor.take_if("vmap"):
            verdicts = self._map(("number",))
            self.target = Random(tuple(verdicts.verdict((number,)) or PassOn("continue", "") for number in numbers))
            return None
        relation = cursor.take("a relation").text if cursor.is_next(*_COMPARISONS) else "=="
        return Likely(self._share(numbers, relation))

    def _share(self, numbers: Sequence[str], relation: str) -> float:
        if relation in ("==", "!=", "eq", "ne") and self._cursor.take_if("{"):
            keys = [one.key for one in read_elements(self._cursor.block(), ("number",))]
        else:
            keys = [read_key(self._cursor, ("number",))]
        if relation in ("==", "!=", "eq", "ne"):
            hits = sum(any(key is None or is_in(number, "number", key[0]) for key in keys) for number in numbers)
            return (hits if relation in ("==", "eq") else len(numbers) - hits) / len(numbers)
        (key,) = keys
        if key is None or not isinstance(key[0], str):
            raise NftSyntaxError("a number is needed behind numgen", self._cursor.line)
        limit = int(key[0])
        return sum(_COMPARISONS[relation](int(number), limit) for number in numbers) / len(numbers)


def read_key(cursor: Cursor, kinds: Sequence[str]) -> tuple[Value, ...]:
    """Read values joined by dots, one of each kind."""
    found: list[Value] = []
    for kind in kinds:
        if found:
            cursor.expect(".")
        found.append(_read_value(cursor, kind))
    return tuple(found)


def _read_value(cursor: Cursor, kind: str) -> Value:
    line = cursor.line
    try:
        return value_of(kind, cursor.word(f"a value of kind {kind}"))
    except NftSyntaxError as error:
        raise NftSyntaxError(str(error), error.line or line) from None


def read_destination(cursor: Cursor) -> Target:
    """Read where a map sends a packet: ``ADDRESS``, or ``ADDRESS . PORT``.

    Raises
    ------
    UnmodelledError
        If it is something else.
    """
    address = value_of("address", cursor.word("an address"))
    if not isinstance(address, str):
        raise UnmodelledError("map")
    port = number_of(cursor.word("a port"), "port") if cursor.take_if(".") else None
    return DestinationNat(address, port)


def anonymous_set(tokens: Iterable[Token], kinds: Sequence[str], read_value: ValueReader | None = None) -> NftSet:
    """What stands in braces in a rule; a map, if it is said how to read where its elements lead."""
    found = NftSet("", kinds, is_map=read_value is not None)
    for element in read_elements(tokens, kinds, read_value):
        found.add(element.key, element.verdict, element.comment)
    return found


def read_elements(
    tokens: Iterable[Token], kinds: Sequence[str], read_value: ValueReader | None = None
) -> list[Element]:
    """Read what stands in the braces of a set, or of a map, whose values are then read too.

    Raises
    ------
    NftSyntaxError
        If an element makes no sense.
    UnmodelledError
        If a key is a name that is not modelled.
    """
    return [_element(Cursor(item), kinds, read_value) for item in split_at_commas(tokens) if not _is_blank(item)]


def _is_blank(item: Sequence[Token]) -> bool:
    return all(token.is_sign("\n") for token in item)


def _element(cursor: Cursor, kinds: Sequence[str], read_value: ValueReader | None) -> Element:
    line, comment = cursor.line, ""
    key = None if cursor.take_if("*") else read_key(cursor, kinds)
    while not cursor.has_ended() and not cursor.is_next(":"):
        comment = _element_option(cursor) or comment
    verdict = None
    if read_value is not None:
        cursor.expect(":")
        verdict = read_value(cursor)
    while not cursor.has_ended():
        comment = _element_option(cursor) or comment
    return Element(key, verdict, comment, line)


def _element_option(cursor: Cursor) -> str:
    """Take a comment, a timeout or a counter; the comment, if it is one."""
    token = cursor.take("an option of an element")
    if token.is_sign("comment"):
        return cursor.word("a comment")
    if token.is_sign(*_ELEMENT_OPTIONS):
        cursor.word("a time")
    elif token.is_sign("counter"):
        while cursor.take_if("packets", "bytes"):
            cursor.word("a number")
    elif token.is_sign("limit", "quota", "last"):
        while not cursor.has_ended() and not cursor.is_next(":", "comment", *_ELEMENT_OPTIONS):
            cursor.take("a word")
    else:
        raise NftSyntaxError(f"{token.text!r} stands where an element should end", token.line)
    return ""
