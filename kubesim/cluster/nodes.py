"""Nodes from their objects and by number: names, addresses, ranges of pod addresses."""

from __future__ import annotations

import ipaddress
import itertools
from typing import TYPE_CHECKING

from kubesim.cluster.addresses import AddressPool, pod_ranges
from kubesim.cluster.records import Node
from kubesim.errors import InputError, did_you_mean
from kubesim.units import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kubesim.cluster.manifests import Manifests
    from kubesim.cluster.objects import NodeObject
    from kubesim.cluster.spec import ClusterSpec

DEFAULT_NODES = 3
_FIRST_NODE_ADDRESS = 11
_LONGEST_NODE_PREFIX = 28
"""No smaller network has addresses behind the first that nodes get."""


def node_labels(spec: ClusterSpec, manifests: Manifests, wanted_node: str | None = None) -> dict[str, dict[str, str]]:
    """Names and labels of all nodes: the given ones, the one that is asked for, and as many as the size says.

    Where no Node is given, those that pods and templates say they are on are taken as given.

    Raises
    ------
    InputError
        If fewer nodes are asked for than are given.
    """
    labels = {node.metadata.name: dict(node.metadata.labels) for node in manifests.nodes}
    if not labels:
        names = dict.fromkeys(_nodes_of_pods(manifests))
        labels = {name: {"kubernetes.io/hostname": name} for name in names if name}
    if wanted_node is not None and wanted_node not in labels:
        if labels and not _is_mentioned(wanted_node, manifests):
            raise InputError(f"there is no node {wanted_node!r}: {did_you_mean(wanted_node, labels)}")
        labels[wanted_node] = {}
    wanted = spec.nodes if spec.nodes is not None else len(labels) or DEFAULT_NODES
    if wanted < len(labels):
        raise InputError(f"cluster.nodes is {wanted}, but the manifests have {len(labels)} nodes")
    number = 0
    while len(labels) < wanted:
        number += 1
        labels.setdefault(f"node-{number}", {"kubernetes.io/hostname": f"node-{number}"})
    return labels


def _is_mentioned(node: str, manifests: Manifests) -> bool:
    """Whether an endpoint or a pod is said to be on a node."""
    endpoints = (one.node_name for one_slice in manifests.slices for one in one_slice.endpoints)
    return node in endpoints or node in _nodes_of_pods(manifests)


def _nodes_of_pods(manifests: Manifests) -> list[str | None]:
    """The node that each pod, and each controller's template, says."""
    specs = [pod.spec for pod in manifests.pods]
    specs += [controller.spec.template.spec for controller in manifests.controllers]
    return [spec.node_name for spec in specs]


def make_nodes(
    spec: ClusterSpec, manifests: Manifests, labels: Mapping[str, Mapping[str, str]], pods: Mapping[str, int]
) -> tuple[list[Node], str]:
    """Node records, and the range that holds all pod addresses.

    Parameters
    ----------
    spec, manifests, labels
        What is known of the nodes.
    pods
        How many pods each node has to hold.

    Raises
    ------
    InputError
        If a range is not one, overlaps another, or is too small.
    """
    objects = {node.metadata.name: node for node in manifests.nodes}
    given_addresses = {name: node.internal_ip for name, node in objects.items() if node.internal_ip is not None}
    networks = _Networks(spec, len(labels), given_addresses)
    for node in manifests.nodes:
        _check_ranges(node)
    given_ranges = {name: node.pod_range for name, node in objects.items() if node.pod_range is not None}
    if len(given_ranges) == len(labels) and spec.pod_cidr is None:
        ranges, whole = given_ranges, _covering(given_ranges)
    else:
        taken = (spec.service_cidr, spec.node_cidr)
        whole, cut = pod_ranges(len(labels), max(pods.values()), spec.pod_cidr, taken, given_ranges.values())
        free = iter(cut)
        ranges = {name: given_ranges.get(name) or next(free) for name in labels}
    nodes = [_node(name, objects.get(name), networks, ranges[name], labels[name]) for name in labels]
    _check_apart([(f"podCIDR of {node.name}", node.pod_cidr) for node in nodes])
    _check_apart([("cluster.service_cidr", spec.service_cidr), ("the pods' range", whole)])
    return nodes, whole


def check_is_routable(node: NodeObject) -> None:
    """Refuse a node that has pods' addresses of IPv6 only, as simulated packets are of IPv4.

    Raises
    ------
    InputError
        If it is such a node.
    """
    if node.pod_ranges and node.pod_range is None:
        raise InputError(f"Node {node.metadata.name}: podCIDR {node.pod_ranges[0]} is of IPv6: IPv4 only is simulated")


def _check_ranges(node: NodeObject) -> None:
    for text in node.pod_ranges:
        try:
            ipaddress.ip_network(text)
        except ValueError:
            name = node.metadata.name
            raise InputError(f"Node {name}: podCIDR {text!r} is not a range of addresses") from None


def _node(
    name: str,
    given: NodeObject | None,
    networks: _Networks,
    pod_cidr: str,
    labels: Mapping[str, str],
) -> Node:
    """One node's record."""
    address, subnet = networks.place(name)
    listed, ranges = (given.ips, given.pod_ranges) if given is not None else ((), ())
    return Node(name, address, pod_cidr, labels, listed or (address,), ranges or (pod_cidr,), subnet)


class _Networks:
    """The layer-2 networks that nodes are on, and the addresses that are free there."""

    def __init__(self, spec: ClusterSpec, nodes: int, given: Mapping[str, str]) -> None:
        if spec.node_subnets > nodes:
            raise InputError(f"cluster.node_subnets is {spec.node_subnets}, but there are {counted(nodes, 'node')}")
        self._given = given
        self._ranges = _parts(spec.node_cidr, spec.node_subnets)
        self._pools = [
            AddressPool(str(one), "cluster.node_cidr", "nodes", given.values(), first=_FIRST_NODE_ADDRESS)
            for one in self._ranges
        ]
        self._turn = itertools.cycle(range(spec.node_subnets))

    def place(self, name: str) -> tuple[str, str | None]:
        """A node's address, and the range of its network where there are several."""
        turn = next(self._turn)
        address = self._given.get(name) or self._pools[turn].take()
        if len(self._ranges) == 1:
            return address, None
        for network in self._ranges:
            if ipaddress.IPv4Address(address) in network:
                return address, str(network)
        ranges = " or ".join(str(network) for network in self._ranges)
        raise InputError(f"Node {name} has the address {address}, which is not in {ranges} of cluster.node_subnets")


def _parts(node_cidr: str, count: int) -> list[ipaddress.IPv4Network]:
    """So many equal parts of a range, from its start."""
    whole = ipaddress.IPv4Network(node_cidr)
    prefix = whole.prefixlen + (count - 1).bit_length()
    if prefix > _LONGEST_NODE_PREFIX:
        raise InputError(f"cluster.node_cidr: {node_cidr} is too small for {count} networks of nodes")
    return list(itertools.islice(whole.subnets(new_prefix=prefix), count))


def _covering(ranges: Mapping[str, str]) -> str:
    """The smallest range that holds all nodes' ranges."""
    networks = [ipaddress.IPv4Network(text) for text in ranges.values()]
    whole = networks[0]
    while not all(network.subnet_of(whole) for network in networks):
        whole = whole.supernet()
    return str(whole)


def _check_apart(ranges: list[tuple[str, str]]) -> None:
    """Refuse ranges that overlap; sorted by address, only neighbours can."""
    networks = sorted((ipaddress.IPv4Network(text), name) for name, text in ranges)
    for (lower, lower_name), (upper, upper_name) in itertools.pairwise(networks):
        if lower.overlaps(upper):
            raise InputError(f"{lower_name} {lower} overlaps {upper_name} {upper}")
