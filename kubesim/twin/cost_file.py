"""A measured cost set as a file that extends another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import yaml


class About(NamedTuple):
    """What a cost set says of itself."""

    name: str
    title: str
    machine: str
    kernel: str
    extends: str


def cost_file(comments: Iterable[str], about: About, operations: Mapping[str, Any]) -> str:
    """The file's text.

    Parameters
    ----------
    comments
        Lines that say how it was made.
    about
        What the set says of itself.
    operations
        Those that were measured, as the file has them.
    """
    document = {**about._asdict(), "operations": dict(operations)}
    body = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
    return "\n".join([*(f"# {line}" for line in comments), "", body])
