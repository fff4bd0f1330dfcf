"""Times the way of single packets through a twin, without any scheduler in between.

One thread holds a socket in the client's namespace and one in each server's. Sending runs the whole way inline: softirq
work of virtual devices is done on the same core before the system call returns, so the time of the call is the time of
the path, once the time of a call that does nothing is taken off. A packet that has not arrived by then was put off, and
does not count.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from kubesim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from kubesim.twin.transport import Sender, Transport

_WAIT_S, _POLL_S = 2.0, 0.01
_POLLS = 5
_KEPT_SAMPLES = 20
"""So few that arrived in time say nothing."""


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


class Probe:
    """Packets from one pod to an address.

    Parameters
    ----------
    client
        Name of the namespace that sends.
    transport
        Who receives, and how.
    client_address
        The client's address.
    target
        Address and port that are sent to.
    payload_bytes
        Of each packet.
    is_new
        Whether each is the first of a connection: from a new source port. Otherwise one connection that has seen an
        answer is used.
    """

    def __init__(
        self,
        client: str,
        transport: Transport,
        client_address: str,
        target: tuple[str, int],
        *,
        payload_bytes: int,
        is_new: bool,
    ) -> None:
        self._client = client
        self._client_address = client_address
        self._target = target
        self._payload_bytes = payload_bytes
        self._is_new = is_new
        self._times_ns: dict[int, list[int]] = {}
        self._idle_ns: list[int] = []
        self._transport = transport
        self._sender: Sender | None = None

    def close(self) -> None:
        """Close its sockets."""
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
            self._sender.send()
            for _ in range(_POLLS):
                server = self._transport.arrived()
                if server is not None:
                    self._transport.answer(server, self._sender)
                    time.sleep(_POLL_S)
                    self._transport.arrived()
                    return
                time.sleep(_POLL_S)
        raise InputError(f"nothing arrives that is sent to {self._target[0]}:{self._target[1]} in the twin")

    def sample(self, count: int) -> None:
        """Time some packets; what came late from elsewhere is none of them."""
        self._transport.arrived()
        for _ in range(count):
            sender = self._connected() if self._is_new else self._sender
            assert sender is not None  # noqa: S101 - warm_up comes first
            begin = time.perf_counter_ns()
            sender.send()
            end = time.perf_counter_ns()
            arrived_at = self._transport.arrived()
            if arrived_at is not None:
                self._times_ns.setdefault(arrived_at, []).append(end - begin)
            begin = time.perf_counter_ns()
            sender.idle()
            self._idle_ns.append(time.perf_counter_ns() - begin)
            if self._is_new:
                sender.close()

    def timings(self, name: str) -> dict[int, Timing]:
        """What was measured so far, by the number of the server that received.

        Parameters
        ----------
        name
            What the way is called in messages.

        Raises
        ------
        InputError
            If too few packets arrived in time.
        """
        enough = {number: times for number, times in self._times_ns.items() if len(times) >= _KEPT_SAMPLES}
        if not enough:
            arrived = sum(map(len, self._times_ns.values()))
            raise InputError(f"{name}: only {arrived} packets arrived in time: this host does not run their way inline")
        idle_ns = _timing(self._idle_ns).best_ns
        return {number: _timing(times, idle_ns) for number, times in sorted(enough.items())}

    def _connected(self) -> Sender:
        return self._transport.sender(self._client, self._client_address, self._target, self._payload_bytes)


def _timing(times_ns: Sequence[int], idle_ns: float = 0.0) -> Timing:
    """What is left of times without what it takes to call and to look at the clock."""
    ordered: npt.NDArray[np.int64] = np.sort(np.array(times_ns, np.int64))
    best = ordered[: max(1, len(ordered) // 10)]
    return Timing(float(np.mean(best)) - idle_ns, float(np.median(ordered)) - idle_ns, len(ordered))
