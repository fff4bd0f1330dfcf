"""netperf TCP_STREAM: data in one direction, in buffers of up to 64 KiB that the card cuts into frames (GSO, GRO)."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from kubesim.workload._messages import FAST_RETRANSMIT_NS, NONE, MessageKind, Messages, Script
from kubesim.workload._tcp import ACK, SYN, SYN_ACK
from kubesim.workload._traffic import Traffic, WorkloadContext, make_flows, refuse_too_many, targets

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

    def messages(self, context: WorkloadContext) -> Messages:
        """Make the messages, connection by connection."""
        refuse_too_many(len(context.clients) * self.connections * (3 + 2 * self.buffers))
        services = targets(self, context, self.protocol)
        threads = np.arange(len(context.clients) * self.connections)
        payload = (LARGEST_BUFFER_BYTES - _HEADER_BYTES) // context.segment_bytes * context.segment_bytes
        kinds = (
            SYN,
            SYN_ACK,
            ACK,
            MessageKind("data", is_request=True, payload_bytes=payload),
            MessageKind("data_ack", is_request=False, send_call=None, receive_call=None),
        )
        one = self._script()
        script = one.tiled(len(threads))
        data = (threads[:, None] * len(one) + _HANDSHAKE + 2 * np.arange(self.buffers)).ravel()
        return Messages(
            kinds=kinds,
            clients=context.clients,
            services=services,
            flows=make_flows(self, context, services, threads % len(context.clients)),
            flow=np.repeat(threads, len(one)),
            thread=np.repeat(threads, len(one)),
            script=script,
            release_ns=np.zeros(len(script), np.int64),
            first=data,
            last=data,
            bytes_per_transaction=payload,
        )

    def _script(self) -> Script:
        """Handshake, then buffers and their acknowledgements; a buffer waits for the one a window before it."""
        buffers = np.arange(self.buffers)
        kind = np.concatenate([[0, 1, 2], np.tile([3, 4], self.buffers)])
        after = np.arange(-1, len(kind) - 1)
        data = _HANDSHAKE + 2 * buffers
        after[data] = np.where(buffers < self.window, 1, data + 1 - 2 * self.window)
        timeout_ns = np.full(len(kind), NONE)
        timeout_ns[data] = FAST_RETRANSMIT_NS
        return Script(kind, after, np.zeros(len(kind), np.int64), timeout_ns)
