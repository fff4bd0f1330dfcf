"""Dumps of a real host's rules: what kind each file is, and how all of them are put into a namespace."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kubesim.errors import InputError
from kubesim.files import read_text
from kubesim.kernel.dummy import Dummy
from kubesim.kernel.ipvs.ipvsadm import ServiceRecord, install_ipvs, read_ipvsadm
from kubesim.kernel.netfilter.ipset import IpSet, install_ipsets, read_ipsets
from kubesim.kernel.netfilter.nft_ruleset import NftRuleSet, read_nft
from kubesim.kernel.netfilter.ruleset import RuleSet

if TYPE_CHECKING:
    from collections.abc import Sequence
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

_DUMMY, _DUMMY_MTU = "dummy0", 1500


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
        What is in them that is not modelled.
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
        Whether rules of iptables are those of ``ip6tables-save``.

    Raises
    ------
    InputError
        If a file cannot be read, or a line of it is no rule.
    """
    found = RuleDumps()
    for path in paths:
        text = read_text(path)
        if not text.strip():
            raise InputError(f"{path}: it is empty")
        unmodelled = _read(found, text, str(path), is_ipv6=is_ipv6)
        if unmodelled:
            names = ", ".join(f"{count} {name}" for name, count in sorted(unmodelled.items()))
            found.notices.append(f"{path}: not modelled, and so taken to match nothing or to do nothing: {names}")
    return found


def _read(found: RuleDumps, text: str, place: str, *, is_ipv6: bool) -> dict[str, int]:
    """Take in one text; what of it is not modelled, and how often."""
    match next((kind for kind, pattern in _KINDS if pattern.search(text)), "iptables"):
        case "ipset":
            found.ipsets |= read_ipsets(text, place)
        case "ipvsadm":
            records = read_ipvsadm(text, place)
            found.virtual_services = [*(found.virtual_services or []), *records]
            return {name: 1 for record in records for name in record.unmodelled()}
        case "nft":
            tables = read_nft(text, place)
            found.nftables.append(tables)
            return dict(tables.unmodelled())
        case _:
            rules = RuleSet.read(text, place, is_ipv6=is_ipv6)
            found.iptables.append(rules)
            return dict(rules.unmodelled())
    return {}
