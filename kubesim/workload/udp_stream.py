"""netperf UDP_STREAM: datagrams in one direction, as fast as the sender can, or at a rate; nobody waits."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kubesim.units import NS_PER_S
from kubesim.workload._messages import NONE, MessageKind, Messages, Part, Script, socket_places
from kubesim.workload._traffic import (
    LOWEST_RATE_PER_S,
    Traffic,
    WorkloadContext,
    make_flows,
    refuse_too_many,
    refuse_too_slow,
    targets,
)


class Plugin(Traffic):
    """One thread per flow. A transaction is a datagram; the sender blocks only when its socket buffer is full."""

    protocol: ClassVar[str] = "udp"
    workload: Literal["udp_stream"] = "udp_stream"
    datagrams: int = Field(default=10_000, ge=1, le=100_000_000, description="datagrams that each flow sends")
    message_bytes: int = Field(default=1400, ge=1, le=65_000, description="payload of a datagram")
    rate_per_s: float | None = Field(
        default=None,
        ge=LOWEST_RATE_PER_S,
        le=1e9,
        description="datagrams per second of each flow; as fast as possible if not given",
    )

    def messages(self, context: WorkloadContext) -> Messages:
        """Make the messages, flow by flow: for each datagram its departure, and then its arrival."""
        refuse_too_many(len(context.clients) * self.connections * 2 * self.datagrams)
        services = targets(self, context, self.protocol)
        threads = np.arange(len(context.clients) * self.connections)
        kinds = tuple(
            MessageKind(
                name,
                is_request=True,
                payload_bytes=self.message_bytes,
                is_opening=name.startswith("first"),
                part=part,
            )
            for name in ("first_datagram", "datagram")
            for part in (Part.DEPARTURE, Part.ARRIVAL)
        )
        one = self._script()
        script = one.tiled(len(threads))
        departures = np.arange(0, len(script), 2)
        release_ns = np.zeros(len(script), np.int64)
        if self.rate_per_s is not None:
            refuse_too_slow(self.datagrams, self.rate_per_s)
            release_ns[departures] = np.rint(np.arange(len(departures)) % self.datagrams * (NS_PER_S / self.rate_per_s))
        return Messages(
            kinds=kinds,
            clients=context.clients,
            services=services,
            flows=make_flows(self, context, services, threads % len(context.clients)),
            flow=np.repeat(threads, len(one)),
            thread=np.repeat(threads, len(one)),
            script=script,
            release_ns=release_ns,
            first=departures,
            last=departures + 1,
            bytes_per_transaction=self.message_bytes,
            socket_places=socket_places(self.message_bytes),
        )

    def _script(self) -> Script:
        """Departures, each when the socket buffer has room again, and the arrivals that follow them."""
        window = socket_places(self.message_bytes)
        datagrams = np.arange(self.datagrams)
        kind = np.tile([2, 3], self.datagrams)
        kind[:2] = 0, 1
        after = np.arange(-1, 2 * self.datagrams - 1)
        after[2 * datagrams] = np.where(datagrams < window, NONE, 2 * (datagrams - window))
        timeout_ns = np.full(len(kind), NONE)
        timeout_ns[2 * datagrams] = 0
        return Script(kind, after, np.zeros(len(kind), np.int64), timeout_ns)
