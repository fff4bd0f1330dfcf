"""netperf TCP_CRR: every transaction opens a connection, exchanges one request and reply, and closes it."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kubesim.units import NS_PER_US
from kubesim.workload._messages import INITIAL_RTO_NS
from kubesim.workload._sequences import RepeatingScript, Sequences, Step
from kubesim.workload._tcp import Conversation
from kubesim.workload._traffic import RequestResponse, WorkloadContext, make_flows, refuse_too_many_connections, targets


class Plugin(RequestResponse):
    """One thread per connection slot; a transaction lasts from the SYN until the client has seen the FIN."""

    protocol: ClassVar[str] = "tcp"
    workload: Literal["tcp_crr"] = "tcp_crr"
    transactions: int = Field(default=1000, ge=1, le=100_000_000, description="transactions of each connection slot")

    def messages(self, context: WorkloadContext) -> Sequences:
        """Make the messages, slot by slot."""
        services = targets(self, context, self.protocol)
        slots = len(context.clients) * self.connections
        flows = np.arange(refuse_too_many_connections(slots * self.transactions))
        conversation = Conversation(self.request_bytes, self.response_bytes, work_ns=round(self.server_us * NS_PER_US))
        return Sequences(
            kinds=conversation.kinds,
            clients=context.clients,
            services=services,
            flows=make_flows(self, context, services, flows // self.transactions % len(context.clients)),
            script=self._script(conversation),
            starts_ns=np.zeros(slots, np.int64),
            bytes_per_transaction=self.request_bytes + self.response_bytes,
        )

    def _script(self, conversation: Conversation) -> RepeatingScript:
        """One connection, and others of which each follows the FIN of the one before."""
        _, *answers = conversation.handshake
        request, reply = (step._replace(begins=False, ends=False) for step in conversation.first_exchange)
        fin, *closed = conversation.close
        then = (*answers, request, reply, fin._replace(ends=True), *closed)
        again = Step(
            0, back=len(closed) + 1, think_ns=round(self.think_us * NS_PER_US), timeout_ns=INITIAL_RTO_NS, begins=True
        )
        return RepeatingScript(
            head=(Step(0, back=0, begins=True), *then),
            round=(again, *then),
            times=self.transactions - 1,
            is_connection_per_round=True,
        )
