"""Unnamed network namespaces: they last as long as somebody holds them, so that none can be left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from kubesim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_HERE = "/proc/thread-self/ns/net"
_COMMAND_LIMIT_S = 120

_NETLINK_NETFILTER = 12
_CONNTRACK_DELETE = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE
_REQUEST_ACK = 0x1 | 0x4


class Namespace:
    """A network namespace without a name. Its process must have one thread only."""

    def __init__(self) -> None:
        here = os.open(_HERE, os.O_RDONLY)
        try:
            _check(_LIBC.unshare(_CLONE_NEWNET), "make a network namespace")
            self._file = os.open(_HERE, os.O_RDONLY)
        finally:
            _LIBC.setns(here, _CLONE_NEWNET)
            os.close(here)

    @property
    def path(self) -> str:
        """What ``ip link … netns`` takes."""
        return f"/proc/{os.getpid()}/fd/{self._file}"

    def close(self) -> None:
        """Let go of it; the kernel takes it away with all that is in it."""
        os.close(self._file)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Be in it; sockets made there stay there."""
        here = os.open(_HERE, os.O_RDONLY)
        try:
            _check(_LIBC.setns(self._file, _CLONE_NEWNET), "enter a network namespace")
            yield
        finally:
            _LIBC.setns(here, _CLONE_NEWNET)
            os.close(here)

    def run(self, *command: str, text: str = "") -> str:
        """Run a command in it, and give what it printed."""
        with self.inside():
            return run(*command, text=text)

    def ip(self, lines: Sequence[str]) -> None:
        """Have ``ip`` do several things."""
        self.run("ip", "-batch", "-", text="\n".join(lines) + "\n")

    def set(self, **settings: int) -> None:
        """Write settings below ``/proc/sys/net``; two underscores stand for a slash."""
        with self.inside():
            for name, value in settings.items():
                Path("/proc/sys/net", *name.split("__")).write_text(str(value), "ascii")

    def frames_received(self, device: str) -> int:
        """How many frames a device has taken in."""
        with self.inside():
            return frames_received(Path("/proc/thread-self/net/dev").read_text("ascii"), device)

    def datagrams_refused(self) -> int:
        """How many UDP datagrams found a socket that did not want them."""
        with self.inside():
            return datagrams_refused(Path("/proc/thread-self/net/snmp").read_text("ascii"))

    def forget_connections(self) -> None:
        """Empty the conntrack table, as ``conntrack -F`` does."""
        message = struct.pack("=IHHII", 20, _CONNTRACK_DELETE, _REQUEST_ACK, 1, 0) + struct.pack("=BBH", 0, 0, 0)
        with self.inside(), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as netlink:
            netlink.send(message)
            netlink.recv(4096)


def run(*command: str, text: str = "") -> str:
    """Run a command, and give what it printed.

    Raises
    ------
    InputError
        If it is not there, or fails, with the last line of what it says.
    """
    try:
        done = subprocess.run(  # noqa: S603 - the kernel's tools, with words of our own
            command, check=False, capture_output=True, text=True, input=text, timeout=_COMMAND_LIMIT_S
        )
    except FileNotFoundError:
        raise InputError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"{command[0]} took more than {_COMMAND_LIMIT_S} s") from None
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise InputError(f"{' '.join(command)}: {said[0] if said else f'exit code {done.returncode}'}")
    return done.stdout


def frames_received(table: str, device: str) -> int:
    r"""Frames that a device has taken in, by ``/proc/net/dev``.

    >>> frames_received("  lo:  9  1 0 0\neth0:  900  12 0 0", "eth0")
    12
    """
    for line in table.splitlines():
        name, colon, numbers = line.partition(":")
        if colon and name.strip() == device:
            return int(numbers.split()[1])
    raise InputError(f"there is no device {device}")


def datagrams_refused(table: str) -> int:
    r"""UDP datagrams that a socket's filter refused, by ``/proc/net/snmp``.

    >>> datagrams_refused("Udp: InDatagrams NoPorts InErrors\nUdp: 5 0 7")
    7
    """
    names, values = (line.split() for line in table.splitlines() if line.startswith("Udp:"))
    return int(values[names.index("InErrors")])


def _check(result: int, what: str) -> None:
    """Turn the kernel's refusal into a line."""
    if result != 0:
        raise InputError(f"cannot {what}: {os.strerror(ctypes.get_errno())}; root is needed")
