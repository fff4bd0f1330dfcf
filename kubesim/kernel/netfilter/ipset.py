"""IP sets: what iptables rules look addresses and ports up in, at a cost that does not grow with the set."""

from __future__ import annotations

import ipaddress
import itertools
from typing import TYPE_CHECKING

from kubesim.errors import InputError, did_you_mean
from kubesim.kernel.netfilter.option import RuleSyntaxError, number_of, numbered_lines
from kubesim.kernel.netfilter.syntax import tokens_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet

Entry = tuple[str | int, ...]
"""What is in a set, such as ``("10.96.0.1", "tcp", 443)``: a port of a hash comes with its protocol."""

_HIGHEST_PORT = 65535
_WITHOUT_PORTS = ("icmp", "ipv6-icmp")
"""Protocols that have a type and a code where others have a port; those stay text."""

_LOOKED_AT = ("ip", "net", "port")
"""Dimensions that a packet can be held against here; a set with any other holds no packet."""


class IpSet:
    """A set of tuples, such as ``("10.96.0.1", "tcp", 443)`` for the type ``hash:ip,port``.

    Parameters
    ----------
    name
        Its name.
    kind
        Its type as ipset calls it.
    entries
        What is in it; shared, not copied. Ranges are text such as ``192.168.0.0/24``.
    options
        What else it was made with, as ``ipset save`` prints it.
    exceptions
        Those of the entries that say what is not in it (``nomatch``).

    Attributes
    ----------
    is_modelled
        Whether packets can be looked up in it; a set of another type holds none.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        entries: Collection[Entry] = frozenset(),
        options: str = "",
        exceptions: Collection[Entry] = frozenset(),
    ) -> None:
        self.name = name
        self.kind = kind
        self.entries = entries
        self.options = options
        self.exceptions = exceptions
        self.method, _, dimensions = kind.partition(":")
        self.dimensions = tuple(dimensions.split(","))
        self.is_modelled = self.method in ("hash", "bitmap") and set(self.dimensions) <= set(_LOOKED_AT)
        self._lengths = _lengths(self) if "net" in self.dimensions else []

    def __len__(self) -> int:
        return len(self.entries)

    def contains(self, packet: Packet, directions: tuple[str, ...]) -> bool:
        """Whether the packet is in the set; ``directions`` are ipset's flags, such as ``("dst", "dst", "src")``."""
        if not self.is_modelled or len(directions) < len(self.dimensions):
            return False
        key = self.key(packet, directions)
        return self._contains_range(key) if "net" in self.dimensions else key in self.entries

    def key(self, packet: Packet, directions: tuple[str, ...]) -> Entry:
        """The tuple looked for, dimension by dimension of the set's type; flags that it has no use for are ignored."""
        found: list[str | int] = []
        for dimension, direction in zip(self.dimensions, directions, strict=False):
            is_source = direction == "src"
            if dimension == "port":
                if self.method == "hash":
                    found.append(packet.protocol)
                found.append(packet.source_port if is_source else packet.destination_port)
            else:
                found.append(packet.source if is_source else packet.destination)
        return tuple(found)

    def save(self) -> str:
        """The lines that make it, as ``ipset save`` prints them; entries are sorted as text."""
        kind = f"{self.kind} {self.options}".strip()
        added = sorted(
            f"add {self.name} {entry_text(self.kind, entry)}{' nomatch' if entry in self.exceptions else ''}"
            for entry in self.entries
        )
        return "\n".join([f"create {self.name} {kind}", *added, ""])

    def _contains_range(self, key: Entry) -> bool:
        """Mask the addresses with each length that is there, the longest first (``mtype_test_cidrs``)."""
        places = _range_places(self)
        for lengths in self._lengths:
            masked = list(key)
            for place, length in zip(places, lengths, strict=True):
                masked[place] = _masked(str(key[place]), length)
            entry = tuple(masked)
            if entry in self.entries:
                return entry not in self.exceptions
        return False


def _range_places(ipset: IpSet) -> list[int]:
    """Where the ranges are in an entry: a port of a hash takes two places."""
    places, position = [], 0
    for dimension in ipset.dimensions:
        if dimension == "net":
            places.append(position)
        position += 2 if dimension == "port" and ipset.method == "hash" else 1
    return places


def _lengths(ipset: IpSet) -> list[tuple[int, ...]]:
    """The lengths of masks in the set, in all combinations, the longest first."""
    found: list[set[int]] = []
    for place in _range_places(ipset):
        texts = (str(entry[place]) for entry in ipset.entries if place < len(entry))
        found.append({int(length) for _, slash, length in (text.rpartition("/") for text in texts) if slash})
    return sorted(itertools.product(*found), reverse=True)


def _masked(address: str, length: int) -> str:
    """The range of so many bits that an address is in; empty where the family has no such length."""
    try:
        return str(ipaddress.ip_network(f"{address}/{length}", strict=False))
    except ValueError:
        return ""


def entry_text(kind: str, entry: Entry) -> str:
    """An entry as ipset takes and prints it: ``10.96.0.1,tcp:443``."""
    method, _, dimensions = kind.partition(":")
    values = iter(entry)
    parts = []
    for dimension in dimensions.split(","):
        value = str(next(values, ""))
        if dimension == "port" and method == "hash":
            value = f"{value}:{next(values, '')}"
        parts.append(value)
    return ",".join([*parts, *map(str, values)])


def read_ipsets(text: str, place: str) -> dict[str, IpSet]:
    """Read what ``ipset save`` prints.

    Parameters
    ----------
    text
        Lines that begin with ``create`` and ``add``; options that are not known are kept, those of entries are ignored.
    place
        What to call it in messages, such as its path.

    Returns
    -------
    dict of str to IpSet
        The sets by name, in order.

    Raises
    ------
    InputError
        If a line makes no sense, with its number.
    """
    reader = _Reader()
    for number, line in numbered_lines(text):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        try:
            reader.take([token.text for token in tokens_of(stripped)])
        except RuleSyntaxError as error:
            raise InputError(f"{place}, line {number}: {error}") from None
    return {name: found.ipset(name) for name, found in reader.sets.items()}


def install_ipsets(namespace: Namespace, ipsets: Iterable[IpSet]) -> None:
    """Put sets into a namespace; one that is there already under the same name is replaced."""
    for ipset in ipsets:
        namespace.ipsets[ipset.name] = ipset


class _Read:
    """A set as far as it is read."""

    def __init__(self, kind: str, options: str) -> None:
        self.kind = kind
        self.options = options
        self.entries: set[Entry] = set()
        self.exceptions: set[Entry] = set()

    def ipset(self, name: str) -> IpSet:
        """The set."""
        return IpSet(name, self.kind, self.entries, self.options, self.exceptions)


class _Reader:
    """Applies lines of ``ipset save``."""

    def __init__(self) -> None:
        self.sets: dict[str, _Read] = {}

    def take(self, words: list[str]) -> None:
        """Apply one line."""
        match words:
            case [("create" | "-N" | "--create"), name, kind, *options]:
                self._create(name, kind, options)
            case [("add" | "-A" | "--add"), name, entry, *options]:
                self._add(name, entry, options)
            case [("create" | "add"), *_]:
                raise RuleSyntaxError(f"{words[0]} needs the name of a set and {_NEEDED[words[0]]}")
            case _:
                raise RuleSyntaxError(f"a line begins with create or add, not {words[0][:40]!r}")

    def _create(self, name: str, kind: str, options: list[str]) -> None:
        if name in self.sets:
            raise RuleSyntaxError(f"set {name} is there already")
        method, colon, dimensions = kind.partition(":")
        if not colon or not dimensions or method not in ("hash", "bitmap", "list"):
            raise RuleSyntaxError(f"{kind!r} is no type of a set, such as hash:ip,port")
        self.sets[name] = _Read(kind, " ".join(options))

    def _add(self, name: str, text: str, options: list[str]) -> None:
        found = self.sets.get(name)
        if found is None:
            raise RuleSyntaxError(f"there is no set {name!r}: {did_you_mean(name, self.sets)}")
        entry = tuple(_values(found.kind, text))
        found.entries.add(entry)
        if "nomatch" in options:
            found.exceptions.add(entry)


_NEEDED = {"create": "its type", "add": "an entry"}


def _values(kind: str, text: str) -> Iterator[str | int]:
    """What an entry says, dimension by dimension."""
    method, _, listed = kind.partition(":")
    dimensions, parts = listed.split(","), text.split(",")
    if len(parts) != len(dimensions):
        raise RuleSyntaxError(f"{text!r} is no entry of {kind}: {len(dimensions)} parts are needed")
    for dimension, part in zip(dimensions, parts, strict=True):
        match dimension:
            case "ip" if method == "hash":
                yield _address(part)
            case "net":
                yield _range(part)
            case "port":
                protocol, colon, port = part.rpartition(":")
                if method == "hash":
                    yield protocol.lower() if colon else "tcp"
                yield port if protocol.startswith(_WITHOUT_PORTS) else _port(port)
            case _:
                yield part


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise RuleSyntaxError(f"{text!r} is not an address") from None


def _range(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise RuleSyntaxError(f"{text!r} is not a range of addresses") from None


def _port(text: str) -> int:
    port = number_of(text, "port")
    if port > _HIGHEST_PORT:
        raise RuleSyntaxError(f"{text} is not a port")
    return port
