"""IP addresses as the text people write, prefixes as numbers that can be compared quickly, and MAC addresses."""

from __future__ import annotations

import hashlib
import ipaddress
from functools import lru_cache


@lru_cache(maxsize=1 << 17)
def address_number(address: str) -> int:
    """The address as a number; IPv6 numbers lie above all IPv4 ones, so the two families never meet.

    Raises
    ------
    ValueError
        If ``address`` is no IP address.
    """
    parsed = ipaddress.ip_address(address)
    return int(parsed) if parsed.version == 4 else (1 << 128) | int(parsed)


class Prefix:
    """A range of addresses, such as ``10.244.0.0/16``; a bare address, or one with ``/32``, is a range of one.

    Parameters
    ----------
    text
        The prefix as written; bits behind the mask are cleared. A mask may have holes, as in ``10.0.0.0/255.0.255.0``.

    Raises
    ------
    ValueError
        If ``text`` has a mask and is no prefix.
    """

    __slots__ = ("_mask", "_network", "host", "length", "text")

    def __init__(self, text: str) -> None:
        self.host: str | None = None
        if "/" not in text:
            # Most prefixes are single addresses in rules: made by the thousand, and only ever compared as text.
            self.text = self.host = text
            self.length = 128 if ":" in text else 32
            return
        address, _, mask = text.partition("/")
        if "." in mask or ":" in mask:
            self._set_mask(address, ipaddress.ip_address(mask))
        else:
            network = ipaddress.ip_network(text, strict=False)
            self._set_mask(address, network.netmask)

    def _set_mask(self, address: str, mask: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
        bits = mask.max_prefixlen
        above = ((1 << 129) - 1) >> bits << bits  # what tells the families apart
        self._mask = int(mask) | above
        self._network = address_number(address) & self._mask
        self.length = int(mask).bit_count()
        if type(ipaddress.ip_address(address)) is not type(mask):
            raise ValueError(f"{address} and {mask} are of different families")
        first = str(type(mask)(int(mask) & int(ipaddress.ip_address(address))))
        if int(mask) == (1 << bits) - (1 << (bits - self.length)):
            self.text = f"{first}/{self.length}"
        else:
            self.text = f"{first}/{mask}"
        if self.length == bits:
            self.host = first

    def __contains__(self, address: str) -> bool:
        if self.host is not None:
            return address == self.host
        return address_number(address) & self._mask == self._network

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Prefix) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Prefix({self.text!r})"


@lru_cache(maxsize=1 << 12)
def mac_address(*owner: str) -> str:
    """A locally administered MAC address that is always the same for the same owner."""
    digest = hashlib.sha256("/".join(owner).encode()).digest()[:5]
    return ":".join(f"{byte:02x}" for byte in b"\x02" + digest)


@lru_cache(maxsize=1 << 16)
def flow_hash(*flow: str | int) -> int:
    """A hash of a flow that is the same on every machine and in both directions of the flow.

    Linux hashes a flow with source and destination sorted (``__flow_hash_consistentify``, net/core/flow_dissector.c),
    so request and reply of a tunnelled flow leave with the same outer source port.
    """
    text = "|".join(sorted(str(part) for part in flow))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
