"""Rules of plugins as the text that iptables takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.iptables import Table
from kubesim.kernel.netfilter.syntax import parse_rule

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubesim.kernel.namespace import Namespace


def append_rules(namespace: Namespace, table: str, own_chains: Iterable[str], lines: Iterable[str]) -> None:
    """Make chains of one's own in a table, and append rules (``-N``, ``-A``)."""
    found = Table.of(namespace, table)
    for name in own_chains:
        found.add_chain(Chain(name))
    for line in lines:
        parsed = parse_rule(line)
        found.chain(parsed.chain).append(parsed.rule)
