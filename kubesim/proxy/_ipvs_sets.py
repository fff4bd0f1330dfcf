"""The IP sets of kube-proxy's IPVS mode (Kubernetes v1.30.3, pkg/proxy/ipvs/ipset.go and proxier.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from kubesim.proxy._kube_proxy.settings import Family

LOOP_BACK = "KUBE-LOOP-BACK"
CLUSTER_IP = "KUBE-CLUSTER-IP"
EXTERNAL_IP = "KUBE-EXTERNAL-IP"
EXTERNAL_IP_LOCAL = "KUBE-EXTERNAL-IP-LOCAL"
LOAD_BALANCER = "KUBE-LOAD-BALANCER"
LOAD_BALANCER_FW = "KUBE-LOAD-BALANCER-FW"
LOAD_BALANCER_LOCAL = "KUBE-LOAD-BALANCER-LOCAL"
LOAD_BALANCER_SOURCE_IP = "KUBE-LOAD-BALANCER-SOURCE-IP"
LOAD_BALANCER_SOURCE_CIDR = "KUBE-LOAD-BALANCER-SOURCE-CIDR"
HEALTH_CHECK_NODE_PORT = "KUBE-HEALTH-CHECK-NODE-PORT"
IPVS_IPS = "KUBE-IPVS-IPS"

NODE_PORT_SETS = {
    "tcp": ("KUBE-NODE-PORT-TCP", "KUBE-NODE-PORT-LOCAL-TCP"),
    "udp": ("KUBE-NODE-PORT-UDP", "KUBE-NODE-PORT-LOCAL-UDP"),
    "sctp": ("KUBE-NODE-PORT-SCTP-HASH", "KUBE-NODE-PORT-LOCAL-SCTP-HASH"),
}
"""By protocol: the set of all node ports, and that of those with the policy ``Local``."""

_LONGEST_NAME = 31
"""``IPSET_MAXNAMELEN`` without the end of the string; kube-proxy cuts longer names off."""


class SetInfo(NamedTuple):
    """A set's type, and the comment of the rule that looks it up."""

    kind: str
    comment: str = ""


_WITH_HASH = "with type 'hash ip:port'"

SETS: dict[str, SetInfo] = {
    LOOP_BACK: SetInfo("hash:ip,port,ip", "Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose"),
    CLUSTER_IP: SetInfo("hash:ip,port", "Kubernetes service cluster ip + port for masquerade purpose"),
    EXTERNAL_IP: SetInfo("hash:ip,port", "Kubernetes service external ip + port for masquerade and filter purpose"),
    EXTERNAL_IP_LOCAL: SetInfo(
        "hash:ip,port", "Kubernetes service external ip + port with externalTrafficPolicy=local"
    ),
    LOAD_BALANCER: SetInfo("hash:ip,port", "Kubernetes service lb portal"),
    LOAD_BALANCER_FW: SetInfo(
        "hash:ip,port", "Kubernetes service load balancer ip + port for load balancer with sourceRange"
    ),
    LOAD_BALANCER_LOCAL: SetInfo(
        "hash:ip,port", "Kubernetes service load balancer ip + port with externalTrafficPolicy=local"
    ),
    LOAD_BALANCER_SOURCE_IP: SetInfo(
        "hash:ip,port,ip", "Kubernetes service load balancer ip + port + source IP for packet filter purpose"
    ),
    LOAD_BALANCER_SOURCE_CIDR: SetInfo(
        "hash:ip,port,net", "Kubernetes service load balancer ip + port + source cidr for packet filter purpose"
    ),
    "KUBE-NODE-PORT-TCP": SetInfo("bitmap:port", "Kubernetes nodeport TCP port for masquerade purpose"),
    "KUBE-NODE-PORT-LOCAL-TCP": SetInfo("bitmap:port", "Kubernetes nodeport TCP port with externalTrafficPolicy=local"),
    "KUBE-NODE-PORT-UDP": SetInfo("bitmap:port", "Kubernetes nodeport UDP port for masquerade purpose"),
    "KUBE-NODE-PORT-LOCAL-UDP": SetInfo("bitmap:port", "Kubernetes nodeport UDP port with externalTrafficPolicy=local"),
    "KUBE-NODE-PORT-SCTP-HASH": SetInfo(
        "hash:ip,port", f"Kubernetes nodeport SCTP port for masquerade purpose {_WITH_HASH}"
    ),
    "KUBE-NODE-PORT-LOCAL-SCTP-HASH": SetInfo(
        "hash:ip,port", f"Kubernetes nodeport SCTP port with externalTrafficPolicy=local {_WITH_HASH}"
    ),
    HEALTH_CHECK_NODE_PORT: SetInfo("bitmap:port", "Kubernetes health check node port"),
    IPVS_IPS: SetInfo("hash:ip"),
}
"""All sets, in the order in which kube-proxy makes them (``ipsetInfo``)."""


def set_name(name: str, family: Family) -> str:
    """What a set is called in a family: ``KUBE-6-…`` for IPv6, cut to what the kernel takes (``NewIPSet``)."""
    if family == "ipv4":
        return name
    return name.replace("KUBE-", "KUBE-6-", 1)[:_LONGEST_NAME]


def set_options(kind: str, family: Family) -> str:
    """What a set is made with."""
    if kind == "bitmap:port":
        return "range 0-65535"
    return f"family {'inet6' if family == 'ipv6' else 'inet'} hashsize 1024 maxelem 65536"
