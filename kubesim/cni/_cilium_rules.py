"""The rules that Cilium's agent writes beside its programs, in front of all others (pkg/datapath/iptables).

Without those for its proxies of layer 7, which nothing here has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.ipset import IpSet, install_ipsets
from kubesim.kernel.netfilter.iptables import Table
from kubesim.kernel.netfilter.syntax import parse_rule

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node
    from kubesim.kernel.namespace import Namespace

_NODES = "cilium_node_set_v4"
_PROXY = "-m comment --comment 'cilium: ACCEPT for proxy traffic' -j ACCEPT"
_INPUT = (f"-m mark --mark 0x200/0xf00 {_PROXY}",)
_OUTPUT = (
    f"-m mark --mark 0xa00/0xe00 {_PROXY}",
    "-m mark --mark 0x800/0xe00 -m comment --comment 'cilium: ACCEPT for l7 proxy upstream traffic' -j ACCEPT",
)
_FORWARD = (
    "-o cilium_host -m comment --comment 'cilium: any->cluster on cilium_host forward accept' -j ACCEPT",
    "-i cilium_host -m comment --comment 'cilium: cluster->any on cilium_host forward accept (nodeport)' -j ACCEPT",
    "-i lxc+ -m comment --comment 'cilium: cluster->any on lxc+ forward accept' -j ACCEPT",
    "-o lxc+ -m comment --comment 'cilium: any->cluster on lxc+ forward accept' -j ACCEPT",
)
_FEEDERS = (
    ("filter", "INPUT", "CILIUM_INPUT"),
    ("filter", "OUTPUT", "CILIUM_OUTPUT"),
    ("filter", "FORWARD", "CILIUM_FORWARD"),
    ("nat", "POSTROUTING", "CILIUM_POST_nat"),
)


def install_rules(namespace: Namespace, node: Node, cluster: Cluster) -> None:
    """Write the chains, and jumps to them."""
    install_ipsets(namespace, [IpSet(_NODES, "hash:ip", {(one.address,) for one in cluster.nodes})])
    bodies = {
        "CILIUM_INPUT": _INPUT,
        "CILIUM_OUTPUT": _OUTPUT,
        "CILIUM_FORWARD": _FORWARD,
        "CILIUM_POST_nat": _masquerading(node, cluster),
    }
    for table, base, name in _FEEDERS:
        chain = Chain(name)
        for body in bodies[name]:
            chain.append(parse_rule(f"-A {name} {body}").rule)
        Table.of(namespace, table).add_chain(chain)
        jump = f"-A {base} -m comment --comment 'cilium-feeder: {name}' -j {name}"
        Table.of(namespace, table).chain(base).prepend(parse_rule(jump).rule)


def _masquerading(node: Node, cluster: Cluster) -> tuple[str, ...]:
    """Pods' packets leave the cluster under their node's address, but for those to other nodes."""
    exclude = "-m comment --comment 'exclude traffic to cluster nodes from masquerade' -j ACCEPT"
    masquerade = "-m comment --comment 'cilium masquerade non-cluster' -j MASQUERADE"
    return (
        f"-s {node.pod_cidr} -m set --match-set {_NODES} dst {exclude}",
        f"-s {node.pod_cidr} ! -d {cluster.pod_cidr} ! -o cilium_+ {masquerade}",
    )
