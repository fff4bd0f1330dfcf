"""Tun devices and the processes behind them: one packet per system call, each with a header of its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubesim.kernel import socket
from kubesim.kernel.address import Prefix
from kubesim.kernel.namespace import Host
from kubesim.kernel.nic import Ethernet, Nic
from kubesim.kernel.packet import Packet
from kubesim.kernel.route import Route
from kubesim.kernel.tun import Tun, TunDaemon
from kubesim.kernel.walk import Context, Hop, Path

PORT = 8285


def two_hosts(*, has_daemon: bool = True) -> dict[str, Host]:
    """Hosts a and b, each with a tun device that leads to the other's addresses."""
    ethernet, hosts = Ethernet(), {}
    for number, name in enumerate(("a", "b")):
        host = hosts[name] = Host(name)
        card = Nic(host.root, "eth0", 1500, ethernet)
        host.root.add_address(card, f"192.168.0.{number + 1}/24")
        ethernet.plug_in(card)
        tun = Tun(host.root, "tun0", 1472)
        host.root.add_address(tun, f"10.0.{number}.1")
        other = Prefix(f"10.0.{1 - number}.0/24")
        host.root.routes.add(Route(other, tun))
        if has_daemon:
            TunDaemon(tun, f"192.168.0.{number + 1}", PORT).add_host(other, f"192.168.0.{2 - number}")
    return hosts


def send(hosts: dict[str, Host], payload_bytes: int, segment_bytes: int = 0, protocol: str = "tcp") -> Path:
    packet = Packet("10.0.0.1", "10.0.1.1", protocol, 40_000, 80, payload_bytes, segment_bytes)
    return socket.send(hosts["a"].root, packet)


def hop(path: Path, operation: str, host: str) -> Hop:
    (found,) = (one for one in path.hops if (one.operation, one.host) == (operation, host))
    return found


def test_a_packet_is_read_and_sent_and_received_and_written() -> None:
    path = send(two_hosts(), 100)
    assert path.delivered_to == "b"
    daemon = [(one.host, one.operation) for one in path.hops if one.context is Context.DAEMON]
    assert daemon[:4] == [("a", "tun_read"), ("a", "tun_daemon_lookup"), ("a", "syscall_send"), ("a", "udp_send")]
    assert [one for one in daemon if one[0] == "b"][:2] == [("b", "syscall_receive_nonblocking"), ("b", "tun_write")]


def test_the_kernel_cuts_before_the_process_reads_and_nobody_merges_again() -> None:
    path = send(two_hosts(), 4 * 1420, 1420)
    assert hop(path, "gso_segment", "a").items == 4
    for operation, host in (("tun_read", "a"), ("syscall_send", "a"), ("tun_write", "b"), ("tcp_receive", "b")):
        found = [one.buffers for one in path.hops if (one.operation, one.host) == (operation, host)][-1]
        assert found == 4, operation
    assert hop(path, "tun_read", "a").size_bytes == 4 * 1420 + 4 * 52, "a header for each"


def test_one_small_packet_is_not_cut() -> None:
    path = send(two_hosts(), 100, 1420)
    assert "gso_segment" not in {one.operation for one in path.hops}
    assert {one.buffers for one in path.hops} == {1}


@given(segments=st.integers(1, 45), last_bytes=st.integers(1, 1420))
def test_the_wire_carries_each_frame_with_all_headers_once(segments: int, last_bytes: int) -> None:
    payload = (segments - 1) * 1420 + last_bytes
    path = send(two_hosts(), payload, 1420)
    line = hop(path, "nic_serialise", "a")
    assert (line.items, line.buffers) == (segments, 1)
    assert line.size_bytes == max(payload + segments * (28 + 52 + 18), 64) + 20 * segments
    assert hop(path, "nic_transmit", "a").total_items == hop(path, "nic_receive", "b").total_items == segments
    assert hop(path, "wire", "a").buffers == 1, "frames travel one behind the other"


def test_a_process_that_knows_no_host_and_a_device_that_nobody_reads() -> None:
    hosts = two_hosts()
    hosts["a"].root.routes.add(Route(Prefix("10.0.9.0/24"), hosts["a"].root.devices["tun0"]))
    lost = socket.send(hosts["a"].root, Packet("10.0.0.1", "10.0.9.9", "udp", 40_000, 80, 10))
    assert lost.reason == "the process behind tun0 of a knows no host for 10.0.9.9"
    assert send(two_hosts(has_daemon=False), 10).reason == "nobody reads tun0 of a"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_all_flows_are_one_to_the_card(protocol: str) -> None:
    hosts = two_hosts()
    hashes = {
        socket.send(hosts["a"].root, Packet("10.0.0.1", "10.0.1.1", protocol, port, 80, 10)).queue_hash
        for port in range(40_000, 40_010)
    }
    assert len(hashes) == 1
    assert hashes != {None}


def test_what_does_not_fit_the_device_is_dropped_or_goes_in_fragments() -> None:
    assert "does not fit the MTU of 1472" in str(send(two_hosts(), 1421).reason)
    assert send(two_hosts(), 1420).delivered_to == "b"
    assert hop(send(two_hosts(), 1445, protocol="udp"), "tun_read", "a").buffers == 2
