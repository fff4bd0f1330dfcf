"""netperf UDP_RR: as TCP_RR, but with datagrams, and nothing that opens or closes a connection."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kubesim.units import NS_PER_MS, NS_PER_US
from kubesim.workload._messages import MessageKind, socket_places
from kubesim.workload._sequences import RepeatingScript, Sequences, Step
from kubesim.workload._traffic import RequestResponse, WorkloadContext, make_flows, refuse_too_many_connections, targets


class Plugin(RequestResponse):
    """One thread per flow; netperf would hang when a datagram is lost, here the client gives up after a time."""

    protocol: ClassVar[str] = "udp"
    workload: Literal["udp_rr"] = "udp_rr"
    transactions: int = Field(default=1000, ge=1, le=100_000_000, description="transactions of each flow")
    timeout_ms: float = Field(default=1000, ge=0.001, le=1e6, description="how long a client waits for a lost reply")

    def messages(self, context: WorkloadContext) -> Sequences:
        """Make the messages, flow by flow."""
        services = targets(self, context, self.protocol)
        threads = np.arange(refuse_too_many_connections(len(context.clients) * self.connections))
        work_ns = round(self.server_us * NS_PER_US)
        kinds = (
            MessageKind("first_request", is_request=True, payload_bytes=self.request_bytes, is_opening=True),
            MessageKind("first_reply", is_request=False, payload_bytes=self.response_bytes, work_ns=work_ns),
            MessageKind("request", is_request=True, payload_bytes=self.request_bytes),
            MessageKind("reply", is_request=False, payload_bytes=self.response_bytes, work_ns=work_ns),
        )
        think_ns, timeout_ns = round(self.think_us * NS_PER_US), round(self.timeout_ms * NS_PER_MS)
        return Sequences(
            kinds=kinds,
            clients=context.clients,
            services=services,
            flows=make_flows(self, context, services, threads % len(context.clients)),
            script=RepeatingScript(
                head=(Step(0, back=0, begins=True), Step(1, ends=True)),
                round=(Step(2, think_ns=think_ns, timeout_ns=timeout_ns, begins=True), Step(3, ends=True)),
                times=self.transactions - 1,
            ),
            starts_ns=np.zeros(len(threads), np.int64),
            bytes_per_transaction=self.request_bytes + self.response_bytes,
            socket_places=socket_places(max(self.request_bytes, self.response_bytes)),
        )
