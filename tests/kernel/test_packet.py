"""Header arithmetic: what a buffer is on the wire, plain and in a tunnel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.kernel.packet import Packet


def tcp(payload: int, segment: int = 0) -> Packet:
    """A TCP buffer."""
    return Packet("10.0.0.1", "10.0.0.2", "tcp", 1, 2, payload, segment)


def in_vxlan(inner: Packet) -> Packet:
    """The same in a VXLAN tunnel: VXLAN header 8 and inner Ethernet header 14."""
    return Packet("192.168.0.1", "192.168.0.2", "udp", 3, 8472, 0, inner=inner, overhead_bytes=22)


def test_lengths_of_a_small_datagram() -> None:
    packet = Packet("10.0.0.1", "10.0.0.2", "udp", 1, 2, 16)
    assert packet.length_bytes == 44, "IP 20, UDP 8, payload 16: as measured in the hook traversal data"
    assert in_vxlan(packet).length_bytes == 94


def test_a_short_frame_is_padded_to_64_bytes() -> None:
    assert tcp(1).wire_bytes == 52 + 1 + 18 + 20
    assert Packet("10.0.0.1", "10.0.0.2", "udp", 1, 2, 1).wire_bytes == 64 + 20


@pytest.mark.parametrize(("is_tunnel", "segment", "bound"), [(False, 1448, 1448 / 1538), (True, 1398, 1398 / 1538)])
def test_goodput_bound_of_full_frames(is_tunnel: bool, segment: int, bound: float) -> None:
    packet = tcp(45 * segment, segment)
    carried = in_vxlan(packet) if is_tunnel else packet
    assert carried.segments == 45
    assert carried.length_bytes == 1500
    assert packet.payload_bytes / carried.wire_bytes == pytest.approx(bound)


@given(payload=st.integers(0, 65_000), segment=st.integers(500, 9000))
def test_frames_carry_all_of_the_payload_and_fit(payload: int, segment: int) -> None:
    packet = tcp(payload, segment)
    assert (packet.segments - 1) * segment < max(1, payload) <= max(1, packet.segments * segment)
    assert packet.length_bytes <= 52 + segment
    assert packet.wire_bytes >= payload + packet.segments * (52 + 38)


def test_a_tunnel_adds_fifty_bytes_per_frame() -> None:
    packet = tcp(3 * 1000, 1000)
    assert in_vxlan(packet).wire_bytes - packet.wire_bytes == 3 * 50
