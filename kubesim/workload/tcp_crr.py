"""netperf TCP_CRR: every transaction opens a connection, exchanges one request and reply, and closes it."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kubesim.units import NS_PER_US
from kubesim.workload._messages import INITIAL_RTO_NS, Messages
from kubesim.workload._tcp import Conversation
from kubesim.workload._traffic import RequestResponse, WorkloadContext, make_flows, refuse_too_many, targets


class Plugin(RequestResponse):
    """One thread per connection slot; a transaction lasts from the SYN until the client has seen the FIN."""

    protocol: ClassVar[str] = "tcp"
    workload: Literal["tcp_crr"] = "tcp_crr"
    transactions: int = Field(default=1000, ge=1, le=100_000_000, description="transactions of each connection slot")

    def messages(self, context: WorkloadContext) -> Messages:
        """Make the messages, slot by slot."""
        refuse_too_many(len(context.clients) * self.connections * self.transactions * 8)
        services = targets(self, context, self.protocol)
        slots = len(context.clients) * self.connections
        conversation = Conversation(
            1, self.request_bytes, self.response_bytes, work_ns=round(self.server_us * NS_PER_US)
        )
        one = conversation.script()
        flows = np.arange(slots * self.transactions)
        threads = flows // self.transactions
        script = one.chained(
            len(flows),
            begin=0,
            end=conversation.fin,
            copies_per_chain=self.transactions,
            think_ns=round(self.think_us * NS_PER_US),
            timeout_ns=INITIAL_RTO_NS,
        )
        return Messages(
            kinds=conversation.kinds,
            clients=context.clients,
            services=services,
            flows=make_flows(self, context, services, threads % len(context.clients)),
            flow=np.repeat(flows, len(one)),
            thread=np.repeat(threads, len(one)),
            script=script,
            release_ns=np.zeros(len(script), np.int64),
            first=flows * len(one),
            last=flows * len(one) + conversation.fin,
            bytes_per_transaction=self.request_bytes + self.response_bytes,
        )
