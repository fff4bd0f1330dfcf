"""kube-proxy in nftables mode, as of Kubernetes v1.30.3 (pkg/proxy/nftables/proxier.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import BaseModel

from kubesim.errors import InputError, did_you_mean
from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.hooks import Hook
from kubesim.kernel.netfilter.nft_rule import parse_nft_rule
from kubesim.kernel.netfilter.nft_sets import NftSet
from kubesim.kernel.netfilter.nftables import NftTable
from kubesim.proxy import RuleUpdate
from kubesim.proxy._kube_proxy import KubeProxySettings, NodeView, SharedRules
from kubesim.proxy._kube_proxy.settings import family_of
from kubesim.proxy._nftables_rules import (
    BASE_CHAINS,
    CHAIN_COMMENTS,
    CLUSTER_IPS,
    NODE_CHAINS,
    NODE_PORT_IPS,
    TABLE,
    NftablesRules,
)
from kubesim.proxy._nftables_text import table_text, transaction_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kubesim.cluster import Cluster, Node
    from kubesim.kernel.namespace import Namespace
    from kubesim.proxy import Family


class Settings(KubeProxySettings):
    """Settings of the nftables mode."""


class Plugin:
    """Writes the table ``ip kube-proxy``."""

    settings_model: ClassVar[type[BaseModel]] = Settings
    is_headless: ClassVar[bool] = False
    tells_pods_apart: ClassVar[bool] = False
    forms: ClassVar[tuple[str, ...]] = ("nft",)

    def __init__(self, cluster: Cluster, settings: Settings) -> None:
        self._cluster = cluster
        self._settings = settings
        self._shared = SharedRules(cluster, settings, _SharedChains)

    def install(self, namespace: Namespace, node: Node) -> None:
        """Add the table; nodes share its chains but for those that say which addresses are the node's own."""
        table = NftTable(namespace, TABLE, _NodeChains(self._shared.of(node), node).chain)
        for name, kind, hook, priority in BASE_CHAINS:
            table.add_base_chain(name, kind, Hook[hook.upper()], priority)

    def rules(self, node: Node, family: Family = "ipv4") -> NftablesRules:
        """The rules of a node."""
        return NftablesRules(NodeView(self._cluster, self._settings, node, family))

    def text(self, node: Node, form: str = "nft", family: Family = "ipv4", *, stale_chains: Iterable[str] = ()) -> str:
        """The table of a node as commands for ``nft -f``; of chains of earlier syncs see :func:`table_text`."""
        if form not in self.forms:
            raise InputError(f"there is no form {form!r} of nftables: {did_you_mean(form, self.forms)}")
        return table_text(self.rules(node, family), stale_chains)

    def update(self, node: Node, before: Plugin | None, *, is_partial: bool) -> RuleUpdate:  # noqa: ARG002 - a protocol
        """What the sync after a change hands to nft: in v1.30 always everything, in one transaction.

        Before that it lists all chains, to know those that nobody needs.
        """
        size = transaction_size(self.rules(node))
        operations = {
            "nft_chain_list": 0,
            "nft_transaction": 1,
            "nft_rule_write": size.rules,
            "nft_chain_write": size.chains,
            "nft_element_write": size.elements,
        }
        if before is not None:
            there = transaction_size(before.rules(node))
            operations |= {
                "nft_chain_list": there.chains,
                "nft_chain_flush": there.chains,
                "nft_element_delete": there.elements,
            }
        return RuleUpdate(size.rules + size.elements, size.text_bytes, operations)


class _SharedChains:
    """The chains, sets and maps that nodes with the same view of the Services share; read when first walked."""

    def __init__(self, view: NodeView) -> None:
        self.rules = rules = NftablesRules(view)
        self.texts = rules.fixed_chains()
        self.sets = {CLUSTER_IPS: NftSet(CLUSTER_IPS, ["address"], rules.cluster_ips)}
        for name, elements in rules.maps.items():
            kinds = ["protocol", "port"] if "nodeports" in name else ["address", "protocol", "port"]
            self.sets[name] = NftSet(name, kinds, elements, is_map=True)
        self._chains: dict[str, Chain] = {}

    def chain(self, name: str) -> Chain:
        """A chain that looks at no node's addresses."""
        found = self._chains.get(name)
        if found is None:
            if name not in self.texts:
                self._write(name)
            found = self._chains[name] = read_chain(name, self.texts[name], self.sets)
        return found

    def _write(self, name: str) -> None:
        """Write all chains of the service port that a chain is of."""
        port = self.rules.port_of_chain(name)
        if port is None:
            raise KeyError(f"table {TABLE} has no chain {name}")
        body = self.rules.body(port)
        self.texts |= body.chains
        for affinity in body.sets:
            self.sets[affinity] = NftSet(affinity, ["address"], is_dynamic=True)


class _NodeChains:
    """The chains of one node."""

    def __init__(self, shared: _SharedChains, node: Node) -> None:
        self._shared = shared
        self._node = node
        self._chains: dict[str, Chain] = {}

    def chain(self, name: str) -> Chain:
        """A chain, shared with other nodes if it can be."""
        if name not in NODE_CHAINS:
            return self._shared.chain(name)
        found = self._chains.get(name)
        if found is None:
            own = NftSet(NODE_PORT_IPS, ["address"], dict.fromkeys(self._addresses()))
            found = read_chain(name, self._shared.texts[name], self._shared.sets | {NODE_PORT_IPS: own})
            self._chains[name] = found
        return found

    def _addresses(self) -> list[str]:
        """Where node ports are: rules shared by nodes leave that to each node's first address."""
        view = self._shared.rules.view
        if view.node is self._node or view.settings.node_port_addresses:
            return self._shared.rules.node_port_ips() or []
        own = self._node.addresses or (self._node.address,)
        return [one for one in own if family_of(one) == view.family][:1]


def read_chain(name: str, rules: Iterable[str], sets: dict[str, NftSet]) -> Chain:
    """Read a chain from its rules' text; what a chain's comment says, its rules say too."""
    read = [parse_nft_rule(rule, sets.get) for rule in rules]
    for rule in read:
        rule.note = rule.note or CHAIN_COMMENTS.get(name, "")
    return Chain(name, read)
