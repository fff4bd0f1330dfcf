"""Ethernet frames, and sending many of them with one system call (``sendmmsg`` on an ``AF_PACKET`` socket)."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
import struct
import time
from typing import TYPE_CHECKING, NamedTuple

from kubesim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kubesim.twin.namespaces import Namespace

_LIBC = ctypes.CDLL(None, use_errno=True)
_IPV4 = 0x0800
_UDP = 17
_FRAMES_PER_CALL = 1024  # UIO_MAXIOV, the kernel's limit
_SO_ATTACH_FILTER = 26
_REFUSE_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0)  # BPF: return 0 bytes of every packet


class _IoVector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """``struct msghdr``."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """``struct mmsghdr``."""

    _fields_ = (("header", _Header), ("sent_bytes", ctypes.c_uint))


class _FilterProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


class Flow(NamedTuple):
    """The addresses of a UDP datagram."""

    source: str
    source_port: int
    destination: str
    port: int


def udp_frame(flow: Flow, source_mac: str, destination_mac: str, payload_bytes: int = 64) -> bytes:
    """An Ethernet frame with a UDP datagram, checksums right."""
    ends = ipaddress.ip_address(flow.source).packed + ipaddress.ip_address(flow.destination).packed
    length = 8 + payload_bytes
    ports = struct.pack("!HH", flow.source_port, flow.port)
    pseudo = ends + struct.pack("!HH", _UDP, length) + ports + struct.pack("!H", length)
    datagram = ports + struct.pack("!HH", length, checksum(pseudo) or 0xFFFF) + bytes(payload_bytes)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0, 64, _UDP, 0) + ends
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    return _mac(destination_mac) + _mac(source_mac) + struct.pack("!H", _IPV4) + header + datagram


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes.

    >>> hex(checksum(bytes.fromhex("4500003044224000800600008c7c19acae241e2b")))
    '0x442e'
    """
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Burst:
    """Frames laid out for the kernel, sent out of a device of a namespace.

    Parameters
    ----------
    namespace, device
        Where they are sent.
    frames
        All of one length.
    """

    def __init__(self, namespace: Namespace, device: str, frames: Sequence[bytes]) -> None:
        with namespace.inside():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._socket.bind((device, 0))
        size = len(frames[0])
        self._data = ctypes.create_string_buffer(b"".join(frames), size * len(frames))
        self._vectors = (_IoVector * len(frames))()
        self._messages = (_Message * len(frames))()
        first, vectors = ctypes.addressof(self._data), ctypes.addressof(self._vectors)
        for number, (vector, message) in enumerate(zip(self._vectors, self._messages, strict=True)):
            vector.base, vector.length = first + number * size, size
            message.header.vectors, message.header.vector_count = vectors + number * ctypes.sizeof(_IoVector), 1
        self.frames = len(frames)

    def send(self, start: int, end: int) -> int:
        """Send frames number ``start`` to ``end``, and give the time it took in nanoseconds."""
        began_ns = time.perf_counter_ns()
        while start < end:
            count = min(_FRAMES_PER_CALL, end - start)
            sent = _LIBC.sendmmsg(self._socket.fileno(), ctypes.byref(self._messages[start]), count, 0)
            if sent <= 0:
                raise InputError(f"cannot send a frame: {os.strerror(ctypes.get_errno())}")
            start += sent
        return time.perf_counter_ns() - began_ns

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


def refusing_socket(namespace: Namespace, port: int) -> socket.socket:
    """A UDP socket that takes no datagram: the kernel frees each as soon as it has found the socket."""
    with namespace.inside():
        sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    program = _FilterProgram(1, _REFUSE_ALL)
    sink.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, bytes(program))
    sink.bind(("0.0.0.0", port))  # noqa: S104 - in a namespace of its own
    return sink


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
