"""What flannel's back ends share: the bridge, and the rules of its traffic manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.address import Prefix
from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.iptables import Table
from kubesim.kernel.netfilter.matches import Comment, Mark
from kubesim.kernel.netfilter.rule import Header, Rule
from kubesim.kernel.netfilter.targets import Accept, Jump, Masquerade, Return

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node
    from kubesim.kernel.namespace import Namespace

_MULTICAST = Prefix("224.0.0.0/4")
_KUBE_PROXY_MARK = 0x4000
_COMMENT = Comment("flanneld masq")


def install_rules(namespace: Namespace, node: Node, cluster: Cluster) -> None:
    """Append FLANNEL-POSTRTG and FLANNEL-FWD (pkg/trafficmngr/iptables/iptables.go)."""
    pods, own = Prefix(cluster.pod_cidr), Prefix(node.pod_cidr)
    comment = (_COMMENT,)
    masquerade = Chain(
        "FLANNEL-POSTRTG",
        [
            Rule(Return(), matches=(Mark(_KUBE_PROXY_MARK, _KUBE_PROXY_MARK), _COMMENT)),
            Rule(Return(), Header(source=own, destination=pods), comment),
            Rule(Return(), Header(source=pods, destination=own), comment),
            Rule(Return(), Header(source=pods, destination=own, not_source=True), comment),
            Rule(
                Masquerade(is_random=True), Header(source=pods, destination=_MULTICAST, not_destination=True), comment
            ),
            Rule(Masquerade(is_random=True), Header(source=pods, destination=pods, not_source=True), comment),
        ],
    )
    forward = Chain(
        "FLANNEL-FWD",
        [
            Rule(Accept(), Header(source=pods), (Comment("flanneld forward"),)),
            Rule(Accept(), Header(destination=pods), (Comment("flanneld forward"),)),
        ],
    )
    for name, base, chain in (("nat", "POSTROUTING", masquerade), ("filter", "FORWARD", forward)):
        table = Table.of(namespace, name)
        table.add_chain(chain)
        table.chain(base).append(
            Rule(Jump(chain.name), matches=(_COMMENT if name == "nat" else Comment("flanneld forward"),))
        )
