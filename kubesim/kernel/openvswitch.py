"""Open vSwitch: a datapath that does to packets what a program in user space has decided (net/openvswitch).

The program, ovs-vswitchd or another, is asked about a packet that nothing cached fits (an *upcall*). Its answer is a
*megaflow*: what it looked at of the packet, and what to do. Later packets that are alike in what was looked at find it
in the kernel, so that most first packets of connections find what others have left there: 97.7 % of all packets did in
data centres (Pfaff et al., The Design and Implementation of Open vSwitch, NSDI 2015). A megaflow that nothing has used
for 10 s goes away (``max-idle``, ovs-vswitchd.conf.db).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from kubesim.kernel import backlog
from kubesim.kernel.address import Prefix, address_number
from kubesim.kernel.device import Device
from kubesim.kernel.openvswitch_conntrack import Zones
from kubesim.kernel.packet import FlowTuple
from kubesim.kernel.udp_tunnel import UdpTunnel
from kubesim.kernel.walk import Context

if TYPE_CHECKING:
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.packet import Packet
    from kubesim.kernel.walk import Walk


class FlowKey(NamedTuple):
    """What a packet is told from others by (``sw_flow_key``).

    Parameters
    ----------
    in_port
        The device it came in by.
    destination_mac
        Its link-layer destination.
    source, destination, protocol, source_port, destination_port
        Its flow as the headers have it now.
    recirculation
        Where user space left off when it sent the packet through again; empty for one that comes from a port.
    state
        ``new``, ``established`` or ``reply``, as the packet is after :class:`Track`; empty before.
    connection_mark
        What was noted with its connection.
    """

    in_port: str
    destination_mac: str
    source: str
    destination: str
    protocol: str
    source_port: int
    destination_port: int
    recirculation: tuple[str, ...] = ()
    state: str = ""
    connection_mark: int = 0

    @property
    def flow(self) -> FlowTuple:
        """The flow by the headers alone."""
        return FlowTuple(self.source, self.destination, self.protocol, self.source_port, self.destination_port)


class Mask(NamedTuple):
    """What user space looked at.

    Parameters
    ----------
    fields
        Fields of :class:`FlowKey`.
    destination_bits
        How much of the destination address, if that is among them.
    """

    fields: tuple[str, ...]
    destination_bits: int = 32

    def of(self, key: FlowKey) -> tuple[object, ...]:
        """A packet's key as far as it was looked at."""
        return tuple(
            address_number(key.destination) >> (32 - self.destination_bits)
            if field == "destination"
            else getattr(key, field)
            for field in self.fields
        )

    @classmethod
    def within(cls, prefix: Prefix, *fields: str) -> Mask:
        """The mask where these fields were looked at, and whether the destination is in a range."""
        return cls((*fields, "destination"), prefix.length)


@dataclass(frozen=True, slots=True)
class Output:
    """Send the packet out of a port; ``remote`` is where a tunnel has to send it."""

    port: str
    remote: str = ""


@dataclass(frozen=True, slots=True)
class Track:
    """Have the packet's connection found in a zone, and send it through again (``ct(zone=…),recirc(…)``).

    Parameters
    ----------
    zone
        Which table of connections.
    then
        What the packet is known by when it comes again.
    commit
        Whether a connection that is not there is made.
    mark
        What is noted with a connection that is made.
    destination
        Where a connection that is made leads in place of its own destination (``nat(dst=…)``).
    source
        Where it seems to come from in place of its own source (``nat(src=…)``); empty for no change.
    """

    zone: int
    then: tuple[str, ...]
    commit: bool = False
    mark: int = 0
    destination: tuple[str, int] | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Spread:
    """Choose one of several servers by the flow's hash, and send the packet through again (``hash(…),recirc(…)``)."""

    servers: tuple[tuple[str, int], ...]
    then: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Discard:
    """Drop the packet."""

    reason: str


Action = Output | Track | Spread | Discard


class Megaflow(NamedTuple):
    """What user space answers to an upcall.

    Parameters
    ----------
    mask
        What it looked at.
    action
        What to do.
    tables
        How many tables it looked through to know.
    """

    mask: Mask
    action: Action
    tables: int


class UserSpace(Protocol):
    """The program that a datapath asks."""

    def translate(self, key: FlowKey) -> Megaflow:
        """Say what to do with packets like this one."""

    def answer(self, address: str) -> str | None:
        """Who has an address (ARP), as far as the program knows or can find out."""


class InternalPort(Device):
    """The device by which the host itself is joined to a datapath (vport-internal_dev.c)."""

    def __init__(self, namespace: Namespace, name: str, mtu: int, datapath: Datapath) -> None:
        super().__init__(namespace, name, mtu)
        self._datapath = datapath
        datapath.ports[name] = self

    def transmit(self, walk: Walk, packet: Packet) -> None:
        """Hand a packet of the host's to the datapath, with nothing between (``internal_dev_xmit``)."""
        self._datapath.receive_from(self, walk, packet)

    def resolve(self, address: str) -> str | None:
        """Ask in the datapath who has an address."""
        return super().resolve(address) or self._datapath.answer(address)


class Datapath:
    """Ports, cached megaflows, and the program behind them.

    Parameters
    ----------
    namespace
        Where the ports are.
    name
        Its name.
    user_space
        Whom it asks.
    """

    def __init__(self, namespace: Namespace, name: str, user_space: UserSpace) -> None:
        self.namespace = namespace
        self.name = name
        self.ports: dict[str, Device] = {}
        self.zones = Zones()
        self._user_space = user_space
        self._megaflows: dict[Mask, dict[tuple[object, ...], Megaflow]] = {}
        self._mask_of_flow: dict[tuple[FlowTuple, tuple[str, ...]], Mask] = {}
        namespace.datapath = self

    def add_port(self, device: Device) -> None:
        """Make a device a port: it hands what it receives to the datapath (``netdev_frame_hook``)."""
        device.master = self
        self.ports[device.name] = device

    def answer(self, address: str) -> str | None:
        """Let user space say who has an address."""
        return self._user_space.answer(address)

    def flush(self, *, keeps_megaflows: bool = False) -> None:
        """Forget all connections, which mask each flow had, and the megaflows, unless these are to be kept."""
        self.zones.flush()
        self._mask_of_flow.clear()
        if not keeps_megaflows:
            self._megaflows.clear()

    def receive_from(self, port: Device, walk: Walk, packet: Packet) -> None:
        """Take a packet from a port and do what is to be done (``ovs_vport_receive``, ``ovs_dp_process_packet``)."""
        walk.pay("ovs_receive", at=port.name)
        key: FlowKey | None = FlowKey(port.name, packet.destination_mac, *packet.flow)
        while key is not None and not walk.is_over:
            action = (self._find(walk, key) or self._ask(walk, key)).action
            key = self._execute(walk, packet, key, action)

    def _find(self, walk: Walk, key: FlowKey) -> Megaflow | None:
        """Look a packet up in one hash table per mask, that of its flow's last packet first (``flow_lookup``)."""
        flow = key.flow, key.recirculation
        cached = self._mask_of_flow.get(flow)
        found = None if cached is None else self._megaflows[cached].get(cached.of(key))
        tried = 0 if cached is None else 1
        if found is None:
            for mask, megaflows in self._megaflows.items():
                tried += 1
                found = megaflows.get(mask.of(key))
                if found is not None:
                    self._mask_of_flow[flow] = mask
                    break
        walk.pay("ovs_flow_lookup", tried, at=self.name)
        return found

    def _ask(self, walk: Walk, key: FlowKey) -> Megaflow:
        """Let user space decide, and cache what it says; it sends the packet on itself (``ovs_dp_upcall``)."""
        walk.context = Context.DAEMON
        walk.pay("ovs_upcall", at=self.name)
        megaflow = self._user_space.translate(key)
        walk.pay("ovs_translate", megaflow.tables, at=self.name)
        walk.pay("ovs_flow_put", at=self.name)
        walk.context = Context.SOFTIRQ
        self._megaflows.setdefault(megaflow.mask, {})[megaflow.mask.of(key)] = megaflow
        self._mask_of_flow[key.flow, key.recirculation] = megaflow.mask
        return megaflow

    def _execute(self, walk: Walk, packet: Packet, key: FlowKey, action: Action) -> FlowKey | None:
        """Do what is to be done (``do_execute_actions``); what the packet is known by if it comes again."""
        match action:
            case Track():
                state, mark = self.zones.track(walk, packet, action)
                return FlowKey(key.in_port, packet.destination_mac, *packet.flow, action.then, state, mark)
            case Spread():
                address, port = action.servers[walk.chance.pick(len(action.servers))]
                walk.decide(address, port)
                return key._replace(recirculation=(*action.then, address, str(port)))
            case Output():
                self._output(walk, packet, action)
            case Discard():
                walk.drop(action.reason)
        return None

    def _output(self, walk: Walk, packet: Packet, output: Output) -> None:
        """Send a packet out of a port (``ovs_vport_send``); what is too long is dropped, nobody is told."""
        device = self.ports[output.port]
        if packet.length_bytes > device.mtu:
            walk.drop(f"a packet of {packet.length_bytes} bytes does not fit the MTU of {device.mtu} of {device.name}")
        elif isinstance(device, UdpTunnel):
            device.send_to(walk, packet, output.remote, is_dont_fragment=True)  # "df_default", ovs-vswitchd.conf.db(5)
        elif isinstance(device, InternalPort):
            packet.forget_connection()
            backlog.enqueue(walk, packet, device)
        else:
            device.transmit(walk, packet)
