"""netperf TCP_STREAM: data in one direction, in buffers of up to 64 KiB that the card cuts into frames (GSO, GRO)."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kubesim.workload._messages import FAST_RETRANSMIT_NS, MessageKind
from kubesim.workload._sequences import RepeatingScript, Sequences, Step
from kubesim.workload._tcp import ACK, SYN, SYN_ACK
from kubesim.workload._traffic import Traffic, WorkloadContext, make_flows, refuse_too_many_connections, targets

LARGEST_BUFFER_BYTES = 65_536
"""``GSO_LEGACY_MAX_SIZE``: a buffer's length with its headers has to fit in 16 bits."""

_HEADER_BYTES = 52
_HANDSHAKE = 3


class Plugin(Traffic):
    """One thread per connection. A transaction is a buffer; a window of them is on the way at a time."""

    protocol: ClassVar[str] = "tcp"
    workload: Literal["tcp_stream"] = "tcp_stream"
    buffers: int = Field(default=1000, ge=1, le=100_000_000, description="buffers that each connection sends")
    window: int = Field(
        default=16, ge=1, le=10_000, description="buffers that may be sent before the first is acknowledged"
    )

    def messages(self, context: WorkloadContext) -> Sequences:
        """Make the messages, connection by connection."""
        services = targets(self, context, self.protocol)
        threads = np.arange(refuse_too_many_connections(len(context.clients) * self.connections))
        payload = (LARGEST_BUFFER_BYTES - _HEADER_BYTES) // context.segment_bytes * context.segment_bytes
        kinds = (
            SYN,
            SYN_ACK,
            ACK,
            MessageKind("data", is_request=True, payload_bytes=payload),
            MessageKind("data_ack", is_request=False, send_call=None, receive_call=None),
        )
        return Sequences(
            kinds=kinds,
            clients=context.clients,
            services=services,
            flows=make_flows(self, context, services, threads % len(context.clients)),
            script=self._script(),
            starts_ns=np.zeros(len(threads), np.int64),
            bytes_per_transaction=payload,
        )

    def _script(self) -> RepeatingScript:
        """Handshake, then buffers and their acknowledgements; a buffer waits for the one a window before it."""
        at_once = min(self.window, self.buffers)
        head = [Step(0, back=0), Step(1), Step(2)]
        for _ in range(at_once):
            # The first ones are sent as soon as the SYN-ACK is there.
            data = Step(3, back=len(head) - 1, timeout_ns=FAST_RETRANSMIT_NS, begins=True, ends=True)
            head += [data, Step(4)]
        data = Step(3, back=2 * self.window - 1, timeout_ns=FAST_RETRANSMIT_NS, begins=True, ends=True)
        return RepeatingScript(tuple(head), round=(data, Step(4)), times=self.buffers - at_once)
