"""IP addresses as the text people write, prefixes as numbers that can be compared quickly, and MAC addresses."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Prefix:
    """A range of addresses, such as ``10.244.0.0/16``; a bare address is a prefix of one.

    Parameters
    ----------
    text
        The prefix as written; bits behind the mask are cleared.

    Raises
    ------
    ValueError
        If ``text`` is neither an address nor a prefix.
    """

    text: str
    length: int = field(init=False, compare=False)
    host: str | None = field(init=False, compare=False)
    _shift: int = field(init=False, compare=False, repr=False)
    _network: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        if "/" not in self.text:
            width = 128 if ":" in self.text else 32
            length, number = width, address_number(self.text)
        else:
            network = ipaddress.ip_network(self.text, strict=False)
            width, length = network.max_prefixlen, network.prefixlen
            number = address_number(str(network.network_address))
            object.__setattr__(self, "text", str(network))
        shift = width - length
        object.__setattr__(self, "length", length)
        object.__setattr__(self, "host", self.text.partition("/")[0] if shift == 0 else None)
        object.__setattr__(self, "_shift", shift)
        object.__setattr__(self, "_network", number >> shift)

    def __contains__(self, address: str) -> bool:
        if self.host is not None:
            return address == self.host
        return address_number(address) >> self._shift == self._network

    def __str__(self) -> str:
        return self.text


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
