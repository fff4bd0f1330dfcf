"""TCP segments as raw sockets send them."""

from __future__ import annotations

import struct

import hypothesis.strategies as st
from hypothesis import given

from kubesim.twin.segments import segment


@given(st.integers(0, 1400), st.integers(1, 65_535), st.integers(0, 2**32 - 1))
def test_checksums_are_those_a_receiver_expects(payload_bytes: int, port: int, sequence: int) -> None:
    """RFC 9293: the sum over the pseudo header and the segment with its checksum is all ones."""
    made = segment(("10.0.0.1", port), ("10.96.0.7", 80), 0x02, sequence, 0, payload_bytes)
    assert len(made) == 20 + payload_bytes
    data = bytes([10, 0, 0, 1, 10, 96, 0, 7, 0, 6]) + struct.pack("!H", len(made)) + made
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert total == 0xFFFF


def test_fields_are_where_rfc_9293_has_them() -> None:
    made = segment(("10.0.0.1", 40_000), ("10.0.0.2", 80), 0x12, 7, 9, 0)
    source, destination, sequence, acknowledged, offset, flags = struct.unpack("!HHIIBB", made[:14])
    assert (source, destination, sequence, acknowledged, offset >> 4, flags) == (40_000, 80, 7, 9, 5, 0x12)
