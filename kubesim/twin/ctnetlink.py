"""What user space tells conntrack through netlink: entries that no packet has made, and to forget all."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

from kubesim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from kubesim.twin.frames import Flow

_NETLINK_NETFILTER = 12
_SUBSYSTEM = 1 << 8  # NFNL_SUBSYS_CTNETLINK
_NEW, _DELETE = _SUBSYSTEM | 0, _SUBSYSTEM | 2  # IPCTNL_MSG_CT_NEW, IPCTNL_MSG_CT_DELETE
_REQUEST, _ACKNOWLEDGE, _CREATE = 0x1, 0x4, 0x400
_ORIGINAL, _REPLY, _STATUS, _TIMEOUT = 1, 2, 3, 7  # enum ctattr_type
_NESTED = 0x8000
_SEEN_REPLY, _ASSURED, _CONFIRMED = 1 << 1, 1 << 2, 1 << 3  # enum ip_conntrack_status
_UDP = 17
_ENTRIES_PER_CALL = 250


def forget_all() -> None:
    """Empty the table of the namespace that this thread is in, as ``conntrack -F`` does."""
    with _netlink() as netlink:
        netlink.send(_message(_DELETE, _REQUEST | _ACKNOWLEDGE, b""))
        netlink.recv(4096)


def add_entries(flows: Iterable[Flow], timeout_s: int, *, is_assured: bool) -> None:
    """Put entries of UDP into the table of the namespace that this thread is in.

    Parameters
    ----------
    flows
        One for each entry.
    timeout_s
        How long they stay.
    is_assured
        Whether they have been answered for so long that they are not dropped to make room.

    Raises
    ------
    InputError
        If the kernel refuses one.
    """
    for messages in _batches(_entry(flow, timeout_s, is_assured=is_assured) for flow in flows):
        with _netlink() as netlink:
            netlink.send(messages)
            netlink.setblocking(False)
            try:
                answer = netlink.recv(4096)  # entries that are taken are not acknowledged
            except BlockingIOError:
                continue
            (error,) = struct.unpack_from("=i", answer, 16)
            raise InputError(f"conntrack does not take an entry: {os.strerror(-error)}")


def _batches(messages: Iterable[bytes]) -> Iterator[bytes]:
    batch: list[bytes] = []
    for message in messages:
        batch.append(message)
        if len(batch) == _ENTRIES_PER_CALL:
            yield b"".join(batch)
            batch.clear()
    if batch:
        yield b"".join(batch)


def _entry(flow: Flow, timeout_s: int, *, is_assured: bool) -> bytes:
    """What makes one entry."""
    ends = socket.inet_aton(flow.source), socket.inet_aton(flow.destination)
    ports = struct.pack("!H", flow.source_port), struct.pack("!H", flow.port)
    status = _CONFIRMED | (_SEEN_REPLY | _ASSURED if is_assured else 0)
    return _message(
        _NEW,
        _REQUEST | _CREATE,
        _tuple(_ORIGINAL, ends, ports)
        + _tuple(_REPLY, ends[::-1], ports[::-1])
        + _attribute(_STATUS, struct.pack("!I", status))
        + _attribute(_TIMEOUT, struct.pack("!I", timeout_s)),
    )


def _tuple(kind: int, ends: tuple[bytes, ...], ports: tuple[bytes, ...]) -> bytes:
    addresses = _attribute(1, ends[0]) + _attribute(2, ends[1])
    protocol = _attribute(1, bytes([_UDP])) + _attribute(2, ports[0]) + _attribute(3, ports[1])
    return _attribute(kind | _NESTED, _attribute(1 | _NESTED, addresses) + _attribute(2 | _NESTED, protocol))


def _attribute(kind: int, value: bytes) -> bytes:
    """``struct nlattr`` and its value, filled up to four bytes."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _message(kind: int, flags: int, attributes: bytes) -> bytes:
    """``struct nlmsghdr`` and ``struct nfgenmsg``; a family of 0 stands for all, which only forgetting has."""
    family = socket.AF_INET if attributes else 0
    return (
        struct.pack("=IHHII", 20 + len(attributes), kind, flags, 1, 0) + struct.pack("=BBH", family, 0, 0) + attributes
    )


def _netlink() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
