"""All rules of nftables on a host, read from what ``nft list ruleset`` prints or ``nft -f`` takes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING

from kubesim.errors import InputError, did_you_mean
from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.nft_matches import Unmodelled, VerdictMap
from kubesim.kernel.netfilter.nft_objects import NftBase, NftTableText, read_objects
from kubesim.kernel.netfilter.nft_rule import read_rule
from kubesim.kernel.netfilter.nft_tokens import Cursor, NftSyntaxError
from kubesim.kernel.netfilter.nftables import NftTable
from kubesim.kernel.netfilter.targets import DestinationNat, Goto, Jump, Random, Redirect

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.netfilter.nft_sets import NftSet
    from kubesim.kernel.netfilter.rule import Rule
    from kubesim.kernel.netfilter.targets import Target

_INSTALLED = ("ip", "ip6", "inet")


@dataclass(slots=True)
class NftChains:
    """A table as it was read.

    Parameters
    ----------
    family, name
        ``ip`` and ``kube-proxy``.
    chains
        Its chains by name.
    bases
        Where those of them that packets come to by themselves are hooked in.
    sets
        Its sets and maps.
    """

    family: str
    name: str
    chains: dict[str, Chain] = field(default_factory=dict)
    bases: dict[str, NftBase] = field(default_factory=dict)
    sets: dict[str, NftSet] = field(default_factory=dict)

    def rules(self) -> Iterator[tuple[str, Rule]]:
        """Every rule, with its chain."""
        for name, chain in self.chains.items():
            for rule in chain.rules:
                yield name, rule

    def install(self, namespace: Namespace) -> NftTable | None:
        """Put the table into a namespace; None if its family is not one of the IP layer."""
        if self.family not in _INSTALLED:
            return None
        table = NftTable(namespace, self.name, self.chains.__getitem__, self.family)  # type: ignore[arg-type]
        for name, base in self.bases.items():
            if base.hook is not None:
                table.add_base_chain(name, base.kind, base.hook, base.priority)
        return table


class NftRuleSet:
    """Tables, by family and name."""

    def __init__(self) -> None:
        self.tables: dict[tuple[str, str], NftChains] = {}

    def table(self, family: str, name: str) -> NftChains:
        """A table.

        Raises
        ------
        InputError
            If there is none of this name.
        """
        found = self.tables.get((family, name))
        if found is None:
            known = [" ".join(key) for key in self.tables]
            raise InputError(f"there is no table {family} {name}: {did_you_mean(f'{family} {name}', known)}")
        return found

    def install(self, namespace: Namespace) -> list[NftTable]:
        """Put all tables of the IP layer into a namespace."""
        return [table for one in self.tables.values() if (table := one.install(namespace)) is not None]

    def unmodelled(self) -> Counter[str]:
        """Names of expressions and statements that are not modelled, and how often they are there."""
        return Counter(
            match.name
            for table in self.tables.values()
            for _, rule in table.rules()
            for match in rule.matches
            if isinstance(match, Unmodelled)
        )

    def ranges(self) -> list[str]:
        """Destinations of which a translation picks one, as they are written."""
        targets = (rule.target for table in self.tables.values() for _, rule in table.rules())
        return [one.text for one in targets if isinstance(one, DestinationNat | Redirect) and one.is_range]


def read_nft(text: str, place: str) -> NftRuleSet:
    """Read rules of nftables.

    Parameters
    ----------
    text
        What ``nft list ruleset`` or ``nft list table`` printed, or commands such as ``add rule …``.
    place
        What to call it in messages, such as its path.

    Returns
    -------
    NftRuleSet
        Its tables; what of their rules is not modelled is kept by name.

    Raises
    ------
    InputError
        If a line makes no sense, with its number; if there are no tables, or chains jump in circles.
    """
    try:
        found = read_objects(text)
        if not found:
            raise InputError(f"{place}: there are no rules of nftables: no line such as table ip kube-proxy {{")
        rules = NftRuleSet()
        for key, table in found.items():
            rules.tables[key] = _read_table(table)
    except NftSyntaxError as error:
        where = place if error.line is None else f"{place}, line {error.line}"
        raise InputError(f"{where}: {error}") from None
    for key, read in rules.tables.items():
        _refuse_circles(read, f"{place}: chains of table {' '.join(key)}")
    return rules


def _read_table(given: NftTableText) -> NftChains:
    """Read a table's rules, now that all its sets and chains are known."""
    table = NftChains(given.family, given.name, sets={name: one.members for name, one in given.sets.items()})
    for name, chain in given.chains.items():
        read = []
        for tokens in chain.rules:
            rule = _rule(Cursor(tokens), table, given)
            rule.note = rule.note or chain.comment
            read.append(rule)
        table.chains[name] = Chain(name, read, policy=None if chain.base is None else chain.base.policy)
        if chain.base is not None:
            table.bases[name] = chain.base
    for one in given.sets.values():
        for verdict in one.members.verdicts():
            for to in _leads_to(verdict):
                _check_chain(to, given, one.lines_of_chains.get(to, one.line))
    return table


def _rule(cursor: Cursor, table: NftChains, given: NftTableText) -> Rule:
    line = cursor.line
    try:
        rule = read_rule(cursor, table.sets.get)
    except NftSyntaxError as error:
        raise NftSyntaxError(str(error), error.line or line) from None
    if not isinstance(rule.target, VerdictMap) or not rule.target.map.name:
        for to in _leads_to(rule.target):
            _check_chain(to, given, line)
    return rule


def _check_chain(name: str, given: NftTableText, line: int | None) -> None:
    if name not in given.chains:
        raise NftSyntaxError(f"there is no chain {name!r}: {did_you_mean(name, given.chains)}", line)


def _leads_to(target: Target | None) -> Iterator[str]:
    """Chains that a target may lead to."""
    if isinstance(target, Jump | Goto):
        yield target.chain
    elif isinstance(target, Random):
        for way in target.ways:
            yield from _leads_to(way)
    elif isinstance(target, VerdictMap):
        for verdict in target.map.verdicts():
            yield from _leads_to(verdict)


def _refuse_circles(table: NftChains, what: str) -> None:
    """Refuse chains that lead back to themselves, as the kernel does (``nf_tables_check_loops``)."""
    graph: dict[str, set[str]] = {name: set() for name in table.chains}
    by_map: dict[int, set[str]] = {}
    for name, rule in table.rules():
        target = rule.target
        if isinstance(target, VerdictMap):
            key = id(target.map)
            if key not in by_map:
                by_map[key] = set(_leads_to(target))
            graph[name] |= by_map[key]
        else:
            graph[name] |= set(_leads_to(target))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise InputError(f"{what} jump in circles: {' > '.join(reversed(error.args[1]))}") from None
