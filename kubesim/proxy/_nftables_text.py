"""What kube-proxy's table looks like as commands of nft: one line for each object, sorted as knftables prints them."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from kubesim.proxy._nftables_rules import (
    BASE_CHAINS,
    CHAIN_COMMENTS,
    CLUSTER_IPS,
    MAP_COMMENTS,
    NODE_PORT_IPS,
    SET_COMMENTS,
    TABLE,
    Body,
    NftablesRules,
)

MOST_WRITTEN = 500
"""Ports of Services made by number that are written to know the length of the text."""

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def table_text(rules: NftablesRules, stale_chains: Iterable[str] = ()) -> str:
    """Commands that make the whole table of a node.

    Parameters
    ----------
    rules
        The node's rules.
    stale_chains
        Chains of earlier syncs: kube-proxy empties those that are not needed any more, and deletes them in a sync a
        second later or more, since kernels before 6.2 may hold them in use until then.

    Returns
    -------
    str
        Text for ``nft -f``.
    """
    body = Body({name: [] for name in stale_chains})
    for port in rules.view:
        of_port = rules.body(port)
        body.chains |= of_port.chains
        body.sets |= of_port.sets
    body.chains |= rules.fixed_chains()
    lines = [
        f'add table {rules.family} {TABLE} {{ comment "rules for kube-proxy" ; }}',
        *_chains(rules, body),
        *_sets(rules, body),
        *_rules(rules, body),
        *_elements(rules),
    ]
    return "\n".join([*lines, ""])


@dataclass(frozen=True, slots=True)
class TransactionSize:
    """What one sync hands to nft.

    Parameters
    ----------
    rules, chains, elements
        How many of each, elements of sets and of maps.
    text_bytes
        Length of the text.
    """

    rules: int
    chains: int
    elements: int
    text_bytes: int


def transaction_size(rules: NftablesRules) -> TransactionSize:
    """The size of a sync, which in v1.30 writes everything: each chain is emptied and filled again.

    Ports of Services made by number are alike: of many of them, some are written, and stand for the others.
    """
    alike = [port for port in rules.view if rules.view.has_endpoints_everywhere(port)]
    step = -(-len(alike) // MOST_WRITTEN) or 1
    written = {port.name for port in alike[::step]}
    whole = _size(rules, Body(dict(rules.fixed_chains())))
    of_alike = TransactionSize(0, 0, 0, 0)
    for port in rules.view:
        is_alike = rules.view.has_endpoints_everywhere(port)
        if is_alike and port.name in written:
            of_alike = _sum(of_alike, _size(rules, rules.body(port)))
        elif not is_alike:
            whole = _sum(whole, _size(rules, rules.body(port)))
    elements = [*_elements(rules)]
    text_bytes = sum(map(len, [*_sets(rules, Body()), *elements])) + len(elements)
    whole = _sum(whole, TransactionSize(0, 0, len(elements), text_bytes))
    return _sum(whole, of_alike, len(alike) / max(1, len(written)))


def _sum(one: TransactionSize, other: TransactionSize, times: float = 1) -> TransactionSize:
    """One size and some times another."""
    pairs = zip(astuple(one), astuple(other), strict=True)
    return TransactionSize(*(here + round(more * times) for here, more in pairs))


def _size(rules: NftablesRules, body: Body) -> TransactionSize:
    """The size of the lines that make some chains, empty and fill them."""
    lines = [*_rules(rules, body), *_chains(rules, body)]
    lines += [f"flush chain {rules.family} {TABLE} {chain}" for chain in body.chains]
    text_bytes = sum(map(len, lines)) + len(lines)
    return TransactionSize(sum(map(len, body.chains.values())), len(body.chains), 0, text_bytes)


def service_chains(rules: NftablesRules) -> set[str]:
    """The chains of Services and endpoints: what is stale when a later sync does not need it."""
    return {chain for port in rules.view for chain in rules.body(port).chains}


def _chains(rules: NftablesRules, body: Body) -> Iterator[str]:
    bases = {name: f"type {kind} hook {hook} priority {priority} ;" for name, kind, hook, priority in BASE_CHAINS}
    comments = {name: f'comment "{comment}" ;' for name, comment in CHAIN_COMMENTS.items()}
    options = {name: f" {{ {text} }}" for name, text in (bases | comments).items()}
    for name in sorted(body.chains):
        yield f"add chain {rules.family} {TABLE} {name}{options.get(name, '')}"


def _sets(rules: NftablesRules, body: Body) -> Iterator[str]:
    address = "ipv6_addr" if rules.family == "ip6" else "ipv4_addr"
    options = {name: f'comment "{comment}" ;' for name, comment in SET_COMMENTS.items()}
    if rules.node_port_ips() is None:
        del options[NODE_PORT_IPS]
    options |= {name: f"flags dynamic,timeout ; timeout {timeout_s}s ;" for name, timeout_s in body.sets.items()}
    for name in sorted(options):
        yield f"add set {rules.family} {TABLE} {name} {{ type {address} ; {options[name]} }}"
    for name, comment in sorted(MAP_COMMENTS.items()):
        key = "inet_proto . inet_service" if "nodeports" in name else f"{address} . inet_proto . inet_service"
        yield f'add map {rules.family} {TABLE} {name} {{ type {key} : verdict ; comment "{comment}" ; }}'


def _rules(rules: NftablesRules, body: Body) -> Iterator[str]:
    for chain in sorted(body.chains):
        for rule in body.chains[chain]:
            yield f"add rule {rules.family} {TABLE} {chain} {rule}"


def _elements(rules: NftablesRules) -> Iterator[str]:
    start = f"add element {rules.family} {TABLE}"
    for address in rules.cluster_ips:
        yield f"{start} {CLUSTER_IPS} {{ {address} }}"
    for address in rules.node_port_ips() or ():
        yield f"{start} {NODE_PORT_IPS} {{ {address} }}"
    for name in sorted(rules.maps):
        comments = rules.comments[name]
        for key, verdict in rules.maps[name].items():
            comment = f' comment "{comments[key]}"' if key in comments else ""
            yield f"{start} {name} {{ {key}{comment} : {verdict} }}"
