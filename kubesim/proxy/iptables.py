"""kube-proxy in iptables mode, as of Kubernetes v1.30.3 (pkg/proxy/iptables/proxier.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import BaseModel, Field

from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.iptables import LEGACY, NFT, Table
from kubesim.kernel.netfilter.ruleset import RuleSet
from kubesim.kernel.netfilter.syntax import RuleText, parse_rule
from kubesim.proxy import RuleUpdate
from kubesim.proxy._iptables_rules import FIREWALL_CHAIN, JUMPS, IptablesRules
from kubesim.proxy._iptables_sync import restore_text, rule_count
from kubesim.proxy._kube_proxy import KubeProxySettings, NodeView, SharedRules

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node
    from kubesim.kernel.namespace import Namespace
    from kubesim.proxy import Family


class Settings(KubeProxySettings):
    """Settings of the iptables mode."""

    backend: Literal["legacy", "nft"] = Field(
        default="legacy", description="which iptables: rules tested by ip_tables, or by nf_tables (iptables-nft)"
    )


class Plugin:
    """Writes the tables ``nat`` and ``filter``."""

    settings_model: ClassVar[type[BaseModel]] = Settings
    is_headless: ClassVar[bool] = False
    tells_pods_apart: ClassVar[bool] = False
    forms: ClassVar[tuple[str, ...]] = ("restore", "save")

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._rules = SharedRules(cluster, settings, _Chains)

    def install(self, namespace: Namespace, node: Node) -> None:
        """Add the chains, which nodes share, and the jumps to them, which are put in front of what is there."""
        chains = self._rules.of(node)
        for name in ("filter", "nat"):
            table = Table.of(namespace, name)
            table.backend = LEGACY if self._settings.backend == "legacy" else NFT
            for chain in chains.fixed[name].values():
                table.add_chain(chain)
        for name, base, chain_name, matches in JUMPS:
            rule = parse_rule(f"-A {base} {matches}-j {chain_name}").rule
            Table.of(namespace, name).chain(base).prepend(rule)
        Table.of(namespace, "nat").add_builder(chains.build)

    def text(self, node: Node, form: str, family: Family) -> str:
        """What the first sync hands to ``iptables-restore --noflush``, or what ``iptables-save`` prints after it."""
        restore = restore_text(self.rules(node, family))
        return restore if form == "restore" else _saved(restore, is_ipv6=family == "ipv6")

    def sync(self, node: Node, before: Plugin, family: Family, *, is_partial: bool) -> str:
        """What the sync after a change hands to ``iptables-restore --noflush``."""
        return restore_text(self.rules(node, family), before.rules(node, family), is_partial=is_partial)

    def update(self, node: Node, before: Plugin | None, *, is_partial: bool) -> RuleUpdate:
        """What the sync after a change hands to iptables-restore, which then replaces whole tables.

        To know chains that nobody needs it reads table nat first (iptables-save), in a large cluster not at each sync:
        there that is left out here. A full sync makes sure of chains and jumps, one call of iptables for each.
        """
        rules = self.rules(node)
        text = restore_text(rules, None if before is None else before.rules(node), is_partial=is_partial)
        written = text.count("\n-A ")
        there = rule_count(rules) + len(JUMPS)
        if self._settings.backend == "nft":
            operations = {"iptables_nft_restore": written}
        else:
            operations = {"iptables_restore": written, "iptables_replace_table": there}
        operations |= _reads(
            self._settings.backend, rules, None if before is None else before.rules(node), is_partial=is_partial
        )
        return RuleUpdate(written, len(text), operations)

    def rules(self, node: Node, family: Family = "ipv4") -> IptablesRules:
        """The rules of a node, Service by Service."""
        return IptablesRules(NodeView(self._cluster, self._settings, node, family))


def _reads(backend: str, rules: IptablesRules, before: IptablesRules | None, *, is_partial: bool) -> dict[str, int]:
    """The operations of a sync besides iptables-restore."""
    found = {}
    if not rules.is_large:
        save = "iptables_save" if backend == "legacy" else "iptables_nft_save"
        found[save] = 0 if before is None else rule_count(before, ("nat",))
    if before is None or not is_partial:
        calls_per_jump = 2 if before is not None else 3  # the chain, a look for the jump, and the jump
        found["iptables_check"] = calls_per_jump * len(JUMPS)
    return found


def _saved(restore: str, *, is_ipv6: bool) -> str:
    """What is in the kernel after the jumps and the rules have been written."""
    rules = RuleSet(is_ipv6=is_ipv6)
    rules.table("nat")
    rules.restore(restore, "rules")
    for table, base, chain, matches in JUMPS:
        rules.table(table).setdefault(chain, Chain(chain))
        rules.table(table)[base].prepend(parse_rule(f"-A {base} {matches}-j {chain}").rule)
    return rules.save()


class _Chains:
    """The chains that nodes with the same view of the Services share: fixed ones, and Services' when first walked."""

    def __init__(self, view: NodeView) -> None:
        self._rules = rules = IptablesRules(view)
        self._built: dict[str, Chain] = {}
        self.fixed = {table: {name: Chain(name) for name in rules.chains(table)} for table in ("filter", "nat")}
        self.fixed["filter"].setdefault(FIREWALL_CHAIN, Chain(FIREWALL_CHAIN))
        for table, chains in self.fixed.items():
            for line in rules.first_rules(table):
                _append(chains, line)
            for port, head in zip(view, rules.heads, strict=True):
                lines = head.nat if table == "nat" else head.filter
                if len(lines) == 1 and f" -d {port.cluster_ip} " in lines[0]:
                    _append(chains, lines[0], port.cluster_ip)
                else:
                    for line in lines:
                        _append(chains, line)
            for line in rules.last_rules(table):
                _append(chains, line)

    def build(self, name: str) -> Chain | None:
        """A chain of a Service or an endpoint, made when a packet first comes to its Service."""
        if name not in self._built:
            body = self._rules.body_of_chain(name)
            if body is None:
                return None
            made = {chain: Chain(chain) for chain in body.chains}
            for line in body.rules:
                made[_chain_of(line)].append(RuleText(line))
            self._built |= made
        return self._built.get(name)


def _append(chains: dict[str, Chain], line: str, destination: str | None = None) -> None:
    """Append a rule to the chain it is for: as text where its only destination is known, else read at once."""
    chains[_chain_of(line)].append(parse_rule(line).rule if destination is None else RuleText(line, destination))


def _chain_of(line: str) -> str:
    return line[3 : line.index(" ", 3)]
