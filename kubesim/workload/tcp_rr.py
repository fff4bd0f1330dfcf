"""netperf TCP_RR: each connection sends a request, waits for the reply, and sends the next."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kubesim.units import NS_PER_US
from kubesim.workload._sequences import RepeatingScript, Sequences
from kubesim.workload._tcp import Conversation
from kubesim.workload._traffic import RequestResponse, WorkloadContext, make_flows, refuse_too_many_connections, targets


class Plugin(RequestResponse):
    """One thread per connection; connections are opened once, and measured without that."""

    protocol: ClassVar[str] = "tcp"
    workload: Literal["tcp_rr"] = "tcp_rr"
    transactions: int = Field(default=1000, ge=1, le=100_000_000, description="transactions of each connection")

    def messages(self, context: WorkloadContext) -> Sequences:
        """Make the messages, connection by connection."""
        services = targets(self, context, self.protocol)
        threads = np.arange(refuse_too_many_connections(len(context.clients) * self.connections))
        conversation = Conversation(
            self.request_bytes,
            self.response_bytes,
            work_ns=round(self.server_us * NS_PER_US),
            think_ns=round(self.think_us * NS_PER_US),
            is_closed=False,
        )
        return Sequences(
            kinds=conversation.kinds,
            clients=context.clients,
            services=services,
            flows=make_flows(self, context, services, threads % len(context.clients)),
            script=RepeatingScript(
                head=conversation.handshake + conversation.first_exchange,
                round=conversation.exchange,
                times=self.transactions - 1,
            ),
            starts_ns=np.zeros(len(threads), np.int64),
            bytes_per_transaction=self.request_bytes + self.response_bytes,
        )
