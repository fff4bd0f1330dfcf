"""Fields of a scenario by their dotted path, such as ``cluster.services``."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from kubesim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def set_field(data: dict[str, Any], path: str, value: Any) -> None:
    """Set a field of a scenario that is not validated yet.

    Raises
    ------
    InputError
        If the path leads through something that has no fields.
    """
    *parents, last = path.split(".")
    for parent in parents:
        inner = data.setdefault(parent, {})
        if isinstance(inner, str) and parent in ("cni", "proxy"):
            inner = data[parent] = {"name": inner}
        if not isinstance(inner, dict):
            raise InputError(f"{path}: {parent} has no fields")
        data = inner
    data[last] = copy.deepcopy(value)


def leaves(data: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Every field that is no mapping itself, with its path."""
    for name, value in data.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value
