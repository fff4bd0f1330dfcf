"""The routing table of a namespace: longest prefix wins, and the addresses of the namespace itself come first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubesim.kernel.address import Prefix, address_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kubesim.kernel.device import Device


@dataclass(frozen=True, slots=True)
class Route:
    """Where packets for a prefix go.

    Parameters
    ----------
    prefix
        Destinations it is for.
    device
        Device they leave through; None for a route that says "unreachable" (``blackhole``).
    via
        Next hop, or None when the destination itself is on the link.
    source
        Preferred source address for packets that start here.
    """

    prefix: Prefix
    device: Device | None
    via: str | None = None
    source: str | None = None

    def next_hop(self, destination: str) -> str:
        """The address whose link-layer address is needed."""
        return self.via or destination


class RoutingTable:
    """Routes by prefix length, so that a lookup asks once per length in use (net/ipv4/fib_trie.c does it in a trie)."""

    def __init__(self) -> None:
        self._by_length: dict[int, dict[int, Route]] = {}
        self._lengths: list[tuple[int, int]] = []

    def add(self, route: Route) -> None:
        """Add a route, or replace the one for the same prefix."""
        family_bits = 128 if ":" in route.prefix.text else 32
        length = route.prefix.length
        shift = family_bits - length
        key = (family_bits << 8) | length
        number = address_number(route.prefix.text.partition("/")[0]) >> shift
        if key not in self._by_length:
            self._by_length[key] = {}
            self._lengths.append((key, shift))
            self._lengths.sort(reverse=True)
        self._by_length[key][number] = route

    def lookup(self, destination: str) -> Route | None:
        """The route with the longest matching prefix, or None."""
        number = address_number(destination)
        for key, shift in self._lengths:
            route = self._by_length[key].get(number >> shift)
            if route is not None:
                return route
        return None

    def __iter__(self) -> Iterator[Route]:
        for key, _ in self._lengths:
            yield from self._by_length[key].values()

    def __len__(self) -> int:
        return sum(map(len, self._by_length.values()))
