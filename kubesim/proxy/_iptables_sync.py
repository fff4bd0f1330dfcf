"""What kube-proxy hands to iptables-restore: everything at first, then only what has changed (KEP-3453)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        Leave out chains of Services that are as they were.

    Returns
    -------
    str
        Text for ``iptables-restore --noflush``.
    """
    known = _bodies(before) if before is not None else {}
    bodies = _bodies(rules)
    written = [name for name in bodies if not is_partial or known.get(name) != bodies[name]]
    removed = _stale_chains(bodies, known)
    nat_chains = [*rules.chains("nat"), *(chain for name in written for chain in bodies[name].chains), *removed]
    nat: list[str] = rules.first_rules("nat")
    for port, head in zip(rules.view, rules.heads, strict=True):
        nat += head.nat
        if port.name in written:
            nat += bodies[port.name].rules
    nat += [f"-X {chain}" for chain in removed] + rules.last_rules("nat")
    filter_rules = [*rules.first_rules("filter"), *rules.head_rules("filter"), *rules.last_rules("filter")]
    return "\n".join([*_table("filter", rules.chains("filter"), filter_rules), *_table("nat", nat_chains, nat), ""])


def _bodies(rules: IptablesRules) -> dict[str, Body]:
    """The chains of each service port that has any, by its name."""
    found = {port.name: rules.body(port) for port in rules.view}
    return {name: body for name, body in found.items() if body.chains or body.rules}


def _stale_chains(bodies: dict[str, Body], known: dict[str, Body]) -> list[str]:
    active = {chain for body in bodies.values() for chain in body.chains}
    return sorted({chain for body in known.values() for chain in body.chains} - active)


def _table(name: str, chains: list[str], rules: list[str]) -> Iterator[str]:
    yield f"*{name}"
    yield from (f":{chain} - [0:0]" for chain in chains)
    yield from rules
    yield "COMMIT"
