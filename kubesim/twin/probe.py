"""Times the way of single datagrams through a twin, without any scheduler in between.

One thread holds a socket in the client's namespace and one in each server's. Sending runs the whole way inline: softirq
work of virtual devices is done on the same core before the system call returns, so the time of the call is the time of
the path. A datagram that has not arrived by then was put off, and does not count.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kubesim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

_LIBC = ctypes.CDLL(None, use_errno=True)
_FIRST_PORT, _PORTS = 20_000, 40_000
_WAIT_S = 1.0
_DISCARD_PORT = 9  # RFC 863
_LARGEST_DATAGRAM = 65_535
_KEPT_SAMPLES = 20
"""So few that arrived in time say nothing."""


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Be in a network namespace; sockets made there stay there."""
    here = os.open("/proc/self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        _enter(there)
        yield
    finally:
        _enter(here)
        os.close(there)
        os.close(here)


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, 0) != 0:
        raise InputError(f"cannot enter a network namespace: {os.strerror(ctypes.get_errno())}")


@dataclass(frozen=True)
class Timing:
    """What a probe measured.

    Parameters
    ----------
    best_ns
        Best decile: what the path takes when nothing disturbs it.
    median_ns
        Half of the samples took no longer.
    samples
        How many arrived in time.
    """

    best_ns: float
    median_ns: float
    samples: int


class Listeners:
    """Sockets that receive in some namespaces, for all probes that send there.

    Parameters
    ----------
    namespaces
        Their names.
    port
        The port they listen on.
    """

    def __init__(self, namespaces: Sequence[str], port: int) -> None:
        self.sockets = [self._listening(name, port) for name in namespaces]
        self._used_ports = 0

    def next_port(self) -> int:
        """A source port that nobody has sent to these from for long: conntrack has no entry of it."""
        self._used_ports += 1
        return _FIRST_PORT + self._used_ports % _PORTS

    def announce(self, address: str) -> None:
        """Send from each to a pod, so that bridges on the way know where they are."""
        for one in self.sockets:
            one.sendto(b"", (address, _DISCARD_PORT))

    def close(self) -> None:
        """Close all sockets."""
        for one in self.sockets:
            one.close()

    def drain(self) -> int | None:
        """Take what has arrived; at which socket, None if nowhere."""
        found: int | None = None
        for number, one in enumerate(self.sockets):
            with contextlib.suppress(BlockingIOError):
                while True:
                    one.recv(_LARGEST_DATAGRAM)
                    found = number
        return found

    @staticmethod
    def _listening(namespace: str, port: int) -> socket.socket:
        with inside(namespace):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setblocking(False)
        made.bind(("0.0.0.0", port))  # noqa: S104 - of a namespace of its own
        return made


class Probe:
    """Datagrams from one pod to an address.

    Parameters
    ----------
    client
        Name of the namespace that sends.
    listeners
        Who receives.
    client_address
        The client's address.
    target
        Address and port that are sent to.
    payload_bytes
        Of each datagram.
    is_new
        Whether each is the first of a connection: from a new source port. Otherwise one connection that has seen an
        answer is used.
    """

    def __init__(
        self,
        client: str,
        listeners: Listeners,
        client_address: str,
        target: tuple[str, int],
        *,
        payload_bytes: int,
        is_new: bool,
    ) -> None:
        self._client = client
        self._client_address = client_address
        self._target = target
        self._payload = b"x" * payload_bytes
        self._is_new = is_new
        self._times_ns: dict[int, list[int]] = {}
        self._listeners = listeners
        self._sender: socket.socket | None = None

    def close(self) -> None:
        """Close its socket."""
        if self._sender is not None:
            self._sender.close()

    def warm_up(self) -> None:
        """Send until something arrives: addresses of the link layer are asked for first. Answer it.

        Raises
        ------
        InputError
            If nothing arrives.
        """
        self._sender = self._connected()
        end = time.monotonic() + _WAIT_S
        while time.monotonic() < end:
            self._sender.send(self._payload)
            ready, _, _ = select.select(self._listeners.sockets, [], [], 0.05)
            if ready:
                _, source = ready[0].recvfrom(_LARGEST_DATAGRAM)
                ready[0].sendto(self._payload, source)
                select.select([self._sender], [], [], 0.05)
                self._listeners.drain()
                return
        raise InputError(f"nothing arrives that is sent to {self._target[0]}:{self._target[1]} in the twin")

    def sample(self, count: int) -> None:
        """Time some datagrams."""
        for _ in range(count):
            sender = self._connected() if self._is_new else self._sender
            assert sender is not None  # noqa: S101 - warm_up comes first
            begin = time.perf_counter_ns()
            sender.send(self._payload)
            end = time.perf_counter_ns()
            arrived_at = self._listeners.drain()
            if arrived_at is not None:
                self._times_ns.setdefault(arrived_at, []).append(end - begin)
            if self._is_new:
                sender.close()

    def timings(self) -> dict[int, Timing]:
        """What was measured so far, by the number of the listener that received.

        Raises
        ------
        InputError
            If too few datagrams arrived in time.
        """
        enough = {number: times for number, times in self._times_ns.items() if len(times) >= _KEPT_SAMPLES}
        if not enough:
            arrived = sum(map(len, self._times_ns.values()))
            raise InputError(f"only {arrived} datagrams arrived in time: this host does not run their way inline")
        return {number: _timing(times) for number, times in sorted(enough.items())}

    def _connected(self) -> socket.socket:
        """A socket of the client, from a port that has not been used for long."""
        with inside(self._client):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((self._client_address, self._listeners.next_port()))
        made.connect(self._target)
        return made


def _timing(times_ns: Sequence[int]) -> Timing:
    ordered: npt.NDArray[np.int64] = np.sort(np.array(times_ns, np.int64))
    best = ordered[: max(1, len(ordered) // 10)]
    return Timing(float(np.mean(best)), float(np.median(ordered)), len(ordered))
