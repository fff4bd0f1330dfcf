"""Felix's rules in the iptables data plane (felix/rules/static.go, endpoints.go, dispatch.go), without any policy.

Every pod has the profiles of its namespace and service account, which allow everything. What a packet pays must not
depend on which of a node's pods it is for, so two things differ from Felix: the pods' chains, which have the same
rules, are one; and where Felix finds a pod's chain by a tree of interface names, in which each pod has its place, here
all pods are in the middle of that tree, behind as many rules for others as a packet is held against on average.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from kubesim.kernel.netfilter.chain import Chain
from kubesim.kernel.netfilter.ipset import IpSet, install_ipsets
from kubesim.kernel.netfilter.iptables import Table
from kubesim.kernel.netfilter.matches import Comment
from kubesim.kernel.netfilter.syntax import ParsedRule, parse_rule

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, Node
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.netfilter.rule import Rule

INTERFACES = "cali-"
"""What names of pods' interfaces begin with; Felix's have a hash of the pod behind ``cali``."""

_DIGITS = "0123456789abcdef"
_HASH_LENGTH = 16

_BASE = {
    "raw": ("PREROUTING", "OUTPUT"),
    "mangle": ("PREROUTING", "POSTROUTING"),
    "nat": ("PREROUTING", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}
"""Base chains with a jump to a chain of Felix's."""

_RAW = """
:cali-rpf-skip
:cali-from-host-endpoint
:cali-to-host-endpoint
-A cali-PREROUTING -j MARK --set-xmark 0x0/0xf0000
{no_track_in}
-A cali-PREROUTING -i cali+ -j MARK --set-xmark 0x40000/0x40000
-A cali-PREROUTING -m mark --mark 0x40000/0x40000 -j cali-rpf-skip
-A cali-PREROUTING -m mark --mark 0x40000/0x40000 -m rpfilter --validmark --invert -j DROP
-A cali-PREROUTING -m mark --mark 0x0/0x40000 -j cali-from-host-endpoint
-A cali-PREROUTING -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-OUTPUT -j MARK --set-xmark 0x0/0xf0000
{no_track_out}
-A cali-OUTPUT -j cali-to-host-endpoint
-A cali-OUTPUT -m mark --mark 0x10000/0x10000 -j ACCEPT
"""

_MANGLE = """
:cali-from-host-endpoint
:cali-to-host-endpoint
-A cali-PREROUTING -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-PREROUTING -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-PREROUTING -j cali-from-host-endpoint
-A cali-PREROUTING {host_endpoint} -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-POSTROUTING -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-POSTROUTING -j MARK --set-xmark 0x0/0xf0000
-A cali-POSTROUTING -m conntrack --ctstate DNAT -j cali-to-host-endpoint
-A cali-POSTROUTING {host_endpoint} -m mark --mark 0x10000/0x10000 -j RETURN
"""

_NAT = """
:cali-fip-dnat
:cali-fip-snat
-A cali-PREROUTING -j cali-fip-dnat
-A cali-OUTPUT -j cali-fip-dnat
-A cali-POSTROUTING -j cali-fip-snat
-A cali-POSTROUTING -j cali-nat-outgoing
{masquerade}
-A cali-nat-outgoing {leaving} -j MASQUERADE --random-fully
"""

_FILTER = """
:cali-from-hep-forward
:cali-to-hep-forward
:cali-cidr-block
:cali-from-host-endpoint
:cali-to-host-endpoint
{accept_in}
-A cali-INPUT -i cali+ -g cali-wl-to-host
-A cali-INPUT -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-INPUT -j MARK --set-xmark 0x0/0xf0000
-A cali-INPUT -j cali-from-host-endpoint
-A cali-INPUT {host_endpoint} -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-wl-to-host -j cali-from-wl-dispatch
-A cali-wl-to-host -m comment --comment "Configured DefaultEndpointToHostAction" -j ACCEPT
-A cali-FORWARD -j MARK --set-xmark 0x0/0xe0000
-A cali-FORWARD -m mark --mark 0x0/0x10000 -j cali-from-hep-forward
-A cali-FORWARD -i cali+ -j cali-from-wl-dispatch
-A cali-FORWARD -o cali+ -j cali-to-wl-dispatch
-A cali-FORWARD -j cali-to-hep-forward
-A cali-FORWARD -j cali-cidr-block
-A cali-OUTPUT -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-OUTPUT -o cali+ -j RETURN
{accept_out}
-A cali-OUTPUT -j MARK --set-xmark 0x0/0xf0000
-A cali-OUTPUT -m conntrack ! --ctstate DNAT -j cali-to-host-endpoint
-A cali-OUTPUT {host_endpoint} -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-fw-pod -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-fw-pod -m conntrack --ctstate INVALID -j DROP
-A cali-fw-pod -j MARK --set-xmark 0x0/0x10000
-A cali-fw-pod -p udp {from_workload} -m multiport --dports 4789 -j DROP
-A cali-fw-pod -p ipencap -m comment --comment "Drop IPinIP encapped packets originating in workloads" -j DROP
-A cali-fw-pod -j cali-pro-kns.default
-A cali-fw-pod {accepted}
-A cali-fw-pod -j cali-pro-ksa.default.default
-A cali-fw-pod {accepted}
-A cali-fw-pod -m comment --comment "Drop if no profiles matched" -j DROP
-A cali-tw-pod -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A cali-tw-pod -m conntrack --ctstate INVALID -j DROP
-A cali-tw-pod -j MARK --set-xmark 0x0/0x10000
-A cali-tw-pod -j cali-pri-kns.default
-A cali-tw-pod {accepted}
-A cali-tw-pod -j cali-pri-ksa.default.default
-A cali-tw-pod {accepted}
-A cali-tw-pod -m comment --comment "Drop if no profiles matched" -j DROP
-A cali-pro-kns.default -j MARK --set-xmark 0x10000/0x10000
-A cali-pro-kns.default -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-pri-kns.default -j MARK --set-xmark 0x10000/0x10000
-A cali-pri-kns.default -m mark --mark 0x10000/0x10000 -j RETURN
:cali-pro-ksa.default.default
:cali-pri-ksa.default.default
"""

_LAST_OF_FORWARD = (
    '-A FORWARD -m comment --comment "Policy explicitly accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT',
    "-A FORWARD -j MARK --set-xmark 0x10000/0x10000",
)
"""Appended behind what others have there."""


def _comment(text: str) -> str:
    return f'-m comment --comment "{text}"'


_IN_TEXTS = {
    "host_endpoint": _comment("Host endpoint policy accepted packet."),
    "leaving": "-m set --match-set cali40masq-ipam-pools src -m set ! --match-set cali40all-ipam-pools dst",
    "from_workload": _comment("Drop VXLAN encapped packets originating in workloads"),
    "accepted": f"{_comment('Return if profile accepted')} -m mark --mark 0x10000/0x10000 -j RETURN",
}
"""What stands in several rules, or is too long for them."""


class Encapsulation(NamedTuple):
    """What a tunnel between nodes adds to the rules.

    Parameters
    ----------
    device
        Name of the tunnel device.
    nodes_set
        Name of the set of nodes that may send through it.
    accept_in, accept_out
        Rules that let its packets pass INPUT and OUTPUT, and no others like them.
    no_track
        Match of the packets that conntrack is to pass over, empty where it may see them.
    """

    device: str
    nodes_set: str
    accept_in: str
    accept_out: str
    no_track: str = ""


_HOSTS, _VTEPS = "cali40all-hosts-net", "cali40all-vxlan-net"
_VXLAN_PORT = "-m multiport --dports 4789"
_TO_HERE, _FROM_HERE = "-m addrtype --dst-type LOCAL", "-m addrtype --src-type LOCAL"
_OF_HOSTS, _TO_HOSTS = (f"-m set --match-set {_HOSTS} {way}" for way in ("src", "dst"))
_OF_VTEPS, _TO_VTEPS = (f"{_VXLAN_PORT} -m set --match-set {_VTEPS} src", f"-m set --match-set {_VTEPS} dst")
_ALLOWED = _comment("Allow IPv4 VXLAN packets from allowed hosts")
_OTHERS = _comment("Drop IPv4 VXLAN packets from non-allowed hosts")
_SENT = _comment("Allow IPv4 VXLAN packets to other allowed hosts")

IPIP = Encapsulation(
    device="tunl0",
    nodes_set=_HOSTS,
    accept_in=f"""
-A cali-INPUT -p ipencap {_comment("Allow IPIP packets from Calico hosts")} {_OF_HOSTS} {_TO_HERE} -j ACCEPT
-A cali-INPUT -p ipencap {_comment("Drop IPIP packets from non-Calico hosts")} -j DROP
""",
    accept_out=f"""
-A cali-OUTPUT -p ipencap {_comment("Allow IPIP packets to other Calico hosts")} {_TO_HOSTS} {_FROM_HERE} -j ACCEPT
""",
)

VXLAN = Encapsulation(
    device="vxlan.calico",
    nodes_set=_VTEPS,
    accept_in=f"""
-A cali-INPUT -p udp {_ALLOWED} {_OF_VTEPS} {_TO_HERE} -j ACCEPT
-A cali-INPUT -p udp {_OTHERS} {_VXLAN_PORT} {_TO_HERE} -j DROP
""",
    accept_out=f"""
-A cali-OUTPUT -p udp {_SENT} {_VXLAN_PORT} {_FROM_HERE} {_TO_VTEPS} -j ACCEPT
""",
    no_track="-p udp -m udp --dport 4789",
)
"""Outer flows have another source port in each direction, so that conntrack would never see an answer."""


def install_rules(namespace: Namespace, node: Node, cluster: Cluster, encapsulation: Encapsulation | None) -> None:
    """Write Felix's chains and sets, and the jumps to them."""
    install_ipsets(namespace, _sets(cluster, encapsulation))
    for name, text in _texts(cluster.pods_on(node), encapsulation).items():
        table = Table.of(namespace, name)
        for chain in _chains(text):
            table.add_chain(chain)
        for base in _BASE[name]:
            table.chain(base).prepend(_jump(base))
    forward = Table.of(namespace, "filter").chain("FORWARD")
    for line in _LAST_OF_FORWARD:
        forward.append(_rule(line).rule)


def bring_jumps_to_front(namespace: Namespace) -> None:
    """Put the jumps in front of those that others have put there since, and use the iptables that the proxy uses.

    Felix does so again and again (``ChainInsertMode: Insert``, ``IptablesBackend: Auto``).
    """
    backend = Table.of(namespace, "filter").backend
    for name, bases in _BASE.items():
        table = Table.of(namespace, name)
        table.backend = backend
        for base in bases:
            table.chain(base).bring_to_front(_jump(base))


def _sets(cluster: Cluster, encapsulation: Encapsulation | None) -> list[IpSet]:
    pools = frozenset({(cluster.pod_cidr,)})
    found = [IpSet(name, "hash:net", pools) for name in ("cali40all-ipam-pools", "cali40masq-ipam-pools")]
    if encapsulation is not None:
        nodes = frozenset((f"{node.address}/32",) for node in cluster.nodes)
        found.append(IpSet(encapsulation.nodes_set, "hash:net", nodes))
    return found


def _texts(pods: int, encapsulation: Encapsulation | None) -> dict[str, str]:
    """Chains and rules by table."""
    given = _IN_TEXTS | dict.fromkeys(("no_track_in", "no_track_out", "masquerade", "accept_in", "accept_out"), "")
    if encapsulation is not None:
        given |= {"accept_in": encapsulation.accept_in, "accept_out": encapsulation.accept_out}
        given["masquerade"] = (
            f"-A cali-POSTROUTING -o {encapsulation.device} -m addrtype ! --src-type LOCAL --limit-iface-out "
            "-m addrtype --src-type LOCAL -j MASQUERADE --random-fully"
        )
        if encapsulation.no_track:
            given["no_track_in"] = f"-A cali-PREROUTING {encapsulation.no_track} -j CT --notrack"
            given["no_track_out"] = f"-A cali-OUTPUT {encapsulation.no_track} -j CT --notrack"
    filters = _FILTER + _dispatch("from", "-i", "fw", pods) + _dispatch("to", "-o", "tw", pods)
    texts = {"raw": _RAW, "mangle": _MANGLE, "nat": _NAT, "filter": filters}
    return {name: text.format(**given) for name, text in texts.items()}


def _dispatch(direction: str, option: str, kind: str, pods: int) -> str:
    """The tree that finds a pod's chain by its interface's name: by the digit behind ``cali``, then by all of it.

    Names are hashes, so a packet tests half of the digits' rules, and half of those of the pods with the same digit.
    """
    root, target = f"cali-{direction}-wl-dispatch", f"cali-{kind}-pod"
    branch = f"{root}-x"
    digits = min(len(_DIGITS), max(pods, 1))
    others = -(-pods // len(_DIGITS)) // 2
    lines = [f"-A {root} {option} cali{digit}+ -g {branch}" for digit in _DIGITS[: digits // 2]]
    if others:
        lines.append(f"-A {root} {option} {INTERFACES}+ -g {branch}")
        lines += [f"-A {branch} {option} cali{number:011x} -g {target}" for number in range(others)]
        lines.append(f"-A {branch} {option} {INTERFACES}+ -g {target}")
        lines.append(f'-A {branch} -m comment --comment "Unknown interface" -j DROP')
    else:
        lines = [line.replace(branch, target) for line in lines]
        lines.append(f"-A {root} {option} {INTERFACES}+ -g {target}")
    lines.append(f'-A {root} -m comment --comment "Unknown interface" -j DROP')
    return "\n".join([*lines, ""])


@lru_cache(maxsize=64)
def _chains(text: str) -> tuple[Chain, ...]:
    """The chains that a text speaks of; nodes with the same text share them."""
    chains: dict[str, Chain] = {}
    for line in filter(None, text.splitlines()):
        if line.startswith(":"):
            chains[line[1:]] = Chain(line[1:])
        else:
            name, rule = _rule(line)
            chains.setdefault(name, Chain(name)).append(rule)
    return tuple(chains.values())


def _jump(base: str) -> Rule:
    return _rule(f"-A {base} -j cali-{base}").rule


def _rule(line: str) -> ParsedRule:
    """A rule with the comment in front by which Felix knows its own: a hash of it, with 16 letters."""
    digest = urlsafe_b64encode(hashlib.sha224(line.encode()).digest()).decode()[:_HASH_LENGTH]
    chain, rule = parse_rule(line)
    rule.matches = (Comment(f"cali:{digest}"), *rule.matches)
    return ParsedRule(chain, rule)
