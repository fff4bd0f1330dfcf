"""Fragments: where packets are cut, where they are put together, and what each costs by itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.kernel.netfilter.conntrack import Conntrack
from kubesim.kernel.packet import Packet, fragments
from kubesim.kernel.walk import Path
from tests.kernel.test_forwarding import Router, datagram


def counted(path: Path) -> list[tuple[str, int]]:
    """Operations in order, and on how many buffers each was done."""
    return [(hop.operation, hop.buffers) for hop in path.hops]


@given(length=st.integers(21, 65_535), mtu=st.integers(68, 9000))
def test_fragments_fit_and_carry_everything(length: int, mtu: int) -> None:
    pieces = fragments(length, mtu)
    assert max(pieces) <= mtu
    assert sum(piece - 20 for piece in pieces) == length - 20
    assert all((piece - 20) % 8 == 0 for piece in pieces[:-1])
    assert min(pieces) > 20


def test_frames_of_a_datagram_in_fragments() -> None:
    packet = Packet("10.1.0.2", "10.2.0.2", "udp", 1, 2, 4000, cut_to_bytes=(1500,))
    assert packet.frame_lengths == (1500, 1500, 20 + 4008 - 2 * 1480)
    assert packet.wire_bytes == 4008 + 3 * (20 + 14 + 4 + 20)


def test_a_datagram_is_cut_where_it_starts_and_put_together_where_it_ends() -> None:
    router = Router(mtu=1000)
    path = router.send(router.left, datagram(size=2000))
    assert path.delivered_to == "right"
    assert counted(path) == [
        ("syscall_send", 1), ("udp_send", 1), ("route_lookup", 1), ("ip_fragment", 3), ("ip_output", 3),
        ("veth_transmit", 3), ("backlog", 3), ("ip_receive", 3), ("route_lookup", 3), ("ip_forward", 3),
        ("ip_output", 3), ("veth_transmit", 3), ("backlog", 3), ("ip_receive", 3), ("route_lookup", 3),
        ("ip_defrag", 3), ("udp_receive", 1), ("socket_wakeup", 1), ("syscall_receive", 1),
    ]  # fmt: skip


def test_conntrack_sees_one_packet_where_fragments_come() -> None:
    router = Router(mtu=1000)
    Conntrack.of(router.root)
    path = router.send(router.left, datagram(size=2000))
    found = counted(path)
    defrag = found.index(("ip_defrag", 3))
    assert found[defrag - 1] == ("backlog", 3)
    assert found[defrag + 1 : defrag + 10] == [
        ("conntrack_lookup", 1), ("conntrack_new", 1), ("ip_receive", 1), ("route_lookup", 1), ("ip_forward", 1),
        ("conntrack_confirm", 1), ("ip_fragment", 3), ("ip_output", 3), ("veth_transmit", 3),
    ]  # fmt: skip
    assert path.packet.payload_bytes == 2000


def test_fragments_go_on_no_longer_than_they_came() -> None:
    router = Router(mtu=1000)
    Conntrack.of(router.root)
    for namespace in (router.root, router.right):
        for device in namespace.devices.values():
            if device.name in ("right", "eth0"):
                device.mtu = 9000
    assert ("ip_fragment", 3) in counted(router.send(router.left, datagram(size=2000)))[5:]


def test_a_datagram_that_fitted_where_it_started_is_not_cut_on_the_way() -> None:
    router = Router()
    router.root.devices["right"].mtu = 1000
    assert router.send(router.left, datagram(size=900)).delivered_to == "right"
    path = router.send(router.left, datagram(size=1200))
    reason = "fragmentation needed and DF set: a packet of 1228 bytes does not fit the MTU of 1000 of right in router"
    assert path.reason == reason
    assert [hop.operation for hop in path.hops][-1] == "ip_forward"


@pytest.mark.parametrize(("size", "came", "went"), [(2000, 2, 3), (60_000, 41, 81)])
def test_fragments_are_cut_again_where_they_do_not_fit(size: int, came: int, went: int) -> None:
    router = Router()
    router.root.devices["right"].mtu = 1000
    path = router.send(router.left, datagram(size=size))
    assert path.delivered_to == "right"
    cut = [hop.buffers for hop in path.hops if hop.operation == "ip_fragment"]
    assert cut == [came, went], "each full one becomes one of 976 and one of 504 bytes"
