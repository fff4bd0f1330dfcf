"""Lanes: small networks of namespaces, each with one way for packets from a pod to where they end.

A pod sends frames into a node; they end at the pod they are for, which drops them on its doorstep because they carry
the MAC address of nobody (``PACKET_OTHERHOST`` in ``ip_rcv_core``), so that the way itself is nearly all there is to
time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubesim.twin.frames import Flow, refusing_socket, udp_frame
from kubesim.twin.namespaces import Namespace

if TYPE_CHECKING:
    import contextlib

POD, SERVER, FAR_POD, NEAR_VIP = "10.244.1.10", "10.244.1.20", "10.244.2.20", "10.96.0.10"
"""The pod that sends, one on its node, one on another, and the virtual address."""

_PEER = "172.30.0.2"
_POD_MAC, _NODE_MAC, _DOOR_MAC, _WIRE_MAC, _PEER_MAC, _NOBODY_MAC = (f"02:00:00:00:00:0{n}" for n in range(1, 7))
_PORT, _SERVER_PORT = 80, 8080
_FIRST_SOURCE_PORT = 10_000
_OVERLAY_MTU = 1450
_SINK_PORT = 81

CONNECTION_S = 2
"""How long IPVS keeps a connection."""

Counter = Callable[[], int]


@dataclass
class Lane:
    """A way to time.

    Parameters
    ----------
    name
        What it is called in results.
    pod
        The namespace that sends, from its ``eth0``.
    destination, port
        Where packets are sent.
    arrived
        Counts packets at the end of the way.
    flows
        How many connections the packets of a burst belong to; None for one each.
    end_mac
        The MAC address packets are sent to.
    has_conntrack
        Whether the node has a conntrack table, to be emptied between bursts.
    """

    name: str
    pod: Namespace
    destination: str
    arrived: Counter
    port: int = _PORT
    flows: int | None = 64
    end_mac: str = _NODE_MAC
    node: Namespace | None = None
    has_conntrack: bool = False

    def frames(self, count: int, source: str = POD) -> list[bytes]:
        """Frames of a burst."""
        several = self.flows or count
        made = [udp_frame(flow, _POD_MAC, self.end_mac) for flow in self.connections(source, several)]
        return [made[number % several] for number in range(count)]

    def connections(self, source: str, count: int) -> list[Flow]:
        """The connections that frames are of."""
        return [Flow(source, _FIRST_SOURCE_PORT + number, self.destination, self.port) for number in range(count)]


class Site:
    """A node with a pod that sends and one that receives, and, if wanted, a second node behind a wire."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self.stack = stack
        self.pod, self.node, self.server = (self._namespace() for _ in range(3))
        self._connect(self.node, "pod0", self.pod, "eth0", _POD_MAC)
        self._connect(self.node, "pod1", self.server, "eth0", _DOOR_MAC)
        self.node.set(ipv4__ip_forward=1, ipv4__conf__all__rp_filter=0)
        self.node.ip(["link set lo up", f"route add {POD} dev pod0", f"route add {SERVER} dev pod1",
                      f"neighbour add {SERVER} lladdr {_NOBODY_MAC} dev pod1"])  # fmt: skip

    def lane(self, name: str, destination: str = SERVER, **more: object) -> Lane:
        """A way to the pod that receives."""
        fields: dict[str, object] = {"arrived": lambda: self.server.frames_received("eth0"), "node": self.node, **more}
        return Lane(name, self.pod, destination, **fields)  # type: ignore[arg-type]

    def _namespace(self) -> Namespace:
        made = Namespace()
        self.stack.callback(made.close)
        return made

    def _connect(
        self, node: Namespace, device: str, other: Namespace, peer: str, mac: str, own: str = _NODE_MAC
    ) -> None:
        node.ip([f"link add {device} address {own} type veth peer name {peer} address {mac} netns {other.path}",
                 f"link set {device} up"])  # fmt: skip
        other.ip([f"link set {peer} up"])

    def bridge(self) -> None:
        """Put both pods on a bridge."""
        self.node.ip(["link add cni0 type bridge", "link set cni0 up", "link set pod0 master cni0",
                      "link set pod1 master cni0"])  # fmt: skip
        self.node.run("bridge", "fdb", "add", _NOBODY_MAC, "dev", "pod1", "master", "static")

    def add_peer(self) -> Namespace:
        """A second node with a pod of its own, behind a wire."""
        peer, far = self._namespace(), self._namespace()
        self._leave_headroom()
        self._connect(self.node, "wire", peer, "wire", _PEER_MAC, own=_WIRE_MAC)
        self._connect(peer, "pod2", far, "eth0", _DOOR_MAC)
        peer.set(ipv4__ip_forward=1, ipv4__conf__all__rp_filter=0)
        self.node.ip(["address add 172.30.0.1/24 dev wire", f"neighbour add {_PEER} lladdr {_PEER_MAC} dev wire"])
        peer.ip(["link set lo up", f"address add {_PEER}/24 dev wire",
                 f"neighbour add 172.30.0.1 lladdr {_WIRE_MAC} dev wire", "route add 10.244.1.0/24 via 172.30.0.1",
                 f"route add {FAR_POD} dev pod2",
                 f"neighbour add {FAR_POD} lladdr {_NOBODY_MAC} dev pod2"])  # fmt: skip
        self.server = far
        return peer

    def _leave_headroom(self) -> None:
        """Have the pod leave room for outer headers, as TCP does, so that no way pays for making it.

        A bridge tells its ports how much its widest one, here a VXLAN, needs (``br_add_if``, ``veth_set_rx_headroom``).
        """
        self.node.ip([f"link add cni0 address {_NODE_MAC} type bridge", "link set cni0 up",
                      "link add spare type vxlan id 99 dstport 8473", "link set spare master cni0",
                      "link set pod0 master cni0", f"route replace {POD} dev cni0"])  # fmt: skip

    def end_at_wire(self, peer: Namespace) -> Counter:
        """Have packets end where the second node's IP layer begins."""
        self.node.ip([f"neighbour replace {_PEER} lladdr {_NOBODY_MAC} dev wire"])
        return lambda: peer.frames_received("wire")

    def restore(self, text: str) -> None:
        """Write iptables rules."""
        self.node.run("iptables-legacy-restore", text=text)
        self.node.set(netfilter__nf_conntrack_checksum=0)  # what a pod sends carries no checksum yet to verify

    def ipvs(self, commands: list[str], *, has_conntrack: bool, connection_s: int = CONNECTION_S) -> None:
        """Write virtual services; connections last so short that each burst finds none of the one before."""
        self.node.run("ipvsadm", "-R", text="\n".join(commands) + "\n")
        self.node.run("ipvsadm", "--set", *3 * [str(connection_s)])
        self.node.set(ipv4__vs__conntrack=int(has_conntrack))

    def sink(self) -> Counter:
        """A socket on the node that takes no packet."""
        self.node.ip([f"address add {NEAR_VIP}/32 dev lo"])
        self.stack.callback(refusing_socket(self.node, _SINK_PORT).close)
        return self.node.datagrams_refused


CONNTRACK_RULES = "*filter\n-A FORWARD -m conntrack --ctstate INVALID -j DROP\nCOMMIT\n"
"""The least that makes a node track connections."""


def plain(site: Site, name: str, flows: int | None = 64) -> list[Lane]:
    """From pod to pod by the node's routes."""
    return [site.lane(name, flows=flows)]


def bridged(site: Site, name: str) -> list[Lane]:
    """From pod to pod over a bridge."""
    site.bridge()
    return [site.lane(name, end_mac=_NOBODY_MAC)]


def tracked(site: Site, name: str) -> list[Lane]:
    """By routes, with a conntrack table."""
    site.restore(CONNTRACK_RULES)
    return new_and_established(site, name, SERVER, has_conntrack=True)


def new_and_established(site: Site, name: str, destination: str, *, has_conntrack: bool) -> list[Lane]:
    """A way for packets of a few connections, and the same way for packets that open one each."""
    return [
        site.lane(f"{name}, established", destination, has_conntrack=has_conntrack),
        site.lane(f"{name}, new", destination, has_conntrack=has_conntrack, flows=None),
    ]


def host_gateway(site: Site, name: str, *, at_wire: bool) -> list[Lane]:
    """To another node by a route."""
    peer = site.add_peer()
    site.node.ip([f"route add 10.244.2.0/24 via {_PEER}"])
    return _overlay_lane(site, name, peer, at_wire=at_wire)


def ethernet_tunnel(site: Site, name: str, kind: str, *, at_wire: bool) -> list[Lane]:
    """To another node through VXLAN or Geneve, which carry Ethernet in UDP; no outer checksum, as flannel has it."""
    peer = site.add_peer()
    options = "dstport 8472 local {} nolearning" if kind == "vxlan" else "remote {}"
    ends = (
        (site.node, "172.30.0.1", _PEER, "02:00:00:00:01:01", "02:00:00:00:01:02", "10.244.2.0"),
        (peer, _PEER, "172.30.0.1", "02:00:00:00:01:02", "02:00:00:00:01:01", "10.244.1.0"),
    )
    for namespace, own, other, own_mac, other_mac, gateway in ends:
        chosen = options.format(own if kind == "vxlan" else other)
        namespace.ip([f"link add tunnel address {own_mac} type {kind} id 1 {chosen} noudpcsum",
                      f"link set tunnel mtu {_OVERLAY_MTU} up",
                      f"neighbour add {gateway} lladdr {other_mac} dev tunnel",
                      f"route replace {gateway}/24 via {gateway} dev tunnel onlink"])  # fmt: skip
        if kind == "vxlan":
            namespace.run("bridge", "fdb", "add", other_mac, "dev", "tunnel", "dst", other, "self", "permanent")
    return _overlay_lane(site, name, peer, at_wire=at_wire)


def ip_tunnel(site: Site, name: str, *, at_wire: bool) -> list[Lane]:
    """To another node through IP in IP, as Calico has it."""
    peer = site.add_peer()
    for namespace, own, other, subnet in (
        (site.node, "172.30.0.1", _PEER, "10.244.2.0/24"),
        (peer, _PEER, "172.30.0.1", "10.244.1.0/24"),
    ):
        namespace.ip([f"tunnel add ipip0 mode ipip local {own} remote any", "link set ipip0 mtu 1480 up",
                      f"route replace {subnet} via {other} dev ipip0 onlink"])  # fmt: skip
    return _overlay_lane(site, name, peer, at_wire=at_wire)


def _overlay_lane(site: Site, name: str, peer: Namespace, *, at_wire: bool) -> list[Lane]:
    return [site.lane(name, FAR_POD, **({"arrived": site.end_at_wire(peer)} if at_wire else {}))]


def iptables_services(site: Site, name: str, services: int) -> list[Lane]:
    """To the last of N Services by iptables."""
    site.restore(service_rules(services) + CONNTRACK_RULES)
    return new_and_established(site, name, NEAR_VIP, has_conntrack=True)


def service_rules(services: int) -> str:
    """Rules as kube-proxy writes them for the last of N Services; to the others it has what fails first: one rule."""
    portal = "-A KUBE-SERVICES -d {}/32 -p udp -m comment --comment {} -m udp --dport 80 -j {}"
    target, name = f"{SERVER}:{_SERVER_PORT}", f"default/svc-{services:05d}:port"
    lines = [
        "*nat",
        ":KUBE-SERVICES - [0:0]",
        ":KUBE-OTHER - [0:0]",
        ":KUBE-SVC - [0:0]",
        ":KUBE-SEP - [0:0]",
        '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    ]
    lines += [
        portal.format(address, f'"default/svc-{number:05d}:port cluster IP"', "KUBE-OTHER")
        for number, address in enumerate(other_addresses(services - 1))
    ]
    lines += [
        portal.format(NEAR_VIP, f'"{name} cluster IP"', "KUBE-SVC"),
        f'-A KUBE-SVC -m comment --comment "{name} -> {target}" -j KUBE-SEP',
        f'-A KUBE-SEP -p udp -m comment --comment "{name}" -m udp -j DNAT --to-destination {target}',
        "COMMIT\n",
    ]
    return "\n".join(lines)


def other_addresses(count: int) -> list[str]:
    """Virtual addresses of other Services, one after the other, so that hash buckets fill evenly."""
    return [f"10.{97 + number // 65536}.{number // 256 % 256}.{number % 256}" for number in range(count)]


def same_bucket_addresses(count: int) -> list[str]:
    """Virtual addresses that share a bucket of IPVS's service table with :data:`NEAR_VIP` where ports are the same.

    ``ip_vs_svc_hashkey`` takes the lowest 8 bits of address, port and protocol, exclusive-ored.
    """
    return [f"10.{97 + number // 256}.{number % 256}.10" for number in range(count)]


def ipvs_services(site: Site, name: str, services: int, *, has_conntrack: bool) -> list[Lane]:
    """To the first of N Services by IPVS, which is the last of its bucket, as new ones are put in front."""
    site.node.ip([f"address add {NEAR_VIP}/32 dev lo"])
    if has_conntrack:
        site.restore(CONNTRACK_RULES)
    commands = [f"-A -u {NEAR_VIP}:{_PORT} -s rr", f"-a -u {NEAR_VIP}:{_PORT} -r {SERVER}:{_SERVER_PORT} -m"]
    commands += [f"-A -u {address}:{_PORT} -s rr" for address in other_addresses(services - 1)]
    site.ipvs(commands, has_conntrack=has_conntrack)
    return new_and_established(site, name, NEAR_VIP, has_conntrack=has_conntrack)


def ipvs_servers(site: Site, name: str, scheduler: str, servers: int) -> list[Lane]:
    """To a Service with many servers; they are behind one next hop, so that one neighbour entry is enough."""
    site.node.ip([f"address add {NEAR_VIP}/32 dev lo", f"route add 10.245.0.0/16 via {SERVER} dev pod1 onlink"])
    addresses = [f"10.245.{number // 250}.{number % 250 + 1}" for number in range(servers)]
    commands = [f"-A -u {NEAR_VIP}:{_PORT} -s {scheduler}"]
    commands += [f"-a -u {NEAR_VIP}:{_PORT} -r {address}:{_SERVER_PORT} -m" for address in addresses]
    site.ipvs(commands, has_conntrack=False)
    return [site.lane(name, NEAR_VIP, flows=None)]


def ipvs_keeping(site: Site, name: str) -> list[Lane]:
    """To a virtual service whose connections stay."""
    site.node.ip([f"address add {NEAR_VIP}/32 dev lo"])
    commands = [f"-A -u {NEAR_VIP}:{_PORT} -s rr", f"-a -u {NEAR_VIP}:{_PORT} -r {SERVER}:{_SERVER_PORT} -m"]
    site.ipvs(commands, has_conntrack=False, connection_s=3600)
    return [site.lane(name, NEAR_VIP, flows=None)]


def ipvs_passing_by(site: Site, name: str, flows: int | None = 64) -> list[Lane]:
    """From pod to pod past IPVS: one look into the connection table, in FORWARD."""
    site.ipvs([f"-A -u 10.97.0.11:{_PORT} -s rr"], has_conntrack=False)
    return [site.lane(name, flows=flows)]


def local_sink(site: Site, name: str) -> list[Lane]:
    """From a pod to a socket on the node."""
    return [site.lane(name, NEAR_VIP, port=_SINK_PORT, arrived=site.sink())]


def ipvs_missed(site: Site, name: str, bucket_items: int) -> list[Lane]:
    """To a socket on the node, past a bucket of so many virtual services, none of which is the one."""
    arrived = site.sink()
    commands = [f"-A -u {address}:{_SINK_PORT} -s rr" for address in same_bucket_addresses(bucket_items)]
    site.ipvs(commands or [f"-A -u 10.97.0.11:{_SINK_PORT} -s rr"], has_conntrack=False)
    return [site.lane(name, NEAR_VIP, port=_SINK_PORT, arrived=arrived)]
