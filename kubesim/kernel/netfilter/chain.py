"""Chains: rules in order, with an index so that a walk need not look at each one to know how many it tests."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from kubesim.kernel.netfilter.rule import Rule
    from kubesim.kernel.netfilter.syntax import RuleText


class Chain:
    """A chain of rules.

    A rule for one destination address can only match packets to it. Such rules are found through a hash of the
    address; the kernel tests them one by one, so the walk counts them all the same.

    Parameters
    ----------
    name
        Its name.
    rules
        The rules in order; those given as text are read when a packet first has to be held against them.
    policy
        What happens to packets that reach the end: of a base chain ``ACCEPT`` or ``DROP``, of others None.
    """

    def __init__(self, name: str, rules: Iterable[Rule | RuleText] = (), policy: str | None = None) -> None:
        self.name = name
        self.policy = policy
        self._rules: list[Rule | RuleText] = list(rules)
        self._by_destination: dict[str, list[int]] | None = None
        self._others: list[int] = []
        self._merged: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._rules)

    @property
    def rules(self) -> list[Rule]:
        """All rules, read."""
        return [one.rule for one in self._rules]

    def rule(self, position: int) -> Rule:
        """The rule at a position, from 0."""
        return self._rules[position].rule

    def append(self, rule: Rule | RuleText) -> None:
        """Add a rule at the end (``-A``)."""
        self._rules.append(rule)
        self._by_destination = None

    def prepend(self, rule: Rule | RuleText) -> None:
        """Add a rule in front (``-I``)."""
        self._rules.insert(0, rule)
        self._by_destination = None

    def bring_to_front(self, rule: Rule) -> None:
        """Make a rule that is there the first one."""
        if rule in self._rules:
            self._rules.remove(rule)
            self.prepend(rule)

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
        for position, rule in enumerate(self._rules):
            destination = rule.destination
            if destination is not None:
                self._by_destination.setdefault(destination, []).append(position)
            else:
                self._others.append(position)
