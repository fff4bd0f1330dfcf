"""netperf TCP_RR: each connection sends a request, waits for the reply, and sends the next."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kubesim.units import NS_PER_US
from kubesim.workload._messages import Messages
from kubesim.workload._tcp import Conversation
from kubesim.workload._traffic import RequestResponse, WorkloadContext, make_flows, refuse_too_many, targets


class Plugin(RequestResponse):
    """One thread per connection; connections are opened once, and measured without that."""

    protocol: ClassVar[str] = "tcp"
    workload: Literal["tcp_rr"] = "tcp_rr"
    transactions: int = Field(default=1000, ge=1, le=100_000_000, description="transactions of each connection")

    def messages(self, context: WorkloadContext) -> Messages:
        """Make the messages, connection by connection."""
        refuse_too_many(len(context.clients) * self.connections * (3 + 2 * self.transactions))
        services = targets(self, context, self.protocol)
        threads = np.arange(len(context.clients) * self.connections)
        conversation = Conversation(
            self.transactions,
            self.request_bytes,
            self.response_bytes,
            work_ns=round(self.server_us * NS_PER_US),
            think_ns=round(self.think_us * NS_PER_US),
            is_closed=False,
        )
        one = conversation.script()
        script = one.tiled(len(threads))
        requests = (threads[:, None] * len(one) + conversation.requests()).ravel()
        return Messages(
            kinds=conversation.kinds,
            clients=context.clients,
            services=services,
            flows=make_flows(self, context, services, threads % len(context.clients)),
            flow=np.repeat(threads, len(one)),
            thread=np.repeat(threads, len(one)),
            script=script,
            release_ns=np.zeros(len(script), np.int64),
            first=requests,
            last=requests + 1,
            bytes_per_transaction=self.request_bytes + self.response_bytes,
        )
