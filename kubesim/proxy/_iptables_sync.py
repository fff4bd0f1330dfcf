"""What kube-proxy hands to iptables-restore: everything at first, then only what has changed (KEP-3453)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Iterable, Iterator

    from kubesim.proxy._iptables_rules import Body, IptablesRules


def restore_text(rules: IptablesRules, before: IptablesRules | None = None, *, is_partial: bool = False) -> str:
    """The text of one sync.

    Parameters
    ----------
    rules
        What is to be.
    before
        What the last sync wrote, None for the first one: its chains that are not needed any more are removed.
    is_partial
        Leave out chains of Services that are as they were: a Service's ports are written together, where what
        kube-proxy keeps of any of them has changed, or of any endpoint, whether or not it is used on the node.

    Returns
    -------
    str
        Text for ``iptables-restore --noflush``.
    """
    known = {} if before is None else _signatures(before)
    now = _signatures(rules)
    changed = {name for name in known.keys() | now.keys() if known.get(name) != now.get(name)}
    bodies = {port.name: rules.body(port) for port in rules.view if not is_partial or port.service.full_name in changed}
    removed = [] if before is None else _stale_chains(rules, before, changed)
    nat_chains = [*rules.chains("nat"), *(chain for body in bodies.values() for chain in body.chains), *removed]
    nat: list[str] = rules.first_rules("nat")
    for port, head in zip(rules.view, rules.heads, strict=True):
        nat += head.nat
        if port.name in bodies:
            nat += bodies[port.name].rules
    nat += [f"-X {chain}" for chain in removed] + rules.last_rules("nat")
    filter_rules = [*rules.first_rules("filter"), *rules.head_rules("filter"), *rules.last_rules("filter")]
    return "\n".join([*_table("filter", rules.chains("filter"), filter_rules), *_table("nat", nat_chains, nat), ""])


def rule_count(rules: IptablesRules, tables: Collection[str] = ("filter", "nat")) -> int:
    """Rules in the kernel after a sync, the jumps from the base chains left out; of ``nat`` at least."""
    count = sum(len(rules.first_rules(table)) + len(rules.last_rules(table)) for table in tables)
    alike: int | None = None  # ports of Services made by number have as many rules each
    for port, head in zip(rules.view, rules.heads, strict=True):
        count += len(head.nat) + (len(head.filter) if "filter" in tables else 0)
        is_alike = rules.view.has_endpoints_everywhere(port)
        if not is_alike or alike is None:
            body = len(rules.body(port).rules)
            alike = body if is_alike else alike
        else:
            body = alike
        count += body
    return count


def _signatures(rules: IptablesRules) -> dict[str, dict[str, Hashable]]:
    """What the maps of Services and of endpoints hold, by the Service's name and the port's."""
    found: dict[str, dict[str, Hashable]] = {}
    for port in rules.view:
        found.setdefault(port.service.full_name, {})[port.name] = (port.info, rules.view.endpoint_infos(port))
    return found


def _stale_chains(rules: IptablesRules, before: IptablesRules, changed: set[str]) -> list[str]:
    """Chains of Services that are gone or have changed, and that nobody needs now."""
    old, new = (
        _chains(one.body(port) for port in one.view if port.service.full_name in changed) for one in (before, rules)
    )
    return sorted(old - new)


def _chains(bodies: Iterable[Body]) -> set[str]:
    return {chain for body in bodies for chain in body.chains}


def _table(name: str, chains: list[str], rules: list[str]) -> Iterator[str]:
    yield f"*{name}"
    yield from (f":{chain} - [0:0]" for chain in chains)
    yield from rules
    yield "COMMIT"
