"""Verdicts of nftables: ``accept``, ``jump CHAIN`` and their like, in rules and in maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.netfilter.nft_tokens import Cursor, NftSyntaxError, tokens_of
from kubesim.kernel.netfilter.targets import Accept, Drop, Goto, Jump, PassOn, Return

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kubesim.kernel.netfilter.targets import Target


def _continue() -> Target:
    return PassOn("continue", "")


_PLAIN: Mapping[str, Callable[[], Target]] = {
    "accept": Accept,
    "drop": Drop,
    "return": Return,
    "continue": _continue,
}
VERDICTS = (*_PLAIN, "jump", "goto")


def read_verdict(cursor: Cursor) -> Target:
    """Read a verdict.

    Raises
    ------
    NftSyntaxError
        If it is none.
    """
    line = cursor.line
    word = cursor.word("a verdict")
    if word in ("jump", "goto"):
        chain = cursor.word("the name of a chain")
        return Jump(chain) if word == "jump" else Goto(chain)
    if word not in _PLAIN:
        raise NftSyntaxError(f"{word!r} is not a verdict: {', '.join(VERDICTS)} are", line)
    return _PLAIN[word]()


def verdict_of(text: str) -> Target:
    """The verdict that a text is."""
    return read_verdict(Cursor(tokens_of(text)))
