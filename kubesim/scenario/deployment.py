"""A cluster brought up: every node a kernel, wired by the CNI plugin and programmed by the service proxy.

Nodes and pods are built when a packet first needs them, so that a cluster of a hundred thousand pods is ready at once.
"""

from __future__ import annotations

import ipaddress
from functools import partial
from typing import TYPE_CHECKING

from kubesim.cni import CachesMegaflows, Settles
from kubesim.errors import InputError
from kubesim.kernel.address import Prefix
from kubesim.kernel.namespace import Host, Namespace
from kubesim.kernel.nic import ALL_OFFLOADS, Ethernet, Nic, Offloads, Router
from kubesim.kernel.packet import IP_HEADER_BYTES, TRANSPORT_HEADER_BYTES
from kubesim.kernel.route import Route
from kubesim.proxy import HasNotices
from kubesim.scenario.load_balancing import announced, balance
from kubesim.scenario.node_local_dns import install_node_local_dns

if TYPE_CHECKING:
    from kubesim.cluster import Cluster, LoadBalancing, Node, OutsideHost, Pod
    from kubesim.cni import CniPlugin
    from kubesim.kernel.packet import FlowTuple
    from kubesim.proxy import ServiceProxy
    from kubesim.scenario.conntrack_tables import TableSize


class Deployment:
    """The kernel state of a cluster.

    Parameters
    ----------
    cluster
        What exists.
    cni
        The plugin that wires it.
    proxy
        The proxy that programs Services.
    node_cidr
        The network of the nodes, where they do not say themselves on which they are; the first address of each is the
        gateway to the rest of the world.
    mtu
        MTU of that network in bytes.
    offloads
        What cards do for the kernel.
    has_packet_steering
        Whether machines spread what their cards receive over other cores (RPS).
    has_node_local_dns
        Whether each node has a cache of names.
    background_connections
        Connections that each node's IPVS table holds besides those that are simulated.
    load_balancing
        Who brings packets for load balancers' addresses to nodes.
    conntrack
        Size of each node's conntrack table; None for one in which there is always a place.
    card
        What nodes are joined by.
    """

    def __init__(
        self,
        cluster: Cluster,
        cni: CniPlugin,
        proxy: ServiceProxy,
        node_cidr: str,
        mtu: int,
        *,
        offloads: Offloads = ALL_OFFLOADS,
        has_packet_steering: bool = False,
        background_connections: int = 0,
        has_node_local_dns: bool = False,
        load_balancing: LoadBalancing = "machine",
        conntrack: TableSize | None = None,
        card: type[Nic] = Nic,
    ) -> None:
        self.cluster = cluster
        self.cni = cni
        self.proxy = proxy
        self._node_cidr = node_cidr
        self._mtu = mtu
        self._offloads = offloads
        self._has_packet_steering = has_packet_steering
        self._background_connections = background_connections
        self._conntrack = conntrack
        self._has_node_local_dns = has_node_local_dns
        self._card = card
        self._hosts: dict[str, Host] = {}
        beside = (*cluster.outside, *((cluster.load_balancer,) if cluster.load_balancer is not None else ()))
        self._outside = {one.name: one for one in beside}
        self._machines = {one.address: one.name for one in (*cluster.nodes, *beside)}
        self._subnets = self._cut()
        self._router = Router()
        self._ethernets = {
            subnet: Ethernet(str(ipaddress.IPv4Network(subnet)[1]), partial(self._plug_in, subnet), self._router)
            for subnet in dict.fromkeys(self._subnets.values())
        }
        for address, machines in announced(cluster, load_balancing).items():
            self._router.announce(address, machines)

    @property
    def notices(self) -> tuple[str, ...]:
        """What a person should know of the cluster, and of what its proxy wrote so far."""
        return (*self.cluster.notices, *(self.proxy.notices if isinstance(self.proxy, HasNotices) else ()))

    def host(self, name: str) -> Host:
        """The machine of a node, or one outside of the cluster, built when first asked for."""
        if name not in self._hosts:
            outside = self._outside.get(name)
            if outside is None:
                self._build(self.cluster.node(name))
            else:
                self._build_outside(outside)
        return self._hosts[name]

    def namespace(self, pod: Pod) -> Namespace:
        """The namespace a pod's processes are in, wired when first asked for."""
        host = self.host(pod.node)
        if pod.is_host_network:
            return host.root
        return host.namespaces.get(pod.full_name) or self.cni.attach(host.root, pod)

    def materialise(self, address: str) -> None:
        """Build whoever has an address."""
        pod = self.cluster.pod_at(address)
        if pod is not None:
            self.namespace(pod)

    def forget_connections(self, *, keeps_tunnels: bool = False, keeps_megaflows: bool = False) -> None:
        """Flush what remembers connections on all nodes; what conntrack knows of tunnels, and megaflows, may stay."""
        for host in self._hosts.values():
            host.forget_connections(keeps_tunnels=keeps_tunnels, keeps_megaflows=keeps_megaflows)

    def source_translations(self) -> dict[str, FlowTuple]:
        """The tuple that answers have on each machine whose conntrack knows a connection with a translated source."""
        found = {}
        for name, host in self._hosts.items():
            known = () if host.root.conntrack is None else host.root.conntrack.connections()
            translated = (one.reply for one in known if one.has_source_nat)
            with_ports = next((one for one in translated if one.protocol in TRANSPORT_HEADER_BYTES), None)
            if with_ports is not None:
                found[name] = with_ports
        return found

    @property
    def upcall_ratio(self) -> float | None:
        """Share of connections that Open vSwitch has no megaflows for; None where there is no Open vSwitch."""
        return self.cni.upcall_ratio if isinstance(self.cni, CachesMegaflows) else None

    @property
    def has_one_flow_tunnels(self) -> bool:
        """Whether outer headers are the same for all flows of two nodes: no ports as in IPIP, or fixed ones."""
        return bool(self.host(self.cluster.nodes[0].name).root.one_flow_tunnels)

    @property
    def segment_bytes(self) -> int:
        """Payload of one TCP segment: what is left of a pod's MTU."""
        return self.cni.pod_mtu - IP_HEADER_BYTES - TRANSPORT_HEADER_BYTES["tcp"]

    def machine_at(self, address: str) -> str | None:
        """Name of the node, or other machine, with an address on the nodes' network, None if there is none."""
        return self._machines.get(address)

    def namespace_at(self, address: str) -> Namespace:
        """The namespace that an address of a pod or node belongs to.

        Raises
        ------
        InputError
            If it belongs to none.
        """
        pod, node = self.cluster.pod_at(address), self.machine_at(address)
        if pod is not None:
            return self.namespace(pod)
        if node is None:
            raise InputError(f"nobody has the address {address}")
        return self.host(node).root

    def namespace_named(self, name: str) -> Namespace:
        """A namespace by its name: a pod's, or a machine's own."""
        return self.namespace(self.cluster.pod(name)) if "/" in name else self.host(name).root

    def server_name(self, address: str, port: int) -> str:
        """What to call who serves at an address: a pod's name, or the address where no pod has it for itself."""
        pod = self.cluster.pod_at(address)
        return f"{address}:{port}" if pod is None else pod.full_name

    def pod_name(self, namespace_name: str | None, address: str, port: int, protocol: str) -> str | None:
        """Which pod a packet was delivered to: by namespace, or by its port for pods on the host network.

        A port of the host that no pod there declares is some process of the node's.
        """
        if namespace_name is None or "/" in namespace_name:
            return namespace_name
        sharing = (pod for pod in self.cluster.pods if pod.is_host_network and pod.address == address)
        declaring = [pod for pod in sharing if any((one.number, one.protocol) == (port, protocol) for one in pod.ports)]
        return declaring[0].full_name if len(declaring) == 1 else namespace_name

    def _cut(self) -> dict[str, str]:
        """The range of the network that each machine is on, by its name; those outside are on the first."""
        subnets = {node.name: node.subnet or self._node_cidr for node in self.cluster.nodes}
        first = next(iter(subnets.values()))
        return subnets | dict.fromkeys(self._outside, first)

    def _plug_in(self, subnet: str, address: str) -> None:
        """Build the machine with an address, if it is on this network."""
        name = self.machine_at(address)
        if name is not None and self._subnets[name] == subnet:
            self.host(name)

    def _make_host(self, name: str, address: str) -> tuple[Host, Nic]:
        """A machine with a card on its network."""
        host = self._hosts[name] = Host(name)
        subnet = self._subnets[name]
        ethernet = self._ethernets[subnet]
        nic = self._card(host.root, "eth0", self._mtu, ethernet, offloads=self._offloads)
        nic.has_packet_steering = self._has_packet_steering
        host.root.add_address(nic, f"{address}/{ipaddress.IPv4Network(subnet).prefixlen}")
        host.root.routes.add(Route(Prefix("0.0.0.0/0"), nic, via=ethernet.gateway))
        ethernet.plug_in(nic)
        return host, nic

    def _build_outside(self, machine: OutsideHost) -> None:
        host, nic = self._make_host(machine.name, machine.address)
        if machine is self.cluster.load_balancer:
            balance(self.cluster, host.root, nic)

    def _build(self, node: Node) -> None:
        host, nic = self._make_host(node.name, node.address)
        self.cni.install(host.root, node, nic)
        self.proxy.install(host.root, node)
        if self._has_node_local_dns:
            install_node_local_dns(host.root)
        if isinstance(self.cni, Settles):
            self.cni.settle(host.root)
        if host.root.ipvs is not None:
            host.root.ipvs.connections.others = self._background_connections
        if host.root.conntrack is not None and self._conntrack is not None:
            host.root.conntrack.limit, host.root.conntrack.others = self._conntrack
