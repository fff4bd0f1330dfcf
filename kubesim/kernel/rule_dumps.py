"""Dumps of a real host's rules: what kind each file is, and how all of them are put into a namespace."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kubesim.errors import InputError
from kubesim.files import read_text
from kubesim.kernel.dummy import Dummy
from kubesim.kernel.iptables_dumps import IptablesDump, family_name, iptables_dumps
from kubesim.kernel.ipvs.ipvsadm import ServiceRecord, install_ipvs, read_ipvsadm
from kubesim.kernel.netfilter.ipset import IpSet, install_ipsets, read_ipsets
from kubesim.kernel.netfilter.nft_ruleset import NftRuleSet, read_nft
from kubesim.kernel.netfilter.ruleset import RuleSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from kubesim.kernel.namespace import Namespace

_KINDS = (
    ("ipset", re.compile(r"^\s*create \S+ (hash|bitmap|list):", re.MULTILINE)),
    ("ipvsadm", re.compile(r"^\s*-A (-[tuf]|--(tcp|udp|sctp|fwmark)-service) ", re.MULTILINE)),
    (
        "nft",
        re.compile(r"^\s*(table|(add|create|flush|destroy|delete) (table|chain|set|map|rule|element)) ", re.MULTILINE),
    ),
)
"""What tells the tools' texts apart; what is none of these is taken for iptables-save's."""

_FOR_PEOPLE = (
    ("ipvsadm -Ln", "ipvsadm -Sn", re.compile(r"\A\s*IP Virtual Server version ")),
    ("ipset list", "ipset save", re.compile(r"\A\s*Name: \S+\s+Type: ")),
    ("iptables -L", "iptables-save", re.compile(r"\A\s*Chain \S+ \(")),
    ("iptables -S", "iptables-save", re.compile(r"\A\s*-[PN] \S+(?![\s\S]*^\*)", re.MULTILINE)),
    ("nft -j", "nft list ruleset", re.compile(r'\A\s*\{\s*"nftables"')),
)
"""Texts of the same tools that lack something, and the commands to run instead."""

_DUMMY, _DUMMY_MTU = "dummy0", 1500
_NFT_FAMILIES = {False: ("ip", "inet"), True: ("ip6", "inet")}


@dataclass
class RuleDumps:
    """What was read from some files.

    Parameters
    ----------
    iptables, nftables
        Rules.
    ipsets
        Sets that rules of iptables look things up in.
    virtual_services
        Virtual services of IPVS, or None if no file has any.
    notices
        What is in them that is not modelled, or that packets do not meet.
    """

    iptables: list[RuleSet] = field(default_factory=list)
    nftables: list[NftRuleSet] = field(default_factory=list)
    ipsets: dict[str, IpSet] = field(default_factory=dict)
    virtual_services: list[ServiceRecord] | None = None
    notices: list[str] = field(default_factory=list)

    def install(self, namespace: Namespace) -> None:
        """Put the rules into a namespace, in place of what it has of the same kind.

        Addresses of virtual services count as the host's own, without which IPVS would not see their packets.
        """
        for rules in self.iptables:
            rules.install(namespace)
        for tables in self.nftables:
            tables.install(namespace)
        install_ipsets(namespace, self.ipsets.values())
        if self.virtual_services is not None:
            install_ipvs(namespace, self.virtual_services)
            keys = [one.key for one in self.virtual_services if one.key is not None]
            addresses = frozenset(key.address for key in keys if not namespace.is_local(key.address))
            namespace.add_local_addresses(Dummy(namespace, _DUMMY, _DUMMY_MTU), addresses)


def read_dumps(paths: Sequence[Path], *, is_ipv6: bool = False) -> RuleDumps:
    """Read the rules of one host.

    Parameters
    ----------
    paths
        Files with what ``iptables-save``, ``nft list ruleset`` (or text for ``nft -f``), ``ipvsadm -Sn`` and ``ipset
        save`` printed.
    is_ipv6
        Whether the packets that will meet the rules are of IPv6: rules of iptables that are of the other family are
        left out, and a notice says so.

    Raises
    ------
    InputError
        If a file cannot be read, a line of it is no rule, or two dumps have the same table or set.
    """
    reader = _Reader(is_ipv6)
    for path in paths:
        text = read_text(path).removeprefix("\ufeff")
        if not text.strip():
            raise InputError(f"{path}: it is empty")
        reader.take(text, str(path))
    reader.note_what_is_missing()
    return reader.found


class _Reader:
    """Takes in one file after the other."""

    def __init__(self, is_ipv6: bool) -> None:
        self.found = RuleDumps()
        self._is_ipv6 = is_ipv6
        self._places: dict[str, str] = {}

    def take(self, text: str, place: str) -> None:
        """Take in one text."""
        for listed, saved, pattern in _FOR_PEOPLE:
            if pattern.search(text):
                raise InputError(f"{place}: it is what `{listed}` prints: give what `{saved}` prints")
        match next((kind for kind, pattern in _KINDS if pattern.search(text)), "iptables"):
            case "ipset":
                ipsets = read_ipsets(text, place)
                self._claim((f"set {name}" for name in ipsets), place)
                self.found.ipsets |= ipsets
            case "ipvsadm":
                records = read_ipvsadm(text, place)
                self.found.virtual_services = [*(self.found.virtual_services or []), *records]
                self._note_unmodelled(place, {name: 1 for record in records for name in record.unmodelled()})
            case "nft":
                self._take_nft(read_nft(text, place), place)
            case _:
                for dump in iptables_dumps(text):
                    self._take_iptables(dump, place)

    def note_what_is_missing(self) -> None:
        """Say which sets rules ask for in vain, and whether there are no rules at all."""
        asked = sorted(set[str]().union(*(rules.set_names() for rules in self.found.iptables)))
        missing = [name for name in asked if name not in self.found.ipsets]
        if missing:
            said = f"set {missing[0]} is" if len(missing) == 1 else f"sets {', '.join(missing)} are"
            self.found.notices.append(f"{said} in none of the dumps, and so taken for empty: give `ipset save` too")
        kinds = {name: self.found.ipsets[name] for name in asked if name not in missing}
        unmodelled = [f"{name} ({ipset.kind})" for name, ipset in kinds.items() if not ipset.is_modelled]
        if unmodelled:
            self.found.notices.append(
                f"sets of types that are not modelled are taken for empty: {', '.join(unmodelled)}"
            )
        if not self._has_rules():
            self.found.notices.append(f"none of the dumps has rules that an {family_name(self._is_ipv6)} packet meets")

    def _has_rules(self) -> bool:
        families = _NFT_FAMILIES[self._is_ipv6]
        is_met = any(family in families for tables in self.found.nftables for family, _ in tables.tables)
        return is_met or bool(self.found.iptables) or self.found.virtual_services is not None

    def _take_nft(self, tables: NftRuleSet, place: str) -> None:
        self._claim((f"table {' '.join(key)} of nftables" for key in tables.tables), place)
        self.found.nftables.append(tables)
        self._note_unmodelled(place, tables.unmodelled())
        self._note_ranges(place, tables.ranges())

    def _take_iptables(self, dump: IptablesDump, place: str) -> None:
        is_ipv6 = self._is_ipv6 if dump.is_ipv6 is None else dump.is_ipv6
        rules = RuleSet.read(dump.text, place, is_ipv6=is_ipv6)
        self._claim((f"table {name} of {family_name(is_ipv6)}" for name in rules.tables), place)
        if is_ipv6 is not self._is_ipv6:
            self.found.notices.append(
                f"{place}: its rules of {family_name(is_ipv6)} are left out: the packet is {family_name(self._is_ipv6)}"
            )
            return
        self.found.iptables.append(rules)
        self._note_unmodelled(place, rules.unmodelled())
        self._note_ranges(place, rules.ranges())

    def _claim(self, names: Iterable[str], place: str) -> None:
        """Refuse what is there already: the later of two would silently take the place of the other."""
        for name in names:
            if name in self._places:
                raise InputError(f"{place}: {name} is there already, from {self._places[name]}: give one of them")
            self._places[name] = place

    def _note_unmodelled(self, place: str, unmodelled: dict[str, int]) -> None:
        if unmodelled:
            names = ", ".join(f"{count} {name}" for name, count in sorted(unmodelled.items()))
            self.found.notices.append(f"{place}: not modelled, and so taken to match nothing or to do nothing: {names}")

    def _note_ranges(self, place: str, ranges: Iterable[str]) -> None:
        named = ", ".join(dict.fromkeys(ranges))
        if named:
            self.found.notices.append(
                f"{place}: translations pick one of a range, of which the first is shown: {named}"
            )
