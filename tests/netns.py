"""A node in a network namespace of the real kernel: rules go in, single packets go through, counters come out."""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import os
import shutil
import socket
import struct
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

_LIBC = ctypes.CDLL(None, use_errno=True)
_NODE_MAC = bytes.fromhex("020000000001")
_WORLD_MAC = bytes.fromhex("020000000002")
_IPV4, _IPV6 = 0x0800, 0x86DD
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_WAIT_S = 0.25

needs_kernel = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for network namespaces"),
]
"""Marks of tests that ask the real kernel."""


def require(*tools: str) -> None:
    """Skip the test if a tool is not installed."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")


class Arrived(NamedTuple):
    """Headers of a packet that left the node."""

    source: str
    destination: str
    port: int


class KernelNode:
    """A namespace with ``eth0`` and ``pod0``, both of which lead to a namespace that is everybody else."""

    def __init__(self, addresses: list[str]) -> None:
        self.name = f"kubesim-test-{uuid.uuid4().hex[:8]}"
        self.world = f"{self.name}-world"
        self._source_port = 20_000
        for name in (self.name, self.world):
            run("ip", "netns", "add", name)
        for device in ("eth0", "pod0"):
            self.do("ip", "link", "add", device, "address", _text(_NODE_MAC), "type", "veth",
                    "peer", device, "address", _text(_WORLD_MAC), "netns", self.world)  # fmt: skip
            run("ip", "-n", self.world, "link", "set", device, "up")
            self.do("ip", "link", "set", device, "up")
        self.do("ip", "link", "set", "lo", "up")
        for setting in (
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.eth0.rp_filter=0",
            "net.ipv4.conf.pod0.rp_filter=0",
            "net.ipv4.conf.all.accept_local=1",
            "net.ipv4.conf.all.route_localnet=1",
            "net.ipv6.conf.eth0.accept_dad=0",
            "net.ipv6.conf.pod0.accept_dad=0",
        ):
            self.do("sysctl", "-qw", setting)
        for address in addresses:
            length = "128" if ":" in address else "32"
            self.do(
                "ip", "address", "add", f"{address}/{length}", "dev", "eth0", *(["nodad"] if ":" in address else [])
            )
        for family, gateway in (("-4", "169.254.0.1"), ("-6", "fe80::1")):
            self.do("ip", family, "neighbour", "add", gateway, "lladdr", _text(_WORLD_MAC), "dev", "eth0")
            onlink = ["onlink"] if family == "-4" else []
            self.do("ip", family, "route", "add", "default", "via", gateway, "dev", "eth0", *onlink)

    def close(self) -> None:
        """Leave nothing behind."""
        for name in (self.name, self.world):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)

    def do(self, *command: str, text: str | None = None) -> str:
        """Run a command on the node."""
        return run("ip", "netns", "exec", self.name, *command, text=text)

    def send(self, source: str, destination: str, protocol: str, port: int, device: str | None) -> Arrived | None:
        """Send the first packet of a connection; what leaves the node, None if nothing does within a moment.

        Parameters
        ----------
        source, destination, protocol, port
            Its headers.
        device
            The device it comes in by; None for a packet that starts on the node.
        """
        self._source_port += 1
        packet = _packet(source, destination, protocol, self._source_port, port)
        with _inside(self.world), contextlib.closing(_sniffer("eth0")) as sniffer:
            if device is None:
                with _inside(self.name):
                    _send_from_here(packet, destination)
            else:
                ethertype = _IPV6 if ":" in source else _IPV4
                with contextlib.closing(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)) as out:
                    out.bind((device, 0))
                    out.send(_NODE_MAC + _WORLD_MAC + struct.pack("!H", ethertype) + packet)
            return _arrived(sniffer, protocol)


@contextlib.contextmanager
def kernel_node(addresses: list[str]) -> Iterator[KernelNode]:
    """A node that is gone afterwards."""
    require("ip", "sysctl")
    node = KernelNode(addresses)
    try:
        yield node
    finally:
        node.close()


def run(*command: str, text: str | None = None) -> str:
    """Run a command; what it printed."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, input=text, timeout=60)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


@contextlib.contextmanager
def _inside(namespace: str) -> Iterator[None]:
    """Be in a network namespace; sockets made there stay there."""
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(str(Path("/run/netns") / namespace), os.O_RDONLY)
    try:
        assert _LIBC.setns(there, 0) == 0
        yield
    finally:
        assert _LIBC.setns(here, 0) == 0
        os.close(there)
        os.close(here)


def _sniffer(device: str) -> socket.socket:
    sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sniffer.bind((device, 3))
    sniffer.settimeout(_WAIT_S)
    return sniffer


def _arrived(sniffer: socket.socket, protocol: str) -> Arrived | None:
    """The first packet of the protocol that the node sends out; others, such as neighbour solicitations, are passed over."""
    for _ in range(50):
        try:
            frame, (_, _, kind, _, _) = sniffer.recvfrom(65_535)
        except TimeoutError:
            return None
        if kind == socket.PACKET_OUTGOING:
            continue
        found = _headers(frame, _PROTOCOLS[protocol])
        if found is not None:
            return found
    return None


def _headers(frame: bytes, protocol: int) -> Arrived | None:
    (ethertype,) = struct.unpack("!H", frame[12:14])
    if ethertype == _IPV4 and frame[23] == protocol:
        source, destination, start = frame[26:30], frame[30:34], 14 + (frame[14] & 15) * 4
    elif ethertype == _IPV6 and frame[20] == protocol:
        source, destination, start = frame[22:38], frame[38:54], 54
    else:
        return None
    (port,) = struct.unpack("!H", frame[start + 2 : start + 4])
    return Arrived(str(ipaddress.ip_address(source)), str(ipaddress.ip_address(destination)), port)


def _send_from_here(packet: bytes, destination: str) -> None:
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    with (
        contextlib.closing(socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)) as out,
        contextlib.suppress(PermissionError),
    ):
        out.sendto(packet, (destination, 0))


def _packet(source: str, destination: str, protocol: str, source_port: int, port: int) -> bytes:
    """An IP packet that opens a connection."""
    ends = ipaddress.ip_address(source).packed, ipaddress.ip_address(destination).packed
    number = _PROTOCOLS[protocol]
    if protocol == "tcp":
        body = struct.pack("!HHIIBBHHH", source_port, port, 1, 0, 0x50, 0x02, 65_535, 0, 0)
        at = 16
    else:
        body = struct.pack("!HHHH", source_port, port, 8 + 4, 0) + b"test"
        at = 6
    pseudo = ends[0] + ends[1] + struct.pack("!II", len(body), number)
    body = body[:at] + struct.pack("!H", _checksum(pseudo + body)) + body[at + 2 :]
    if len(ends[0]) == 16:
        return struct.pack("!IHBB", 0x60000000, len(body), number, 64) + ends[0] + ends[1] + body
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), source_port, 0, 64, number, 0) + ends[0] + ends[1]
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + body


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _text(mac: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in mac)
