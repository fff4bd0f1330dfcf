"""Groups of operations, for figures in which each by itself would be too many."""

from __future__ import annotations

GROUPS = {
    "application": "#6F6F6F",
    "sockets and system calls": "#0072B2",
    "transport (TCP, UDP)": "#56B4E9",
    "devices (veth, bridge, card)": "#E69F00",
    "routing (IP)": "#F0E442",
    "tunnels": "#D55E00",
    "conntrack and NAT": "#009E73",
    "iptables rules": "#CC79A7",
    "nftables": "#882255",
    "IPVS": "#44AA99",
    "eBPF": "#332288",
    "other": "#BBBBBB",
}
"""Colours by name, from the bottom of a bar to its top."""

_PREFIXES = (
    ("application", "application"),
    ("http_", "application"),
    ("tls_", "application"),
    ("dns_", "application"),
    ("syscall_", "sockets and system calls"),
    ("socket_", "sockets and system calls"),
    ("tcp_", "transport (TCP, UDP)"),
    ("udp_", "transport (TCP, UDP)"),
    ("vxlan_", "tunnels"),
    ("ipip_", "tunnels"),
    ("geneve_", "tunnels"),
    ("packet_socket_", "tunnels"),
    ("relay_", "tunnels"),
    ("gro_cells", "tunnels"),
    ("tun_", "tunnels"),
    ("wireguard_", "tunnels"),
    ("worker_", "tunnels"),
    ("conntrack_", "conntrack and NAT"),
    ("nat_", "conntrack and NAT"),
    ("iptables_", "iptables rules"),
    ("ipset_", "iptables rules"),
    ("nft_", "nftables"),
    ("ipvs_", "IPVS"),
    ("address_", "IPVS"),
    ("bpf_", "eBPF"),
    ("ip_", "routing (IP)"),
    ("route_", "routing (IP)"),
    ("veth_", "devices (veth, bridge, card)"),
    ("bridge_", "devices (veth, bridge, card)"),
    ("ovs_", "devices (veth, bridge, card)"),
    ("backlog", "devices (veth, bridge, card)"),
    ("loopback_", "devices (veth, bridge, card)"),
    ("rps_", "devices (veth, bridge, card)"),
    ("nic_", "devices (veth, bridge, card)"),
    ("gro", "devices (veth, bridge, card)"),
    ("checksum", "devices (veth, bridge, card)"),
    ("gso_", "devices (veth, bridge, card)"),
)


def group_of(operation: str) -> str:
    """The group of an operation, by how its name begins."""
    return next((group for prefix, group in _PREFIXES if operation.startswith(prefix)), "other")
