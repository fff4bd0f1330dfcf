"""Hosts and network namespaces: the places where kernel state is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim.kernel.address import Prefix
from kubesim.kernel.loopback import LOCALHOST, Loopback
from kubesim.kernel.netfilter.hooks import Hooks
from kubesim.kernel.route import Route, RoutingTable

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from kubesim.kernel.bpf.state import Bpf
    from kubesim.kernel.device import Device
    from kubesim.kernel.ipvs.virtual_server import Ipvs
    from kubesim.kernel.netfilter.conntrack import Conntrack
    from kubesim.kernel.netfilter.ipset import IpSet
    from kubesim.kernel.netfilter.iptables import Table
    from kubesim.kernel.netfilter.nat import Nat
    from kubesim.kernel.netfilter.nftables import NftTable
    from kubesim.kernel.netfilter.recent import RecentClients
    from kubesim.kernel.openvswitch import Datapath
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.relay import Relay
    from kubesim.kernel.walk import Walk


class Host:
    """One machine: a kernel and its namespaces.

    Parameters
    ----------
    name
        Name of the machine; its root namespace has the same.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.namespaces: dict[str, Namespace] = {}
        self.bpf: Bpf | None = None
        self.root = self.add_namespace(name)

    def add_namespace(self, name: str) -> Namespace:
        """Make a namespace with a loopback device, as ``ip netns add`` does."""
        namespace = Namespace(self, name)
        self.namespaces[name] = namespace
        return namespace

    def forget_connections(self, *, keeps_tunnels: bool = False, keeps_megaflows: bool = False) -> None:
        """Flush the tables of connections, of conntrack, IPVS, relays and programs; who is served by whom stays known.

        What conntrack knows of flows between tunnel endpoints may stay, and what Open vSwitch has cached.
        """
        for namespace in self.namespaces.values():
            if namespace.conntrack is not None:
                namespace.conntrack.flush(keeps_tunnels=keeps_tunnels)
            if namespace.ipvs is not None:
                namespace.ipvs.connections.flush()
            if namespace.relay is not None:
                namespace.relay.forget()
            if namespace.datapath is not None:
                namespace.datapath.flush(keeps_megaflows=keeps_megaflows)
        if self.bpf is not None:
            self.bpf.flush()


class Namespace:
    """A network namespace: devices, addresses, routes, neighbours, netfilter, sockets and switches.

    Parameters
    ----------
    host
        The machine it is on.
    name
        Its name.
    """

    def __init__(self, host: Host, name: str) -> None:
        self.host = host
        self.name = name
        self.devices: dict[str, Device] = {}
        self.routes = RoutingTable()
        self.neighbours: dict[tuple[str, str], str] = {}
        self.hooks = Hooks()
        self.conntrack: Conntrack | None = None
        self.nat: Nat | None = None
        self.tables: dict[str, Table] = {}
        self.nft_tables: list[NftTable] = []
        self.ipsets: dict[str, IpSet] = {}
        self.recent_clients: dict[str, RecentClients] = {}
        self.ipvs: Ipvs | None = None
        self.relay: Relay | None = None
        self.sockets: dict[tuple[str, str, int], set[tuple[str, int]]] = {}
        self.datapath: Datapath | None = None
        self.encapsulation_sockets: dict[tuple[str, int], Callable[[Walk, Packet], None]] = {}
        self.one_flow_tunnels: set[tuple[str, int]] = set()
        self.is_forwarding = False
        self.is_bridge_nf_call_iptables = False
        self._local: dict[str, Device] = {}
        self._shared_local: list[tuple[Device, AbstractSet[str]]] = []
        self.loopback = Loopback(self)
        self.add_address(self.loopback, f"{LOCALHOST}/8")

    def add_device(self, device: Device) -> None:
        """Take a device in."""
        self.devices[device.name] = device

    def add_address(self, device: Device, address: str) -> None:
        """Give a device an address; ``10.244.1.1/24`` adds the route to that link too."""
        host_address, _, length = address.partition("/")
        device.addresses.append(host_address)
        self._local[host_address] = device
        if length:
            self.routes.add(Route(Prefix(address), device, source=host_address))

    def add_local_addresses(self, device: Device, addresses: AbstractSet[str]) -> None:
        """Give a device many addresses at once, shared with other namespaces that have the same."""
        self._shared_local.append((device, addresses))

    def addresses_of(self, device: Device) -> list[str]:
        """A device's own addresses, and those it shares with other namespaces' devices, sorted."""
        shared = (addresses for owner, addresses in self._shared_local if owner is device)
        return [*device.addresses, *sorted(address for addresses in shared for address in addresses)]

    def is_local(self, address: str) -> bool:
        """Whether packets for the address are for this namespace itself (the ``local`` routing table)."""
        if address in self._local or address.startswith("127."):
            return True
        return any(address in addresses for _, addresses in self._shared_local)

    def is_local_to(self, name: str | None, address: str) -> bool:
        """Whether an address is one of a device's own."""
        device = self.devices.get(name or "")
        if device is None:
            return False
        shared = (addresses for owner, addresses in self._shared_local if owner is device)
        return address in device.addresses or any(address in addresses for addresses in shared)

    def is_one_flow_tunnel(self, packet: Packet) -> bool:
        """Whether a packet is of a tunnel whose outer addresses and ports are the same for all flows inside."""
        return (packet.protocol, packet.destination_port) in self.one_flow_tunnels

    def primary_address(self, device: Device) -> str:
        """The address that stands for a device: its first, or if it has none, the namespace's (``inet_select_addr``).

        Raises
        ------
        LookupError
            If the namespace has no address at all but its loopback's.
        """
        if device.addresses:
            return device.addresses[0]
        for address, owner in self._local.items():
            if owner is not self.loopback:
                return address
        raise LookupError(f"{self.name} has no address to send from {device.name}")

    def __repr__(self) -> str:
        return f"<Namespace {self.name}>"
