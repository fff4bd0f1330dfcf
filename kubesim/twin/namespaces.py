"""Unnamed network namespaces: they last as long as somebody holds them, so that none can be left behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kubesim.errors import InputError
from kubesim.twin import ctnetlink
from kubesim.twin.inside import entered, run_tool, unnamed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager


class Namespace:
    """A network namespace without a name. Its process must have one thread only."""

    def __init__(self) -> None:
        self._file = unnamed()

    @property
    def path(self) -> str:
        """What ``ip link … netns`` takes."""
        return f"/proc/{os.getpid()}/fd/{self._file}"

    def close(self) -> None:
        """Let go of it; the kernel takes it away with all that is in it."""
        os.close(self._file)

    def inside(self) -> AbstractContextManager[None]:
        """Be in it; sockets made there stay there."""
        return entered(self._file)

    def run(self, *command: str, text: str = "") -> str:
        """Run a command in it, and give what it printed."""
        with self.inside():
            return run_tool(*command, text=text)

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
        with self.inside():
            ctnetlink.forget_all()

    def connections(self) -> int:
        """How many entries the conntrack table has."""
        with self.inside():
            return int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text("ascii"))


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
