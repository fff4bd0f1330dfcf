"""An option of a rule, as iptables takes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from kubesim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator


class RuleSyntaxError(InputError):
    """A line that is no rule; who reads a file adds which line it is."""


class Option(NamedTuple):
    """``! --name value value``.

    Parameters
    ----------
    name
        With its dashes.
    is_inverted
        Whether ``!`` stands before it.
    values
        What follows it.
    written
        The same as it was written, in quotes or not.
    """

    name: str
    is_inverted: bool = False
    values: tuple[str, ...] = ()
    written: tuple[str, ...] = ()

    @property
    def value(self) -> str:
        """Its only value.

        Raises
        ------
        RuleSyntaxError
            If it has none.
        """
        if not self.values:
            raise RuleSyntaxError(f"{self.name} needs a value")
        return self.values[0]

    @property
    def number(self) -> int:
        """Its value as a number, decimal or with 0x.

        Raises
        ------
        RuleSyntaxError
            If it is none.
        """
        return number_of(self.value, self.name)

    @property
    def text(self) -> str:
        """As it is written."""
        return " ".join(("! " * self.is_inverted + self.name, *self.written))


def number_of(text: str, what: str) -> int:
    """A number, decimal or with 0x.

    Raises
    ------
    RuleSyntaxError
        If it is none, or too large for what the kernel keeps.
    """
    try:
        number = int(text, 0) if text[:2].lower() == "0x" else int(text)
    except ValueError:
        raise RuleSyntaxError(f"{what}: {text!r} is not a number") from None
    if not 0 <= number <= 0xFFFFFFFF:
        raise RuleSyntaxError(f"{what}: {text!r} does not fit 32 bits")
    return number


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a dump, from 1: the tools end them with a newline, and other separators may stand in a comment."""
    for number, line in enumerate(text.split("\n"), 1):
        yield number, line.removesuffix("\r")


def value_and_mask(option: Option) -> tuple[int, int]:
    """``VALUE/MASK``; the mask is all bits where it is not given."""
    value, slash, mask = option.value.partition("/")
    return number_of(value, option.name), number_of(mask, option.name) if slash else 0xFFFFFFFF
