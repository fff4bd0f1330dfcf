"""Words of nft's language, and a cursor that reads them one by one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from kubesim.kernel.netfilter.option import RuleSyntaxError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_TOKEN = re.compile(
    r'(?P<word>[^\s{};,()"=!<>&|^\#\\]+)'
    r"|(?P<blank>[^\S\n]+|\#[^\n]*)"
    r"|(?P<sign>\n|[{};,()]|[=!<>]=|<<|>>|[=!<>&|^])"
    r'|"(?P<quoted>[^"\n]*)"'
    r"|(?P<joint>\\[^\S\n]*\n)"
    r"|(?P<bad>.)"
)

SEPARATORS = ("\n", ";")
_SIGNS = frozenset("\n{};,()=!<>&|^") | {"==", "!=", "<=", ">=", "<<", ">>"}


class NftSyntaxError(RuleSyntaxError):
    """Text that is not nft's language.

    Parameters
    ----------
    message
        What is wrong.
    line
        Number of the line, from 1; None where whoever reads the file knows it better.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class Token(NamedTuple):
    """A word or sign, the line it stands in, and whether it stood in quotes."""

    text: str
    line: int = 1
    is_quoted: bool = False

    def is_sign(self, *signs: str) -> bool:
        """Whether it is one of these signs or words, and not the same in quotes."""
        return not self.is_quoted and self.text in signs


def tokens_of(text: str) -> list[Token]:
    """The words and signs of a text, without its comments; ends of lines are signs.

    Raises
    ------
    NftSyntaxError
        If a quote is not closed, or a sign is none of nft's.
    """
    found: list[Token] = []
    line = 1
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if kind == "blank":
            continue
        part = match.group()
        if kind == "word" and part[-1] == ":" and len(part) > 1 and ":" not in part[:-1]:
            found += [Token(part[:-1], line), Token(":", line)]
        elif kind == "quoted":
            found.append(Token(part[1:-1], line, is_quoted=True))
        elif kind == "bad":
            raise NftSyntaxError("a quote is not closed" if part == '"' else f"{part!r} means nothing here", line)
        elif kind != "joint":
            found.append(Token(part, line))
        line += part == "\n" or kind == "joint"
    return found


def statements(tokens: Iterable[Token]) -> Iterator[list[Token]]:
    """Split at ends of lines and semicolons, but not inside braces.

    Raises
    ------
    NftSyntaxError
        If braces do not match.
    """
    found: list[Token] = []
    opened: list[Token] = []
    for token in tokens:
        if not opened and not token.is_quoted and token.text in SEPARATORS:
            if found:
                yield found
                found = []
            continue
        found.append(token)
        if token.text == "{" and not token.is_quoted:
            opened.append(token)
        elif token.text == "}" and not token.is_quoted:
            if not opened:
                raise NftSyntaxError("'}' stands where nothing is open", token.line)
            opened.pop()
            if not opened and _is_block(found):
                yield found
                found = []
    if opened:
        raise NftSyntaxError("'{' is not closed: a part is missing", opened[-1].line)
    if found:
        yield found


def _is_block(tokens: Sequence[Token]) -> bool:
    """Whether a closed brace ends the statement, as it does for chains and sets, even without an end of line."""
    return tokens[0].is_sign("table", "chain", "set", "map") and len(tokens) > 1


class Cursor:
    """Reads words one after the other.

    Parameters
    ----------
    tokens
        The words; ends of lines among them, inside braces, are passed over.
    """

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = [token for token in tokens if token.text != "\n"]
        self.position = 0

    def has_ended(self) -> bool:
        """Whether nothing is left."""
        return self.position >= len(self._tokens)

    @property
    def line(self) -> int | None:
        """The line of the next word, or of the last."""
        at = min(self.position, len(self._tokens) - 1)
        return self._tokens[at].line if at >= 0 else None

    def peek(self, ahead: int = 0) -> Token:
        """A word that comes, without taking it; an empty one behind the end."""
        at = self.position + ahead
        return self._tokens[at] if at < len(self._tokens) else Token("", 0, is_quoted=True)

    def is_next(self, *words: str) -> bool:
        """Whether one of these comes next."""
        return self.peek().is_sign(*words)

    def take(self, what: str) -> Token:
        """The next word, whatever it is.

        Raises
        ------
        NftSyntaxError
            If nothing is left.
        """
        if self.has_ended():
            raise NftSyntaxError(f"{what} is missing at the end", self.line)
        self.position += 1
        return self._tokens[self.position - 1]

    def word(self, what: str) -> str:
        """The next word, which may be in quotes, but is no sign.

        Raises
        ------
        NftSyntaxError
            If it is a sign.
        """
        token = self.take(what)
        if not token.is_quoted and token.text in _SIGNS:
            raise NftSyntaxError(f"{token.text!r} stands where {what} should", token.line)
        return token.text

    def take_if(self, *words: str) -> bool:
        """Take the next word if it is one of these; whether it was."""
        found = self.is_next(*words)
        self.position += found
        return found

    def expect(self, sign: str) -> None:
        """Take a sign that has to come.

        Raises
        ------
        NftSyntaxError
            If something else comes.
        """
        token = self.take(repr(sign))
        if not token.is_sign(sign):
            raise NftSyntaxError(f"{token.text!r} stands where {sign!r} should", token.line)

    def block(self) -> list[Token]:
        """What stands between ``{``, which is taken, and the ``}`` that closes it.

        Raises
        ------
        NftSyntaxError
            If it is not closed.
        """
        depth, start = 1, self.position
        while depth:
            token = self.take("'}'")
            depth += token.is_sign("{") - token.is_sign("}")
        return self._tokens[start : self.position - 1]

    def rest(self) -> list[Token]:
        """All that is left; it is taken."""
        start, self.position = self.position, len(self._tokens)
        return self._tokens[start:]


def split_at_commas(tokens: Iterable[Token]) -> Iterator[list[Token]]:
    """Items of a list; one after the last comma may be missing."""
    found: list[Token] = []
    depth = 0
    for token in tokens:
        depth += token.is_sign("{") - token.is_sign("}")
        if token.is_sign(",") and not depth:
            yield found
            found = []
        else:
            found.append(token)
    if found:
        yield found
