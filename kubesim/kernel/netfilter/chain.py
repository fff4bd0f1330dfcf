"""Chains: rules in order, with an index so that a walk need not look at each one to know how many it tests."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kubesim.kernel.netfilter.rule import Rule


class Chain:
    """A chain of rules.

    A rule for one destination address can only match packets to it. Such rules are found through a hash of the
    address; the kernel tests them one by one, so the walk counts them all the same.

    Parameters
    ----------
    name
        Its name.
    rules
        The rules in order.
    """

    def __init__(self, name: str, rules: Iterable[Rule] = ()) -> None:
        self.name = name
        self.rules: list[Rule] = list(rules)
        self._by_destination: dict[str, list[int]] | None = None
        self._others: list[int] = []
        self._merged: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.rules)

    def append(self, rule: Rule) -> None:
        """Add a rule at the end (``-A``)."""
        self.rules.append(rule)
        self._by_destination = None

    def prepend(self, rule: Rule) -> None:
        """Add a rule in front (``-I``)."""
        self.rules.insert(0, rule)
        self._by_destination = None

    def candidates(self, destination: str, start: int) -> Sequence[int]:
        """Positions, from ``start`` on, of the rules that a packet to this destination might match."""
        if self._by_destination is None:
            self._index()
        positions = self._merged.get(destination)
        if positions is None:
            positions = self._others
            exact = self._by_destination.get(destination) if self._by_destination else None
            if exact is not None:
                positions = self._merged[destination] = sorted(exact + positions)
        return positions if start == 0 else positions[bisect_left(positions, start) :]

    def _index(self) -> None:
        self._by_destination, self._others, self._merged = {}, [], {}
        for position, rule in enumerate(self.rules):
            prefix = rule.header.destination
            if prefix is not None and prefix.host is not None and not rule.header.not_destination:
                self._by_destination.setdefault(prefix.host, []).append(position)
            else:
                self._others.append(position)
