"""The rules of iptables around IPVS (Kubernetes v1.30.3, ``writeIptablesRules`` in pkg/proxy/ipvs/proxier.go).

There is a fixed number of them: what grows with the Services are the sets that they look packets up in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.proxy._ipvs_sets import (
    CLUSTER_IP,
    EXTERNAL_IP,
    EXTERNAL_IP_LOCAL,
    HEALTH_CHECK_NODE_PORT,
    IPVS_IPS,
    LOAD_BALANCER,
    LOAD_BALANCER_FW,
    LOAD_BALANCER_LOCAL,
    LOAD_BALANCER_SOURCE_CIDR,
    LOAD_BALANCER_SOURCE_IP,
    LOOP_BACK,
    NODE_PORT_SETS,
    SETS,
    set_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from kubesim.kernel.ipvs.virtual_server import ServiceKey
    from kubesim.proxy._kube_proxy import KubeProxySettings, LocalDetector
    from kubesim.proxy._kube_proxy.settings import Family

CHAINS = {
    "nat": ("KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-NODE-PORT", "KUBE-LOAD-BALANCER", "KUBE-MARK-MASQ"),
    "filter": (
        "KUBE-FORWARD",
        "KUBE-NODE-PORT",
        "KUBE-PROXY-FIREWALL",
        "KUBE-SOURCE-RANGES-FIREWALL",
        "KUBE-IPVS-FILTER",
        "KUBE-IPVS-OUT-FILTER",
    ),
}
"""The chains of each table (``iptablesChains``)."""

JUMPS: tuple[tuple[str, str, str, str], ...] = (
    ("nat", "OUTPUT", "KUBE-SERVICES", "kubernetes service portals"),
    ("nat", "PREROUTING", "KUBE-SERVICES", "kubernetes service portals"),
    ("nat", "POSTROUTING", "KUBE-POSTROUTING", "kubernetes postrouting rules"),
    ("filter", "FORWARD", "KUBE-FORWARD", "kubernetes forwarding rules"),
    ("filter", "INPUT", "KUBE-NODE-PORT", "kubernetes health check rules"),
    ("filter", "INPUT", "KUBE-PROXY-FIREWALL", "kube-proxy firewall rules"),
    ("filter", "FORWARD", "KUBE-PROXY-FIREWALL", "kube-proxy firewall rules"),
    ("filter", "INPUT", "KUBE-IPVS-FILTER", "kubernetes ipvs access filter"),
    ("filter", "OUTPUT", "KUBE-IPVS-OUT-FILTER", "kubernetes ipvs access filter"),
)
"""Table, base chain, chain jumped to, and comment, in the order in which kube-proxy makes sure of them.

Each is put in front of what is there (``iptablesJumpChain``).
"""

_MARK_MASQ = "KUBE-MARK-MASQ"


def _node_port_rules() -> Iterator[tuple[str, str, str, str, str, str]]:
    for protocol in ("tcp", "udp", "sctp"):
        every, local = NODE_PORT_SETS[protocol]
        flags = "dst,dst" if protocol == "sctp" else "dst"
        yield local, "nat", "KUBE-NODE-PORT", "RETURN", flags, protocol
        yield every, "nat", "KUBE-NODE-PORT", _MARK_MASQ, flags, protocol


_SET_RULES: tuple[tuple[str, str, str, str, str, str], ...] = (
    (LOOP_BACK, "nat", "KUBE-POSTROUTING", "MASQUERADE", "dst,dst,src", ""),
    (LOAD_BALANCER, "nat", "KUBE-SERVICES", "KUBE-LOAD-BALANCER", "dst,dst", ""),
    (LOAD_BALANCER_LOCAL, "nat", "KUBE-LOAD-BALANCER", "RETURN", "dst,dst", ""),
    *_node_port_rules(),
    (LOAD_BALANCER_FW, "filter", "KUBE-PROXY-FIREWALL", "KUBE-SOURCE-RANGES-FIREWALL", "dst,dst", ""),
    (LOAD_BALANCER_SOURCE_CIDR, "filter", "KUBE-SOURCE-RANGES-FIREWALL", "RETURN", "dst,dst,src", ""),
    (LOAD_BALANCER_SOURCE_IP, "filter", "KUBE-SOURCE-RANGES-FIREWALL", "RETURN", "dst,dst,src", ""),
)
"""Set, table, chain, target, flags and protocol of rules that are there if the set is not empty, in order
(``ipsetWithIptablesChain``)."""


class IpvsRules:
    """The rules of one node in one family of addresses.

    Parameters
    ----------
    settings
        kube-proxy's settings.
    detector
        What tells traffic of pods from that of others, None if nothing does.
    family
        Of the addresses.
    filled
        Names of the sets that are not empty, as for IPv4.
    closed
        Load balancers' places that the node itself may not use.
    """

    def __init__(
        self,
        settings: KubeProxySettings,
        detector: LocalDetector | None,
        family: Family,
        filled: AbstractSet[str],
        closed: Sequence[ServiceKey],
    ) -> None:
        self._settings = settings
        self._detector = detector
        self._family: Family = family
        self._filled = filled
        self._closed = closed
        self._mark = f"{settings.mark:#010x}"

    def restore(self) -> str:
        """What a sync hands to ``iptables-restore --noflush``; every sync writes everything."""
        lines: list[str] = []
        for table, rules in (("nat", self.nat()), ("filter", self.filter())):
            lines += [f"*{table}", *(f":{chain} - [0:0]" for chain in CHAINS[table]), *rules, "COMMIT"]
        return "\n".join([*lines, ""])

    def nat(self) -> Iterator[str]:
        """The rules of table nat."""
        mark = self._mark
        yield f"-A KUBE-SERVICES -s {'::1/128' if self._family == 'ipv6' else '127.0.0.0/8'} -j RETURN"
        yield from self._set_rules("nat")
        if CLUSTER_IP in self._filled:
            yield self._masquerade()
        if EXTERNAL_IP in self._filled:
            looked_up = self._looked_up("KUBE-SERVICES", EXTERNAL_IP, "dst,dst")
            yield f"{looked_up} -j {_MARK_MASQ}"
            yield from _external(looked_up)
        if EXTERNAL_IP_LOCAL in self._filled:
            yield from _external(self._looked_up("KUBE-SERVICES", EXTERNAL_IP_LOCAL, "dst,dst"))
        yield "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT"
        yield f"-A KUBE-LOAD-BALANCER -j {_MARK_MASQ}"
        for name in (CLUSTER_IP, LOAD_BALANCER):
            if name in self._filled:
                yield f"-A KUBE-SERVICES {self._match(name, 'dst,dst')} -j ACCEPT"
        yield f"-A KUBE-POSTROUTING -m mark ! --mark {mark}/{mark} -j RETURN"
        yield f"-A KUBE-POSTROUTING -j MARK --xor-mark {mark}"
        yield (
            '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE'
            + (" --random-fully" if self._settings.random_fully else "")
        )
        yield f"-A {_MARK_MASQ} -j MARK --or-mark {mark}"

    def filter(self) -> Iterator[str]:
        """The rules of table filter."""
        start, mark = "-A KUBE-FORWARD -m comment --comment", self._mark
        yield from self._set_rules("filter")
        yield "-A KUBE-SOURCE-RANGES-FIREWALL -j DROP"
        for key in self._closed:
            yield (
                f"-A KUBE-IPVS-OUT-FILTER -s {key.address} -m ipvs --vaddr {key.address} --vproto {key.protocol} "
                f"--vport {key.port} -j DROP"
            )
        yield f'{start} "kubernetes forwarding rules" -m mark --mark {mark}/{mark} -j ACCEPT'
        known = "-m conntrack --ctstate RELATED,ESTABLISHED"
        yield f'{start} "kubernetes forwarding conntrack rule" {known} -j ACCEPT'
        yield f"{self._looked_up('KUBE-NODE-PORT', HEALTH_CHECK_NODE_PORT, 'dst')} -j ACCEPT"
        for name in (LOAD_BALANCER, CLUSTER_IP, EXTERNAL_IP, EXTERNAL_IP_LOCAL):
            yield f"-A KUBE-IPVS-FILTER {self._match(name, 'dst,dst')} -j RETURN"
        yield f"-A KUBE-IPVS-FILTER {self._match(HEALTH_CHECK_NODE_PORT, 'dst')} -j RETURN"
        yield f"-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW {self._match(IPVS_IPS, 'dst')} -j REJECT"

    def _set_rules(self, wanted: str) -> Iterator[str]:
        for name, table, chain, target, flags, protocol in _SET_RULES:
            if table == wanted and name in self._filled:
                yield f"{self._looked_up(chain, name, flags, protocol)} -j {target}"

    def _masquerade(self) -> str:
        """Mark packets to virtual addresses that do not come from pods."""
        if self._settings.masquerade_all:
            return f"{self._looked_up('KUBE-SERVICES', CLUSTER_IP, 'dst,dst')} -j {_MARK_MASQ}"
        if self._detector is not None:
            looked_up = self._looked_up("KUBE-SERVICES", CLUSTER_IP, "dst,dst")
            return f"{looked_up} {self._detector.if_not_local} -j {_MARK_MASQ}"
        return f"{self._looked_up('KUBE-SERVICES', CLUSTER_IP, 'src,dst')} -j {_MARK_MASQ}"

    def _looked_up(self, chain: str, name: str, flags: str, protocol: str = "") -> str:
        """The start of a rule that looks a packet up in a set."""
        of_protocol = f" -p {protocol}" if protocol else ""
        return f'-A {chain}{of_protocol} -m comment --comment "{SETS[name].comment}" {self._match(name, flags)}'

    def _match(self, name: str, flags: str) -> str:
        return f"-m set --match-set {set_name(name, self._family)} {flags}"


def _external(looked_up: str) -> Iterator[str]:
    """Take what comes from outside the machine, not from a bridge's port; and what is for the machine itself."""
    yield f"{looked_up} -m physdev ! --physdev-is-in -m addrtype ! --src-type LOCAL -j ACCEPT"
    yield f"{looked_up} -m addrtype --dst-type LOCAL -j ACCEPT"


def jumps() -> str:
    """The arguments of ``iptables`` that make chains and lead to them, one call a line."""
    lines = [f"-t {table} -N {chain}" for table, chains in CHAINS.items() for chain in chains]
    lines += [
        f'-t {table} -I {base} -m comment --comment "{comment}" -j {chain}' for table, base, chain, comment in JUMPS
    ]
    return "\n".join([*lines, ""])
