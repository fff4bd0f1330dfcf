"""Lists of clients seen lately: xt_recent's, which are short, and dynamic sets of nftables, which are not."""

from __future__ import annotations

PLACES = 100
"""Clients in a list of xt_recent by default (``ip_list_tot``, xt_recent.c)."""


class RecentClients:
    """Addresses in the order in which they were last noted.

    Parameters
    ----------
    places
        How many it holds: one more, and the one noted longest ago is forgotten (``recent_entry_init``). None for any
        number.
    """

    def __init__(self, places: int | None = None) -> None:
        self._places = places
        self._addresses: dict[str, None] = {}

    def __contains__(self, address: str) -> bool:
        return address in self._addresses

    def note(self, address: str) -> None:
        """Put an address last."""
        self._addresses.pop(address, None)
        if self._places is not None and len(self._addresses) >= self._places:
            del self._addresses[next(iter(self._addresses))]
        self._addresses[address] = None
