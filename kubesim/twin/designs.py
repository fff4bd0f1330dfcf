"""Which twins are measured: those that prices are solved from, and others that they are tried on."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from kubesim.scenario import Scenario
from kubesim.twin.cases import Case
from kubesim.twin.realise import has_ipsets, has_ipvs

SMALL_BYTES, LARGE_BYTES = 64, 1372
"""A datagram that fits into any cache line or two, and one that just fits through VXLAN with its own headers."""

_SIZES = (SMALL_BYTES, LARGE_BYTES)
_OTHER_SIZES = (SMALL_BYTES, 700)
_NODES = {"same node": "node-1", "cross node": "node-2"}
_WITHOUT_RULES = {"calico-bgp": {"name": "calico-bgp", "has_policy_chains": False}}
"""Plugins that can be told to write no rules of their own, so that prices are told apart."""

_CNIS = ("calico-bgp", "flannel-host-gw", "flannel-vxlan")
_PROXIES: dict[str, Any] = {
    "iptables": "iptables",
    "nftables": "nftables",
    "iptables-nft": {"name": "iptables", "backend": "nft"},
}
_SERVICES_OF_GRID = (1, 100, 1000, 5000, 10_000)
_PLAIN = ["-A FORWARD -s 192.0.2.1/32 -j DROP"]
_WITH_MATCH = ["-A FORWARD -p udp -m udp --dport 9 -j DROP"]
_WITH_SET = ["-A FORWARD -m set --match-set others dst -j DROP"]
_SET = "create others hash:ip family inet\n" + "".join(f"add others 192.0.2.{number}\n" for number in range(1, 101))
_CHAINS = {
    "a rule": _PLAIN,
    "300 rules": 300 * _PLAIN,
    "300 rules with a match": 300 * _WITH_MATCH,
    "600 rules, of which number 300 hits": [*300 * _PLAIN, "-A FORWARD -p udp -j ACCEPT", *300 * _PLAIN],
}
"""Rules that every packet is held against, not only the first one of a connection."""


class Extent(StrEnum):
    """How much is measured."""

    QUICK = "quick"
    NORMAL = "normal"
    GRID = "grid"


def designed(extent: Extent) -> list[Case]:
    """Twins that differ in one thing each, so that its price shows."""
    found = [Case(name, scenario, ("last",), _SIZES) for name, scenario in _designed(extent).items()]
    plain = _scenario("calico-bgp", "none")
    found += [Case(f"calico-bgp, {name}", plain, sizes=_SIZES, rules=rules) for name, rules in _CHAINS.items()]
    if has_ipsets():
        found.append(Case("calico-bgp, 50 rules with a set", plain, sizes=_SIZES, rules=50 * _WITH_SET, sets=_SET))
    return [*found, Case("calico-bgp, same pod", plain, sizes=_SIZES, client="svc-1-0")]


def held_out(extent: Extent) -> list[Case]:
    """Twins that the prices are tried on: others in Services, endpoints, place in the chain or size of the datagram."""
    if extent is Extent.GRID:
        return [Case(name, scenario, ("first", "middle", "last"), _SIZES) for name, scenario in _grid().items()]
    return [Case(name, scenario, ("first", "last"), _OTHER_SIZES) for name, scenario in _others(extent).items()]


def _designed(extent: Extent) -> dict[str, Scenario]:
    is_quick = extent is Extent.QUICK
    found: dict[str, Scenario] = {}
    for cni in _CNIS:
        for where, node in _NODES.items():
            found[f"{cni}, {where}"] = _scenario(cni, "none", nodes=[node])
            for proxy in ("iptables", "nftables"):
                found[f"{cni}, {proxy}, 1 Service, {where}"] = _scenario(cni, proxy, nodes=[node])
        found[f"{cni}, iptables, 1000 Services"] = _scenario(cni, "iptables", 1000)
        found[f"{cni}, nftables, 100 Services"] = _scenario(cni, "nftables", 100)
    for cni, (where, node) in zip(_CNIS[1:], _NODES.items(), strict=True):
        found[f"{cni}, iptables-nft, 1 Service, {where}"] = _scenario(cni, _PROXIES["iptables-nft"], nodes=[node])
    for services in (3000, 10_000) if is_quick else (300, 2000, 3000, 5000, 10_000, 20_000):
        found[f"calico-bgp, iptables, {services} Services"] = _scenario("calico-bgp", "iptables", services)
    for services in (1000,) if is_quick else (100, 300, 1000, 3000, 5000):
        name = f"calico-bgp, iptables-nft, {services} Services"
        found[name] = _scenario("calico-bgp", _PROXIES["iptables-nft"], services)
    if has_ipvs():
        found |= _ipvs(is_quick=is_quick)
    if not is_quick:
        found["calico-bgp, iptables, 8 endpoints"] = _scenario("calico-bgp", "iptables", 1, 8)
        found["calico-bgp, nftables, 1000 Services"] = _scenario("calico-bgp", "nftables", 1000)
    return found


def _ipvs(*, is_quick: bool) -> dict[str, Scenario]:
    """IPVS by Services, which share buckets from 256 on, and by servers, which some schedulers look at one by one."""
    found = {f"calico-bgp, ipvs, 1 Service, {where}": _scenario("calico-bgp", "ipvs", nodes=[node])
             for where, node in _NODES.items()}  # fmt: skip
    for services in (1000,) if is_quick else (1000, 5000):
        found[f"calico-bgp, ipvs, {services} Services"] = _scenario("calico-bgp", "ipvs", services)
    least = {"name": "ipvs", "scheduler": "lc"}
    for servers in (8,) if is_quick else (8, 40):
        found[f"calico-bgp, ipvs, {servers} servers"] = _scenario("calico-bgp", least, 1, servers)
    return found


def _others(extent: Extent) -> dict[str, Scenario]:
    found = {
        "calico-bgp, iptables, 300 Services of 3": _scenario("calico-bgp", "iptables", 300, 3),
        "flannel-vxlan, iptables, 300 Services of 2": _scenario("flannel-vxlan", "iptables", 300, 2),
        "flannel-host-gw, nftables, 1000 Services of 3": _scenario("flannel-host-gw", "nftables", 1000, 3),
    }
    if extent is not Extent.QUICK:
        near = ["node-1"]
        found["calico-bgp, iptables, 3000 Services, same node"] = _scenario("calico-bgp", "iptables", 3000, 1, near)
        found["flannel-vxlan, nftables, 300 Services of 2, same node"] = _scenario(
            "flannel-vxlan", "nftables", 300, 2, near
        )
        found["flannel-host-gw, iptables-nft, 500 Services of 3"] = _scenario(
            "flannel-host-gw", _PROXIES["iptables-nft"], 500, 3
        )
    return found


def _grid() -> dict[str, Scenario]:
    """Every CNI plugin with every proxy, from 1 to 10 000 Services of three endpoints on both nodes."""
    return {
        f"{cni}, {name}, {services} Services of 3": _scenario(cni, proxy, services, 3, list(_NODES.values()))
        for cni in _CNIS
        for name, proxy in _PROXIES.items()
        for services in _SERVICES_OF_GRID
    }


def _scenario(cni: str, proxy: Any, services: int = 1, endpoints: int = 1, nodes: list[str] | None = None) -> Scenario:
    """A client on the first node, and endpoints on some, by default on the other one."""
    return Scenario.model_validate(
        {
            "cluster": {
                "nodes": 2,
                "services": services,
                "endpoints": endpoints,
                "endpoint_nodes": nodes or ["node-2"],
            },
            "cni": _WITHOUT_RULES.get(cni, cni),
            "proxy": proxy,
            "traffic": {"workload": "udp_rr", "clients_on": ["node-1"]},
        }
    )
