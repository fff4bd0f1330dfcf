"""netperf UDP_STREAM: datagrams in one direction, as fast as the sender can, or at a rate; nobody waits."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kubesim.units import NS_PER_S
from kubesim.workload._messages import MessageKind, Part, socket_places
from kubesim.workload._sequences import RepeatingScript, Sequences, Step
from kubesim.workload._traffic import (
    LOWEST_RATE_PER_S,
    Traffic,
    WorkloadContext,
    make_flows,
    refuse_too_many_connections,
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

    def messages(self, context: WorkloadContext) -> Sequences:
        """Make the messages, flow by flow: for each datagram its departure, and then its arrival."""
        services = targets(self, context, self.protocol)
        threads = np.arange(refuse_too_many_connections(len(context.clients) * self.connections))
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
        if self.rate_per_s is not None:
            refuse_too_slow(self.datagrams, self.rate_per_s)
        return Sequences(
            kinds=kinds,
            clients=context.clients,
            services=services,
            flows=make_flows(self, context, services, threads % len(context.clients)),
            script=self._script(),
            starts_ns=np.zeros(len(threads), np.int64),
            interval_ns=0.0 if self.rate_per_s is None else NS_PER_S / self.rate_per_s,
            bytes_per_transaction=self.message_bytes,
            socket_places=socket_places(self.message_bytes),
        )

    def _script(self) -> RepeatingScript:
        """Departures, each when the socket buffer has room again, and the arrivals that follow them."""
        window = socket_places(self.message_bytes)
        at_once = min(window, self.datagrams)
        head = []
        for datagram in range(at_once):
            departure, arrival = (0, 1) if datagram == 0 else (2, 3)
            head += [Step(departure, back=0, timeout_ns=0, begins=True), Step(arrival, ends=True)]
        later = Step(2, back=2 * window, timeout_ns=0, begins=True)
        return RepeatingScript(tuple(head), round=(later, Step(3, ends=True)), times=self.datagrams - at_once)
