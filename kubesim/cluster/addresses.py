"""Handing out addresses: nodes, a range of pods for each node, virtual addresses."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from kubesim.errors import InputError
from kubesim.units import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

DEFAULT_POD_RANGE = ipaddress.IPv4Network("10.244.0.0/16")
"""What kubeadm with flannel uses, a /24 per node."""

LARGE_POD_RANGE = ipaddress.IPv4Network("10.128.0.0/9")
"""Used when the default range is too small for the pods asked for."""

_DEFAULT_NODE_PREFIX = 24
_RESERVED = 2
"""The network's own address and the gateway's come first."""


def canonical(address: str) -> str:
    """An address as the kernel writes it."""
    return str(ipaddress.ip_address(address))


class AddressPool:
    """Addresses of one range, lowest first.

    Parameters
    ----------
    network
        The range.
    field
        The field of the scenario that gives it a size.
    what
        What the addresses are for, for the message when there are no more.
    taken
        Addresses that are given already.
    first
        Offset of the first address to hand out.
    """

    def __init__(self, network: str, field: str, what: str, taken: Iterable[str] = (), first: int = 1) -> None:
        self._network = ipaddress.IPv4Network(network)
        self._field = field
        self._what = what
        self._taken = set(taken)
        self._next = first

    def take(self) -> str:
        """The next free address.

        Raises
        ------
        InputError
            If the range is used up.
        """
        while self._next < self._network.num_addresses - 1:
            address = str(self._network[self._next])
            self._next += 1
            if address not in self._taken:
                return address
        raise InputError(f"{self._field}: {self._network} has no addresses left for {self._what}: give a larger range")

    def take_block(self, count: int) -> str:
        """The first of so many free addresses in a row, behind all that are taken.

        Raises
        ------
        InputError
            If the range has no such block.
        """
        inside = (ipaddress.IPv4Address(address) for address in self._taken)
        highest = max((int(address) for address in inside if address in self._network), default=0)
        start = max(int(self._network.network_address) + self._next, highest + 1)
        if start + count > int(self._network.broadcast_address):
            free = max(0, int(self._network.broadcast_address) - start)
            raise InputError(
                f"{self._field}: {self._network} has {counted(free, 'address', 'addresses')} left for "
                f"{count} {self._what}: give a larger range"
            )
        self._next = start + count - int(self._network.network_address)
        return str(ipaddress.IPv4Address(start))


def pod_ranges(
    nodes: int, pods_per_node: int, pod_cidr: str | None, taken: Iterable[str], given: Iterable[str] = ()
) -> tuple[str, list[str]]:
    """Cut a range of pod addresses into one per node, large enough for each.

    Parameters
    ----------
    nodes
        How many ranges are needed.
    pods_per_node
        How many addresses each must have at least.
    pod_cidr
        The whole range where it was given; None to choose one.
    taken
        Ranges that are in use for something else.
    given
        Ranges that some nodes have already.

    Returns
    -------
    tuple of str and list of str
        The whole range, and ranges for the nodes that have none yet.

    Raises
    ------
    InputError
        If it cannot be done.
    """
    node_prefix = min(_DEFAULT_NODE_PREFIX, 32 - (pods_per_node + _RESERVED).bit_length())
    if pod_cidr is None:
        fitting = (one for one in (DEFAULT_POD_RANGE, LARGE_POD_RANGE) if _fits(one, nodes, node_prefix))
        whole = next(fitting, LARGE_POD_RANGE)
        for other in taken:
            if whole.overlaps(ipaddress.IPv4Network(other)):
                raise InputError(f"the pods need the range {whole}, which overlaps {other}: give cluster.pod_cidr")
    else:
        whole = ipaddress.IPv4Network(pod_cidr)
        if not _fits(whole, nodes, node_prefix):
            node_prefix = 32 - (pods_per_node + _RESERVED).bit_length()
    if not _fits(whole, nodes, node_prefix):
        raise InputError(
            f"cluster.pod_cidr: the range {whole} is too small for {nodes} nodes with up to {pods_per_node} pods each: "
            f"it would need {nodes} ranges of /{node_prefix}"
        )
    size = 1 << (32 - node_prefix)
    base = int(whole.network_address)
    in_use = [ipaddress.IPv4Network(text) for text in given]
    ranges: list[str] = []
    for index in range(1 << (node_prefix - whole.prefixlen)):
        if len(ranges) == nodes - len(in_use):
            break
        candidate = ipaddress.IPv4Network((base + index * size, node_prefix))
        if not any(candidate.overlaps(other) for other in in_use):
            ranges.append(str(candidate))
    if len(ranges) < nodes - len(in_use):
        raise InputError(
            f"cluster.pod_cidr: the range {whole} has no room left for "
            f"{counted(nodes - len(in_use), 'node')} without a podCIDR"
        )
    return str(whole), ranges


def _fits(whole: ipaddress.IPv4Network, nodes: int, node_prefix: int) -> bool:
    return node_prefix >= whole.prefixlen and nodes <= 1 << (node_prefix - whole.prefixlen)
