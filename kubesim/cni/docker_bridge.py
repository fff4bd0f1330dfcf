"""Docker's default network: containers hang on ``docker0``, and what leaves the node has the node's address."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from kubesim.cni._linux_bridge import BridgeSettings, attach_to_bridge, install_bridge
from kubesim.errors import InputError
from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.iptables import Table
from kubesim.kernel.netfilter.syntax import parse_rule

if TYPE_CHECKING:
    from pydantic import BaseModel

    from kubesim.cluster import Cluster, Node, Pod
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.nic import Nic

DEVICE = "docker0"

_RULES = {
    "nat": (
        "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
        "-A OUTPUT -m addrtype --dst-type LOCAL -j DOCKER",
        f"-A POSTROUTING -o {DEVICE} -m addrtype --src-type LOCAL -j MASQUERADE",
        f"-A POSTROUTING -s {{range}} ! -o {DEVICE} -j MASQUERADE",
    ),
    "filter": (
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -j DOCKER-FORWARD",
        f"-A DOCKER ! -i {DEVICE} -o {DEVICE} -j DROP",
        f"-A DOCKER-BRIDGE -o {DEVICE} -j DOCKER",
        f"-A DOCKER-CT -o {DEVICE} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A DOCKER-FORWARD -j DOCKER-CT",
        "-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1",
        "-A DOCKER-FORWARD -j DOCKER-BRIDGE",
        f"-A DOCKER-FORWARD -i {DEVICE} -j ACCEPT",
        f"-A DOCKER-ISOLATION-STAGE-1 -i {DEVICE} ! -o {DEVICE} -j DOCKER-ISOLATION-STAGE-2",
        f"-A DOCKER-ISOLATION-STAGE-2 -o {DEVICE} -j DROP",
    ),
}
"""What Docker Engine 28 writes with ``"userland-proxy": false`` and no published port."""

_CHAINS = {
    "nat": ("DOCKER",),
    "filter": (
        "DOCKER",
        "DOCKER-BRIDGE",
        "DOCKER-CT",
        "DOCKER-FORWARD",
        "DOCKER-ISOLATION-STAGE-1",
        "DOCKER-ISOLATION-STAGE-2",
        "DOCKER-USER",
    ),
}


class Plugin:
    """Writes ``docker0`` and Docker's chains on the only node.

    A container that calls itself by a Service gets its packets back by the port they came from (hairpin mode), as with
    ``"userland-proxy": false``; ``docker-proxy``, a process that relays published ports, is left out.
    """

    settings_model: ClassVar[type[BaseModel]] = BridgeSettings

    def __init__(self, cluster: Cluster, settings: BridgeSettings, underlay_mtu: int) -> None:
        nodes = len(cluster.nodes)
        if nodes > 1:
            raise InputError(
                f"cni: docker-bridge joins containers of one node only, and cluster.nodes is {nodes}: "
                "no node knows where the others' containers are"
            )
        self._cluster = cluster
        self._settings = settings
        self.pod_mtu = underlay_mtu

    def install(self, namespace: Namespace, node: Node, _nic: Nic) -> None:
        """Make the bridge, and write the rules."""
        is_filtered = self._settings.bridge_nf_call_iptables
        install_bridge(namespace, node, self.pod_mtu, DEVICE, is_bridge_nf_call_iptables=is_filtered)
        for name, lines in _RULES.items():
            table = Table.of(namespace, name)
            for chain in _CHAINS[name]:
                table.add_chain(Chain(chain))
            for line in lines:
                chain_name, rule = parse_rule(line.format(range=node.pod_cidr))
                table.chain(chain_name).append(rule)
        Table.of(namespace, "filter").chain("FORWARD").policy = "DROP"  # as where Docker has switched forwarding on

    def attach(self, root: Namespace, pod: Pod) -> Namespace:
        """Hang a container on the bridge."""
        return attach_to_bridge(root, pod, self._cluster.node(pod.node), self.pod_mtu, DEVICE)
