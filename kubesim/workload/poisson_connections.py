"""Open loop: connections arrive as a Poisson process, each makes a number of requests (keep-alive) and is closed."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kubesim.units import NS_PER_S, NS_PER_US
from kubesim.workload._sequences import RepeatingScript, Sequences
from kubesim.workload._tcp import Conversation
from kubesim.workload._traffic import (
    LOWEST_RATE_PER_S,
    RequestResponse,
    WorkloadContext,
    make_flows,
    refuse_too_many_connections,
    refuse_too_slow,
    targets,
)


class Plugin(RequestResponse):
    """A thread per connection. A transaction is a request with its reply; the first one includes the handshake."""

    protocol: ClassVar[str] = "tcp"
    workload: Literal["poisson_connections"] = "poisson_connections"
    connections: int = Field(default=1000, ge=1, le=100_000_000, description="connections in all")
    rate_per_s: float = Field(
        default=1000, ge=LOWEST_RATE_PER_S, le=1e9, description="connections per second, all clients together"
    )
    requests: int = Field(default=1, ge=1, le=1_000_000, description="requests of each connection")

    def messages(self, context: WorkloadContext) -> Sequences:
        """Make the messages, connection by connection."""
        refuse_too_many_connections(self.connections)
        refuse_too_slow(self.connections, self.rate_per_s)
        services = targets(self, context, self.protocol)
        conversation = Conversation(
            self.request_bytes,
            self.response_bytes,
            work_ns=round(self.server_us * NS_PER_US),
            think_ns=round(self.think_us * NS_PER_US),
        )
        syn, *answers = conversation.handshake
        request, reply = conversation.first_exchange
        gaps = context.streams.generator("arrivals").exponential(NS_PER_S / self.rate_per_s, self.connections)
        return Sequences(
            kinds=conversation.kinds,
            clients=context.clients,
            services=services,
            flows=make_flows(self, context, services, np.arange(self.connections) % len(context.clients)),
            script=RepeatingScript(
                head=(syn._replace(begins=True), *answers, request._replace(begins=False), reply),
                round=conversation.exchange,
                times=self.requests - 1,
                tail=conversation.close,
            ),
            starts_ns=np.rint(np.cumsum(gaps)).astype(np.int64),
            bytes_per_transaction=self.request_bytes + self.response_bytes,
        )
