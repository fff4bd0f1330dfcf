"""A process between two connections."""

from __future__ import annotations

from kubesim.kernel import socket
from kubesim.kernel.packet import FlowTuple, Packet
from kubesim.kernel.relay import Listener, Relay
from kubesim.kernel.walk import Chance, Context, Path
from tests.kernel.test_forwarding import Router

CLIENT, SERVER = "10.1.0.2", "10.2.0.2"


class Relayed(Router):
    """Left talks to port 8000 of the router, where a process passes on to right."""

    def __init__(self, *ports: int, is_sticky: bool = False, mtu: int = 1500) -> None:
        super().__init__(mtu)
        self._opened: set[int] = set()
        self.listener = Listener("web", tuple((SERVER, port) for port in ports), is_sticky)
        self.relay = Relay(self.root, lambda _protocol, port: self.listener if port == 8000 else None)

    def request(self, source_port: int = 4000, protocol: str = "tcp", size: int = 10, segment_bytes: int = 0) -> Path:
        """Send from left to the process."""
        packet = Packet(CLIENT, "10.1.0.1", protocol, source_port, 8000, size, segment_bytes)
        packet.is_opening = source_port not in self._opened
        self._opened.add(source_port)
        return socket.send(self.left, packet)


def operations(path: Path, context: Context) -> list[str]:
    return [hop.operation for hop in path.hops if hop.context is context]


def test_addresses_as_each_side_sees_them() -> None:
    router = Relayed(80)
    there = router.request()
    assert (there.delivered_to, there.packet.source) == ("right", "10.2.0.1")
    assert there.packet.destination_port == 80
    assert 32768 <= there.packet.source_port <= 60999
    back = socket.send(router.right, Packet(*there.packet.flow.reversed(), payload_bytes=10))
    assert back.delivered_to == "left"
    assert back.packet.flow == FlowTuple("10.1.0.1", CLIENT, "tcp", 8000, 4000)
    assert router.request().packet.flow == there.packet.flow


def test_what_the_process_does_for_a_connection_and_for_a_message() -> None:
    router = Relayed(80)
    first, second = router.request(), router.request()
    assert operations(first, Context.DAEMON)[:5] == [
        "socket_poll", "syscall_accept", "syscall_connect", "syscall_send", "tcp_send",
    ]  # fmt: skip
    assert operations(second, Context.DAEMON)[:4] == ["socket_poll", "syscall_receive", "syscall_send", "tcp_send"]
    datagram = router.request(5000, "udp")
    assert operations(datagram, Context.DAEMON)[:3] == ["socket_poll", "syscall_receive", "syscall_connect"]


def test_what_kernels_send_by_themselves_does_not_wake_it() -> None:
    router = Relayed(80)
    router.request()
    ack = Packet(CLIENT, "10.1.0.1", "tcp", 4000, 8000, 0)
    path = socket.send(router.left, ack, send_call=None, receive_call=None)
    assert path.delivered_to == "right"
    assert operations(path, Context.DAEMON) == []


def test_servers_take_turns_and_a_client_keeps_its_own_where_that_is_wanted() -> None:
    router = Relayed(80, 81, 82)
    ports = [router.request(port).packet.destination_port for port in range(4000, 4006)]
    assert ports == [80, 81, 82, 80, 81, 82]
    sticky = Relayed(80, 81, 82, is_sticky=True)
    assert {sticky.request(port).packet.destination_port for port in range(4000, 4006)} == {80}


def test_a_server_chosen_before_is_kept() -> None:
    router = Relayed(80, 81)
    packet = Packet(CLIENT, "10.1.0.1", "tcp", 4000, 8000, 10, is_opening=True)
    path = socket.send(router.left, packet, chance=Chance(server=(SERVER, 81)))
    assert path.packet.destination_port == 81
    assert path.decision is not None
    assert path.decision.shares is not None
    assert path.decision.shares() == {(SERVER, 80): 0.5, (SERVER, 81): 0.5}
    assert path.hops[path.decision.hops_before].operation == "syscall_connect"


def test_nobody_to_pass_on_to() -> None:
    reason = Relayed().request().reason
    assert reason is not None
    assert reason.startswith("connection refused by a process of router: it accepts")


def test_packets_for_others_are_left_alone() -> None:
    router = Relayed(80)
    for protocol in ("tcp", "udp"):
        path = socket.send(router.left, Packet(CLIENT, "10.1.0.1", protocol, 1, 8000, 10))
        assert path.delivered_to == "router", "it opens nothing, and is of no connection"


def test_closed_connections_are_forgotten() -> None:
    router = Relayed(80)
    router.request()
    router.host.forget_connections()
    assert router.request().delivered_to == "router"


def test_large_messages_go_on_in_pieces() -> None:
    router = Relayed(80)
    router.request()
    path = router.request(size=60_000, segment_bytes=1448)
    sent = next(hop for hop in path.hops if hop.context is Context.DAEMON and hop.operation == "syscall_send")
    assert (sent.buffers, sent.size_bytes) == (2, 60_000)
    assert [hop.buffers for hop in path.hops if hop.operation == "tcp_receive"] == [1, 2]
    assert path.hops[-1].buffers == 1


def test_a_datagram_in_fragments_is_cut_anew() -> None:
    router = Relayed(80, mtu=1000)
    path = router.request(4000, "udp", size=1900)
    assert path.delivered_to == "right"
    assert [(hop.operation, hop.buffers) for hop in path.hops if hop.operation.startswith(("ip_frag", "ip_defrag"))] == [
        ("ip_fragment", 2), ("ip_defrag", 2), ("ip_fragment", 2), ("ip_defrag", 2),
    ]  # fmt: skip
