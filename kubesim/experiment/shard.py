"""Parts of a sweep that are run by themselves, such as by jobs of an array or of a CI matrix."""

from __future__ import annotations

import re
from typing import NamedTuple

from kubesim.errors import InputError

_FORM = re.compile(r"^(\d{1,6})/(\d{1,6})$")


class Shard(NamedTuple):
    """One of several parts.

    Parameters
    ----------
    number
        Which, from 1.
    of
        How many there are.
    """

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, position: int) -> bool:
        """Whether something at a position, from 0, is in this part; neighbours are in different ones."""
        return position % self.of == self.number - 1


def parse_shard(text: str) -> Shard:
    """A shard as it is written: ``2/4`` is the second of four.

    Raises
    ------
    InputError
        If it is none.
    """
    found = _FORM.match(text)
    shard = Shard(*(int(part) for part in found.groups())) if found else None
    if shard is None or not 1 <= shard.number <= shard.of:
        raise InputError(f"--shard {text}: I/N is needed, such as 2/4 for the second of four parts")
    return shard
