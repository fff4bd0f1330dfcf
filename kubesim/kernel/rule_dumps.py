"""Dumps of a real node's rules: what kind each file is, and how it is put into a namespace."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubesim.errors import InputError
from kubesim.files import read_text
from kubesim.kernel.netfilter.ruleset import RuleSet

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kubesim.kernel.namespace import Namespace

_IPTABLES = re.compile(r"^\s*(\*(raw|mangle|nat|filter|security)\b|:\w+ (ACCEPT|DROP|-)|-A [A-Za-z])")
"""A table, a chain or a rule as iptables-save prints them."""


@dataclass(frozen=True)
class RuleDumps:
    """What was read from some files.

    Parameters
    ----------
    iptables
        Rules of iptables.
    notices
        What is in them that is not modelled.
    """

    iptables: tuple[RuleSet, ...]
    notices: tuple[str, ...]

    def install(self, namespace: Namespace) -> None:
        """Put the rules into a namespace, in place of what it has of the same kind."""
        for rules in self.iptables:
            rules.install(namespace)


def read_dumps(paths: Sequence[Path], *, is_ipv6: bool = False) -> RuleDumps:
    """Read the rules of one node.

    Parameters
    ----------
    paths
        Files with what ``iptables-save`` printed, one after the other.
    is_ipv6
        Whether they are of ``ip6tables-save``.

    Raises
    ------
    InputError
        If a file cannot be read, or a line of it is no rule.
    """
    found: list[RuleSet] = []
    notices: list[str] = []
    for path in paths:
        text = read_text(path)
        if not text.strip():
            raise InputError(f"{path}: it is empty")
        rules = RuleSet.read(text, str(path), is_ipv6=is_ipv6)
        unmodelled = rules.unmodelled()
        if unmodelled:
            names = ", ".join(f"{count} {name}" for name, count in sorted(unmodelled.items()))
            notices.append(f"{path}: not modelled, and so taken to match nothing or to do nothing: {names}")
        found.append(rules)
    return RuleDumps(tuple(found), tuple(notices))
