"""kube-proxy in IPVS mode, as of Kubernetes v1.30.3 (pkg/proxy/ipvs/proxier.go)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel, Field, field_validator

from kubesim.errors import InputError, did_you_mean
from kubesim.kernel.dummy import Dummy
from kubesim.kernel.ipvs.virtual_server import Ipvs
from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.ipset import install_ipsets
from kubesim.kernel.netfilter.iptables import Table
from kubesim.kernel.netfilter.ruleset import RuleSet
from kubesim.kernel.netfilter.syntax import parse_rule
from kubesim.proxy import RuleUpdate
from kubesim.proxy._ipvs_reads import reads
from kubesim.proxy._ipvs_rules import CHAINS, JUMPS, jumps
from kubesim.proxy._ipvs_services import NodeTables, ServiceTables
from kubesim.proxy._kube_proxy import KUBE_PROXY_SCHEDULERS, KubeProxySettings, NodeView, SharedRules, checked_scheduler

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node
    from kubesim.kernel.ipvs.virtual_server import ServiceKey, VirtualService
    from kubesim.kernel.namespace import Namespace
    from kubesim.proxy._ipvs_rules import IpvsRules
    from kubesim.proxy._kube_proxy.settings import Family

DEVICE = "kube-ipvs0"
_DEVICE_MTU = 1500


class Settings(KubeProxySettings):
    """Settings of the IPVS mode."""

    scheduler: str = Field(default="rr", description="how a real server is chosen: " + ", ".join(KUBE_PROXY_SCHEDULERS))

    @field_validator("scheduler")
    @classmethod
    def _is_known(cls, name: str) -> str:
        return checked_scheduler(name)


class Plugin:
    """Binds virtual addresses to ``kube-ipvs0``, makes virtual services, and writes the fixed rules around them."""

    settings_model: ClassVar[type[BaseModel]] = Settings
    is_headless: ClassVar[bool] = False
    tells_pods_apart: ClassVar[bool] = False
    forms: ClassVar[tuple[str, ...]] = ("ipvsadm", "ipset", "addresses", "restore", "save")

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._fleet = cluster.fleet
        self._given = replace(cluster, fleet=None)
        self._settings = settings
        self._tables = SharedRules(self._given, settings, ServiceTables)
        self._chains: dict[str, dict[str, list[Chain]]] = {}

    def install(self, namespace: Namespace, node: Node) -> None:
        """Write the node's addresses, sets, rules and virtual services."""
        tables = NodeTables(self._tables.of(node), node, self._fleet, self._settings.scheduler)
        device = Dummy(namespace, DEVICE, _DEVICE_MTU)
        namespace.add_local_addresses(device, tables.addresses)
        if tables.fleet is not None:
            namespace.add_local_addresses(device, tables.fleet.addresses)
        install_ipsets(namespace, tables.ipsets())
        for name, chains in self._shared_chains(tables.rules()).items():
            for chain in chains:
                Table.of(namespace, name).add_chain(chain)
        for name, base, chain_name, comment in JUMPS:
            rule = parse_rule(f'-A {base} -m comment --comment "{comment}" -j {chain_name}').rule
            Table.of(namespace, name).chain(base).prepend(rule)
        Ipvs(namespace, lambda key: _virtual_service(tables, key), tables.bucket_sizes())

    def text(self, node: Node, form: str, family: Family) -> str:
        """Virtual services, sets, addresses or rules of a node, in one of the forms."""
        match form:
            case "ipvsadm":
                return self.ipvsadm(node, family)
            case "ipset":
                return self.ipsets(node, family)
            case "addresses":
                return self.addresses(node, family)
            case "restore":
                return self.restore(node, family)
            case "save":
                return _saved(self.restore(node, family), is_ipv6=family == "ipv6")
        raise InputError(f"there is no form {form!r} of ipvs: {did_you_mean(form, self.forms)}")

    def update(self, node: Node, before: Plugin | None, *, is_partial: bool) -> RuleUpdate:  # noqa: ARG002 - a protocol
        """What the sync after a change reads, and what it hands over: fixed rules, changes in sets and servers.

        kube-proxy runs ``ipset`` once for each entry, and sends servers and addresses by netlink. What there is it
        reads again at each sync.
        """
        restore = self.restore(node)
        now, old = self.tables(node), None if before is None else before.tables(node)
        changes = now.changes(old)
        written = restore.count("\n-A ")
        operations = {"iptables_restore": written, "iptables_replace_table": written + len(JUMPS)}
        rules = written + sum(changes.operations.values())
        return RuleUpdate(rules, len(restore) + changes.text_bytes, operations | changes.operations | reads(now, old))

    def restore(self, node: Node, family: Family = "ipv4") -> str:
        """What a sync hands to ``iptables-restore --noflush --counters``."""
        return self.tables(node, family).rules().restore()

    def ipsets(self, node: Node, family: Family = "ipv4") -> str:
        """The sets, as text for ``ipset restore``: in kube-proxy's order, entries sorted."""
        return "".join(ipset.save() for ipset in self.tables(node, family).ipsets())

    def ipvsadm(self, node: Node, family: Family = "ipv4") -> str:
        """The virtual services and their real servers, as ``ipvsadm -Sn`` prints them, sorted."""
        return "".join(record.save() for record in self.tables(node, family).records())

    def addresses(self, node: Node, family: Family = "ipv4") -> str:
        """The addresses on ``kube-ipvs0``, one a line, sorted as text."""
        tables = self.tables(node, family)
        fleet = () if tables.fleet is None else tables.fleet.addresses
        return "".join(f"{address}\n" for address in sorted([*tables.addresses, *fleet]))

    @staticmethod
    def jumps() -> str:
        """The calls of ``iptables`` before the restore, one a line: chains, and jumps that are put in front."""
        return jumps()

    def tables(self, node: Node, family: Family = "ipv4") -> NodeTables:
        """Virtual services, sets, addresses and rules of a node."""
        tables = ServiceTables(NodeView(self._given, self._settings, node, family))
        return NodeTables(tables, node, self._fleet if family == "ipv4" else None, self._settings.scheduler)

    def _shared_chains(self, rules: IpvsRules) -> dict[str, list[Chain]]:
        """The chains that rules are in, read once for all nodes that have the same."""
        text = rules.restore()
        if text not in self._chains:
            self._chains[text] = {}
            for table, lines in (("nat", rules.nat()), ("filter", rules.filter())):
                chains = {name: Chain(name) for name in CHAINS[table]}
                for line in lines:
                    name, rule = parse_rule(line)
                    chains[name].append(rule)
                self._chains[text][table] = list(chains.values())
        return self._chains[text]


def _saved(restore: str, *, is_ipv6: bool) -> str:
    """What ``iptables-save`` prints after the jumps and the rules have been written."""
    rules = RuleSet(is_ipv6=is_ipv6)
    rules.restore(restore, "rules")
    for table, base, chain, comment in JUMPS:
        rule = parse_rule(f'-A {base} -m comment --comment "{comment}" -j {chain}').rule
        rules.table(table)[base].prepend(rule)
    return rules.save()


def _virtual_service(tables: NodeTables, key: ServiceKey) -> VirtualService | None:
    """A virtual service, made when a packet first asks for it."""
    record = tables.record(key)
    return None if record is None else record.virtual_service()
