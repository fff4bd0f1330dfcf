"""Sets and maps of nftables: found by hash, whatever their size; prefixes and ranges are looked through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.netfilter.nft_fields import FLAG_KINDS, Interval, Value, is_in
from kubesim.kernel.netfilter.nft_verdicts import verdict_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.netfilter.targets import Target

Data = "Target | str | None"


def key_text(key: Sequence[str]) -> str:
    """A key as nft writes it: ``172.30.0.41 . tcp . 80``."""
    return key[0] if len(key) == 1 else " . ".join(key)


class NftSet:
    """A set, or a map to verdicts or to destinations of a translation.

    Parameters
    ----------
    name
        Its name; empty for one without.
    kinds
        What the parts of its keys are.
    elements
        What is in it, by the text of the key; in a map with the verdict, which may be text until it is met. Shared,
        not copied.
    is_map
        Whether it leads to verdicts or destinations.
    is_dynamic
        Whether packets add to it: what they added belongs to the namespace.
    """

    def __init__(
        self,
        name: str = "",
        kinds: Sequence[str] = (),
        elements: Mapping[str, Target | str | None] | None = None,
        *,
        is_map: bool = False,
        is_dynamic: bool = False,
    ) -> None:
        self.name = name
        self.kinds = tuple(kinds)
        self.is_map = is_map
        self.is_dynamic = is_dynamic
        self.comments: dict[str, str] = {}
        self._elements = elements if elements is not None else {}
        self._added: dict[str, Target | None] = {}
        self._wide: list[tuple[tuple[Value, ...] | None, Target | None]] = []

    def __len__(self) -> int:
        return len(self._elements.keys() | self._added.keys()) + len(self._wide)

    def add(self, key: Sequence[Value] | None, verdict: Target | None = None, comment: str = "") -> None:
        """Add an element; a key of None stands for everything else (``*``)."""
        if key is None or any(map(_is_wide, key, self.kinds)):
            self._wide.append((None if key is None else tuple(key), verdict))
            return
        text = key_text([str(part) for part in key])
        self._added[text] = verdict
        if comment:
            self.comments[text] = comment

    def remove(self, key: Sequence[Value] | None) -> bool:
        """Take an element out; whether it was there."""
        before = len(self._added) + len(self._wide)
        if key is not None:
            self._added.pop(key_text([str(part) for part in key]), None)
        self._wide = [one for one in self._wide if one[0] != (None if key is None else tuple(key))]
        return len(self._added) + len(self._wide) < before

    def clear(self) -> None:
        """Take all elements out."""
        self._elements, self._added, self._wide, self.comments = {}, {}, [], {}

    def contains(self, key: Sequence[str], namespace: Namespace) -> bool:
        """Whether a packet's values are in it."""
        text = key_text(key)
        if text in self._elements or text in self._added or self._wide_one(key) is not None:
            return True
        return self.is_dynamic and text in namespace.recent_clients.get(self.name, ())

    def verdict(self, key: Sequence[str]) -> Target | None:
        """Where a packet's values lead, None if nowhere."""
        text = key_text(key)
        found = self._added.get(text)
        if found is not None:
            return found
        given = self._elements.get(text)
        if isinstance(given, str):
            self._added[text] = read = verdict_of(given)
            return read
        if given is not None:
            return given
        wide = self._wide_one(key)
        return None if wide is None else wide[1]

    def verdicts(self) -> Iterator[Target]:
        """All verdicts it leads to."""
        texts = (verdict_of(given) if isinstance(given, str) else given for given in self._elements.values())
        for found in (*texts, *self._added.values(), *(verdict for _, verdict in self._wide)):
            if found is not None:
                yield found

    def _wide_one(self, key: Sequence[str]) -> tuple[tuple[Value, ...] | None, Target | None] | None:
        for one in self._wide:
            if one[0] is None or all(map(is_in, key, self.kinds, one[0])):
                return one
        return None


def _is_wide(part: Value, kind: str) -> bool:
    if isinstance(part, Interval):
        return True
    return kind in FLAG_KINDS or (kind == "device" and part.endswith("*"))
