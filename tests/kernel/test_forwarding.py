"""Packets between namespaces: delivery, and every way to get nowhere."""

from __future__ import annotations

import pytest

from kubesim.kernel import socket
from kubesim.kernel.address import Prefix
from kubesim.kernel.bridge import Bridge
from kubesim.kernel.dummy import Dummy
from kubesim.kernel.namespace import Host, Namespace
from kubesim.kernel.netfilter.conntrack import Conntrack
from kubesim.kernel.netfilter.iptables import Table
from kubesim.kernel.netfilter.matches import Comment, ConnectionState
from kubesim.kernel.netfilter.rule import Header, Rule
from kubesim.kernel.netfilter.syntax import parse_rule
from kubesim.kernel.netfilter.targets import Accept, DestinationNat, Drop, Masquerade, NoTrack, Reject
from kubesim.kernel.nic import Ethernet, Nic
from kubesim.kernel.packet import Packet
from kubesim.kernel.route import Route
from kubesim.kernel.veth import veth_pair
from kubesim.kernel.vxlan import Vxlan
from kubesim.kernel.walk import Path


class Router:
    """Two namespaces, left and right, and a router between them."""

    def __init__(self, mtu: int = 1500) -> None:
        self.host = Host("router")
        self.root = self.host.root
        self.root.is_forwarding = True
        self.left = self._attach("left", "10.1.0", mtu)
        self.right = self._attach("right", "10.2.0", mtu)

    def _attach(self, name: str, network: str, mtu: int) -> Namespace:
        namespace = self.host.add_namespace(name)
        inside, outside = veth_pair((namespace, "eth0"), (self.root, name), mtu)
        namespace.add_address(inside, f"{network}.2/24")
        self.root.add_address(outside, f"{network}.1/24")
        namespace.routes.add(Route(Prefix("0.0.0.0/0"), inside, via=f"{network}.1"))
        return namespace

    def send(self, source: Namespace, packet: Packet) -> Path:
        """Send a packet."""
        return socket.send(source, packet)


def datagram(source: str = "10.1.0.2", destination: str = "10.2.0.2", port: int = 53, size: int = 10) -> Packet:
    """A datagram from left to right."""
    return Packet(source, destination, "udp", 4000, port, size)


def test_a_routed_packet_is_delivered_and_pays_for_each_step() -> None:
    router = Router()
    path = router.send(router.left, datagram())
    assert (path.delivered_to, path.reason) == ("right", None)
    assert [hop.operation for hop in path.hops] == [
        "syscall_send", "udp_send", "route_lookup", "ip_output", "veth_transmit",
        "backlog", "ip_receive", "route_lookup", "ip_forward", "ip_output", "veth_transmit",
        "backlog", "ip_receive", "route_lookup", "udp_receive", "socket_wakeup", "syscall_receive",
    ]  # fmt: skip
    assert path.packet.ttl == 63
    assert path.hooks == (), "a namespace without hook functions costs nothing"


def test_a_namespace_talks_to_itself_over_loopback() -> None:
    router = Router()
    path = router.send(router.left, datagram(destination="10.1.0.2"))
    assert path.delivered_to == "left"
    assert "loopback_transmit" in [hop.operation for hop in path.hops]


@pytest.mark.parametrize(
    ("destination", "reason"),
    [
        ("10.3.0.2", "no route to 10.3.0.2 in router: network unreachable"),
        ("10.2.0.9", "nobody answers for 10.2.0.9 on right of router: host unreachable"),
        ("10.9.0.1", "no route to 10.9.0.1 in router: network unreachable"),
    ],
)
def test_packets_for_nobody_end_with_the_reason(destination: str, reason: str) -> None:
    router = Router()
    router.root.routes.add(Route(Prefix("10.9.0.0/16"), None))
    path = router.send(router.left, datagram(destination=destination))
    assert (path.delivered_to, path.reason) == (None, reason)


def test_no_route_at_the_sender() -> None:
    alone = Host("alone").root
    assert socket.send(alone, datagram()).reason == "no route to 10.2.0.2 in alone: network unreachable"


def test_a_host_that_does_not_forward() -> None:
    router = Router()
    router.root.is_forwarding = False
    path = router.send(router.left, datagram())
    assert path.reason == "router does not forward packets (net.ipv4.ip_forward is 0)"


def test_a_packet_that_goes_in_circles_dies_of_age() -> None:
    router = Router()
    router.right.is_forwarding = True
    router.right.routes.add(Route(Prefix("10.7.0.0/16"), router.right.devices["eth0"], via="10.2.0.1"))
    router.root.routes.add(Route(Prefix("10.7.0.0/16"), router.root.devices["right"], via="10.2.0.2"))
    path = router.send(router.left, datagram(destination="10.7.0.1"))
    assert path.reason is not None
    assert path.reason.startswith("time to live exceeded")


def test_what_may_not_be_cut_has_to_fit() -> None:
    router = Router(mtu=1000)
    large = Packet("10.1.0.2", "10.2.0.2", "tcp", 1, 2, 1000)
    reason = "fragmentation needed and DF set: a packet of 1052 bytes does not fit the MTU of 1000 of eth0 in left"
    assert router.send(router.left, large).reason == reason
    large = Packet("10.1.0.2", "10.2.0.2", "tcp", 1, 2, 9000, segment_bytes=900)
    assert router.send(router.left, large).delivered_to == "right", "a buffer that the card cuts does fit"


def test_devices_that_lead_nowhere() -> None:
    root = Host("alone").root
    dummy = Dummy(root, "dummy0", 1500)
    root.routes.add(Route(Prefix("0.0.0.0/0"), dummy))
    root.neighbours["dummy0", "10.2.0.2"] = "02:00:00:00:00:09"
    assert socket.send(root, datagram()).reason == "dummy0 of alone does not send packets"


class Translating(Router):
    """A router with an iptables nat table."""

    def __init__(self) -> None:
        super().__init__()
        self.nat = Table.of(self.root, "nat")

    def add(self, chain: str, *rules: Rule) -> None:
        """Append rules to a base chain of the nat table."""
        for rule in rules:
            self.nat.chain(chain).append(rule)


def test_destination_nat_is_decided_once_and_undone_on_the_reply() -> None:
    router = Translating()
    virtual = Header("udp", destination=Prefix("10.96.0.1"))
    router.add("PREROUTING", Rule(None), Rule(DestinationNat("10.2.0.2", 5353), virtual))
    first = router.send(router.left, datagram(destination="10.96.0.1"))
    assert first.delivered_to == "right"
    assert first.packet.flow == ("10.1.0.2", "10.2.0.2", "udp", 4000, 5353)
    assert first.rules_tested == {("router", "nat/PREROUTING"): 2}

    reply = router.send(router.right, Packet("10.2.0.2", "10.1.0.2", "udp", 5353, 4000, 10))
    assert reply.packet.flow == ("10.96.0.1", "10.1.0.2", "udp", 53, 4000), "the client sees whom it called"
    assert reply.rules_tested == {}, "replies never walk nat chains"

    second = router.send(router.left, datagram(destination="10.96.0.1"))
    assert second.packet.flow == first.packet.flow
    assert second.rules_tested == {}, "nor does a connection that is there"


def test_packets_without_an_answer_stay_new_but_are_translated_from_the_entry() -> None:
    router = Translating()
    router.add("PREROUTING", Rule(DestinationNat("10.2.0.2", 5353)))
    assert router.send(router.left, datagram(destination="10.96.0.1")).rules_tested
    again = router.send(router.left, datagram(destination="10.96.0.1"))
    assert again.packet.state == "UNTRACKED", "it has left the router for a namespace without tracking"
    assert again.rules_tested == {}
    (connection,) = Conntrack.of(router.root).connections()
    assert not connection.has_reply
    assert connection.reply == ("10.2.0.2", "10.1.0.2", "udp", 5353, 4000)


def test_masquerade_takes_the_address_of_the_device_and_is_undone() -> None:
    router = Translating()
    router.add("POSTROUTING", Rule(Masquerade(is_random=True), Header(out_device="right")))
    first = router.send(router.left, datagram())
    assert first.packet.source == "10.2.0.1"
    assert first.packet.source_port != 4000, "--random-fully"
    back = first.packet.flow.reversed()
    reply = router.send(router.right, Packet(*back, payload_bytes=1))
    assert reply.packet.flow == ("10.2.0.2", "10.1.0.2", "udp", 53, 4000)
    assert router.send(router.left, datagram()).packet.flow == first.packet.flow


def test_masquerade_keeps_the_port_where_it_is_free() -> None:
    router = Translating()
    router.add("POSTROUTING", Rule(Masquerade(), Header(out_device="right")))
    assert router.send(router.left, datagram()).packet.source_port == 4000
    other = Packet("10.1.0.3", "10.2.0.2", "udp", 4000, 53, 1)
    assert router.send(router.left, other).packet.source_port != 4000, "taken by the first"


def test_drop_and_reject_end_the_walk_with_the_comment_as_reason() -> None:
    router = Router()
    forward = Table.of(router.root, "filter").chain("FORWARD")
    forward.append(Rule(Drop(), Header("tcp"), (Comment("no web"),)))
    forward.append(Rule(Reject(), Header("udp")))
    web = Packet("10.1.0.2", "10.2.0.2", "tcp", 1, 80, 0)
    assert router.send(router.left, web).reason == "dropped by filter/FORWARD of router: no web"
    reason = router.send(router.left, datagram()).reason
    assert reason == "connection refused, rejected by filter/FORWARD of router"


def test_the_state_of_a_connection_gates_rules() -> None:
    router = Router()
    forward = Table.of(router.root, "filter").chain("FORWARD")
    forward.append(Rule(Accept(), matches=(ConnectionState(frozenset({"ESTABLISHED"})),)))
    forward.append(Rule(Drop(), Header(in_device="right")))
    answer = Packet("10.2.0.2", "10.1.0.2", "udp", 53, 4000, 1)
    assert router.send(router.right, answer).delivered_to is None, "nobody asked"
    assert router.send(router.left, datagram()).delivered_to == "right"
    answer = Packet("10.2.0.2", "10.1.0.2", "udp", 53, 4000, 1)
    assert router.send(router.right, answer).delivered_to == "left"


def test_untracked_packets_have_no_connection_and_are_not_translated() -> None:
    router = Translating()
    router.add("PREROUTING", Rule(DestinationNat("10.2.0.9", 1)))
    Table.of(router.root, "raw").chain("PREROUTING").append(Rule(NoTrack()))
    path = router.send(router.left, datagram())
    assert path.packet.destination == "10.2.0.2"
    assert "conntrack_lookup" not in [hop.operation for hop in path.hops]
    assert len(Conntrack.of(router.root)) == 0


def test_tables_are_walked_in_the_order_of_their_priorities() -> None:
    router = Router()
    for name in ("filter", "nat", "mangle", "raw"):
        Table.of(router.root, name)
    path = router.send(router.left, datagram())
    walked = [hop.at for hop in path.hops if hop.operation == "iptables_table"]
    assert walked == [
        "raw/PREROUTING", "mangle/PREROUTING", "nat/PREROUTING",
        "mangle/FORWARD", "filter/FORWARD", "mangle/POSTROUTING", "nat/POSTROUTING",
    ]  # fmt: skip


def test_a_bridge_floods_nothing_it_does_not_know() -> None:
    host = Host("node")
    bridge = Bridge(host.root, "br0", 1500)
    inside = host.add_namespace("pod")
    eth0, port = veth_pair((inside, "eth0"), (host.root, "port"), 1500)
    bridge.add_port(port)
    inside.add_address(eth0, "10.0.0.2/24")
    inside.neighbours["eth0", "10.0.0.9"] = "02:00:00:00:00:99"
    path = socket.send(inside, datagram("10.0.0.2", "10.0.0.9"))
    assert path.reason == "br0 of node floods a frame to 02:00:00:00:00:99: nobody has it"


def test_cards_meet_on_an_ethernet() -> None:
    ethernet = Ethernet(gateway="192.168.0.1")
    nodes = []
    for number in (1, 2):
        root = Host(f"n{number}").root
        nic = Nic(root, "eth0", 1500, ethernet)
        root.add_address(nic, f"192.168.0.1{number}/24")
        root.routes.add(Route(Prefix("0.0.0.0/0"), nic, via="192.168.0.1"))
        ethernet.plug_in(nic)
        nodes.append(root)
    path = socket.send(nodes[0], datagram("192.168.0.11", "192.168.0.12"))
    assert path.delivered_to == "n2"
    assert [(hop.host, hop.context.value) for hop in path.hops if hop.context in ("nic", "wire", "port")] == [
        ("n1", "nic"), ("n1", "wire"), ("n2", "port"),
    ]  # fmt: skip
    lost = socket.send(nodes[0], datagram("192.168.0.11", "8.8.8.8"))
    assert lost.reason == "8.8.8.8 is not in the cluster: the packet leaves through 192.168.0.1"
    nobody = socket.send(nodes[0], datagram("192.168.0.11", "192.168.0.99"))
    assert nobody.reason == "nobody answers for 192.168.0.99 on eth0 of n1: host unreachable"


def test_a_tunnel_without_an_entry_for_the_next_hop() -> None:
    root = Host("n1").root
    tunnel = Vxlan(root, "vxlan0", 1450, "192.168.0.11", 4789)
    root.routes.add(Route(Prefix("10.0.0.0/8"), tunnel))
    root.neighbours["vxlan0", "10.2.0.2"] = "02:00:00:00:00:77"
    assert socket.send(root, datagram()).reason == "vxlan0 of n1 knows no endpoint for 02:00:00:00:00:77"


def test_an_answer_of_somebody_who_was_not_called_is_not_taken() -> None:
    router = Router()
    call = datagram()
    call.is_opening = True
    assert router.send(router.left, call).delivered_to == "right"
    answer = Packet("10.2.0.2", "10.1.0.2", "udp", 53, 4000, 10)
    assert router.send(router.right, answer).delivered_to == "left"
    stranger = router.send(router.right, Packet("10.2.0.2", "10.1.0.2", "udp", 54, 4000, 10))
    assert stranger.delivered_to is None
    assert stranger.reason == "left gets an answer of 10.2.0.2:54, but has called 10.2.0.2:53: no socket takes it"
    assert router.send(router.right, Packet("10.2.0.2", "10.1.0.2", "udp", 54, 4001, 10)).delivered_to == "left"


@pytest.mark.parametrize(("source", "is_dropped"), [("10.1.0.2", False), ("10.2.0.9", True), ("192.0.2.1", True)])
def test_the_reverse_path_of_a_source_is_looked_up(source: str, is_dropped: bool) -> None:
    router = Router()
    Table.of(router.root, "raw").chain("PREROUTING").append(parse_rule("-A X -m rpfilter --invert -j DROP").rule)
    path = router.send(router.left, datagram(source=source))
    assert (path.reason is not None) is is_dropped
    at_raw = [hop.operation for hop in path.hops if hop.at == "raw/PREROUTING"]
    assert at_raw == ["iptables_table", "iptables_rule", "route_lookup"]


@pytest.mark.parametrize(("source", "is_dropped"), [("10.2.0.1", False), ("10.1.0.1", True)])
def test_an_address_may_have_to_be_the_devices_own(source: str, is_dropped: bool) -> None:
    router = Router()
    rule = "-A X -o right -m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL -j DROP"
    parsed = parse_rule(rule).rule
    Table.of(router.root, "filter").chain("OUTPUT").append(parsed)
    assert parsed.save("X") == rule
    assert (router.send(router.root, datagram(source=source)).reason is not None) is is_dropped
