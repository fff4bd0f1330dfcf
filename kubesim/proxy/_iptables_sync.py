"""What kube-proxy hands to iptables-restore: everything at first, then only what has changed (KEP-3453)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kubesim.proxy._iptables_rules import Body, IptablesRules
    from kubesim.proxy._kube_proxy import Endpoints, PortView


def restore_text(rules: IptablesRules, before: IptablesRules | None = None, *, is_partial: bool = False) -> str:
    """The text of one sync.

    Parameters
    ----------
    rules
        What is to be.
    before
        What the last sync wrote, None for the first one: its chains that are not needed any more are removed.
    is_partial
        Leave out chains of Services that are as they were.

    Returns
    -------
    str
        Text for ``iptables-restore --noflush``.
    """
    known = {} if before is None else _signatures(before)
    bodies = {
        port.name: rules.body(port)
        for port in rules.view
        if not (is_partial and port.name in known and known[port.name] == _signature(rules, port))
    }
    removed = [] if before is None else _stale_chains(rules, before, known)
    nat_chains = [*rules.chains("nat"), *(chain for body in bodies.values() for chain in body.chains), *removed]
    nat: list[str] = rules.first_rules("nat")
    for port, head in zip(rules.view, rules.heads, strict=True):
        nat += head.nat
        if port.name in bodies:
            nat += bodies[port.name].rules
    nat += [f"-X {chain}" for chain in removed] + rules.last_rules("nat")
    filter_rules = [*rules.first_rules("filter"), *rules.head_rules("filter"), *rules.last_rules("filter")]
    return "\n".join([*_table("filter", rules.chains("filter"), filter_rules), *_table("nat", nat_chains, nat), ""])


def rule_count(rules: IptablesRules) -> int:
    """Rules in the kernel after a sync, the jumps from the base chains left out."""
    count = sum(len(rules.first_rules(table)) + len(rules.last_rules(table)) for table in ("filter", "nat"))
    alike: int | None = None  # ports of Services made by number have as many rules each
    for port, head in zip(rules.view, rules.heads, strict=True):
        count += len(head.nat) + len(head.filter)
        is_alike = rules.view.has_endpoints_everywhere(port)
        if not is_alike or alike is None:
            body = len(rules.body(port).rules)
            alike = body if is_alike else alike
        else:
            body = alike
        count += body
    return count


_Signature = tuple["PortView", "Endpoints | None"]


def _signature(rules: IptablesRules, port: PortView) -> _Signature:
    """What a port's chains follow from."""
    return port, rules.endpoints(port)


def _signatures(rules: IptablesRules) -> dict[str, _Signature]:
    return {port.name: _signature(rules, port) for port in rules.view}


def _stale_chains(rules: IptablesRules, before: IptablesRules, known: dict[str, _Signature]) -> list[str]:
    """Chains of Services that are gone or have changed, and that nobody needs now."""
    now = {port.name: port for port in rules.view}
    stale: set[str] = set()
    for name, signature in known.items():
        if name not in now:
            stale |= _chains([before.body(signature[0])])
        elif signature != _signature(rules, now[name]):
            stale |= _chains([before.body(signature[0])]) - _chains([rules.body(now[name])])
    return sorted(stale)


def _chains(bodies: Iterable[Body]) -> set[str]:
    return {chain for body in bodies for chain in body.chains}


def _table(name: str, chains: list[str], rules: list[str]) -> Iterator[str]:
    yield f"*{name}"
    yield from (f":{chain} - [0:0]" for chain in chains)
    yield from rules
    yield "COMMIT"
