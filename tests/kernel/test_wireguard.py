"""WireGuard: whom packets go to and may come from, sizes, and who does what."""

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
from kubesim.kernel.walk import Context, Hop, Path
from kubesim.kernel.wireguard import Wireguard

MTU = 1420


def two_hosts(*, allowed_of_a: str = "10.0.0.0/24", mtu: int = MTU) -> dict[str, Host]:
    """Hosts a and b that are peers; ``allowed_of_a`` is what b lets a have."""
    ethernet, hosts = Ethernet(), {}
    for number, (name, allowed) in enumerate((("a", "10.0.1.0/24"), ("b", allowed_of_a))):
        host = hosts[name] = Host(name)
        card = Nic(host.root, "eth0", 1500, ethernet)
        host.root.add_address(card, f"192.168.0.{number + 1}/24")
        ethernet.plug_in(card)
        tunnel = Wireguard(host.root, "wg0", mtu, f"192.168.0.{number + 1}")
        host.root.add_address(tunnel, f"10.0.{number}.1")
        tunnel.allow(Prefix(allowed), f"192.168.0.{2 - number}")
        host.root.routes.add(Route(Prefix(f"10.0.{1 - number}.0/24"), tunnel))
    return hosts


def send(hosts: dict[str, Host], payload_bytes: int, segment_bytes: int = 0, protocol: str = "tcp") -> Path:
    packet = Packet("10.0.0.1", "10.0.1.1", protocol, 40_000, 80, payload_bytes, segment_bytes)
    return socket.send(hosts["a"].root, packet)


def hops(path: Path, operation: str, host: str) -> list[Hop]:
    return [one for one in path.hops if (one.operation, one.host) == (operation, host)]


def test_threads_hand_the_packet_on() -> None:
    path = send(two_hosts(), 100)
    assert path.delivered_to == "b"
    threads: list[tuple[str, Context]] = []
    for one in path.hops:
        if not threads or threads[-1] != (one.host, one.context):
            threads.append((one.host, one.context))
    assert threads == [
        ("a", Context.PROCESS), ("a", Context.WORKER), ("a", Context.PEER), ("a", Context.NIC),
        ("a", Context.WIRE), ("b", Context.PORT), ("b", Context.SOFTIRQ), ("b", Context.WORKER), ("b", Context.PEER),
        ("b", Context.PROCESS),
    ]  # fmt: skip


def test_large_buffers_are_cut_before_and_merged_after_encryption() -> None:
    path = send(two_hosts(), 5 * 1368, 1368)
    assert hops(path, "gso_segment", "a")[0].items == 5
    for operation, host in (("wireguard_encrypt", "a"), ("wireguard_send", "a"), ("wireguard_receive", "b")):
        assert hops(path, operation, host)[0].buffers == 5, operation
    assert hops(path, "wireguard_decrypt", "b")[0].buffers == 5
    assert hops(path, "tcp_receive", "b")[0].buffers == 1, "GRO after decryption"


def test_threads_are_woken_once_for_a_buffer_to_encrypt_and_for_each_packet_to_decrypt() -> None:
    path = send(two_hosts(), 5 * 1368, 1368)
    assert [one.buffers for one in hops(path, "worker_switch", "a")] == [1, 1]
    assert [one.buffers for one in hops(path, "worker_switch", "b")] == [5]


@given(payload_bytes=st.integers(0, MTU - 28))
def test_sizes_on_the_wire(payload_bytes: int) -> None:
    path = send(two_hosts(), payload_bytes, protocol="udp")
    (line,) = hops(path, "nic_serialise", "a")
    inner = 28 + payload_bytes
    plain = line.size_bytes - 20 - 18 - 60
    assert inner <= plain <= inner + 15
    assert hops(path, "wireguard_encrypt", "a")[0].size_bytes == plain
    assert plain <= MTU
    assert plain % 16 == 0 or plain == MTU


def test_a_full_frame_of_calico_has_1500_bytes() -> None:
    (line,) = hops(send(two_hosts(mtu=1440), 1440 - 28, protocol="udp"), "nic_serialise", "a")
    assert line.size_bytes == 1500 + 18 + 20


def test_nobody_gets_what_no_peer_is_allowed_to_have() -> None:
    hosts = two_hosts()
    hosts["a"].root.routes.add(Route(Prefix("10.0.9.0/24"), hosts["a"].root.devices["wg0"]))
    lost = socket.send(hosts["a"].root, Packet("10.0.0.1", "10.0.9.9", "udp", 40_000, 80, 10))
    assert lost.reason == "wg0 of a has no peer for 10.0.9.9"
    refused = send(two_hosts(allowed_of_a="10.0.7.0/24"), 10)
    assert refused.reason == "wg0 of b does not allow 10.0.0.1 to come from 192.168.0.1"


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_all_flows_are_one_to_the_card(protocol: str) -> None:
    hosts = two_hosts()
    hashes = {
        socket.send(hosts["a"].root, Packet("10.0.0.1", "10.0.1.1", protocol, port, 80, 10)).queue_hash
        for port in range(40_000, 40_010)
    }
    assert len(hashes) == 1
    assert hashes != {None}
