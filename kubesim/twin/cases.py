"""What is measured: one way of packets through a twin, and the same way walked in the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kubesim.errors import InputError
from kubesim.kernel import socket
from kubesim.kernel.netfilter.ipset import install_ipsets, read_ipsets
from kubesim.kernel.netfilter.iptables import Table
from kubesim.kernel.netfilter.syntax import parse_rule
from kubesim.kernel.packet import Packet
from kubesim.kernel.walk import Chance
from kubesim.twin.datagrams import Datagrams
from kubesim.twin.names import run_prefix
from kubesim.twin.probe import Probe, Timing
from kubesim.twin.realise import Twin
from kubesim.twin.segments import Segments
from kubesim.twin.steps import quietly
from kubesim.twin.transport import source_ports
from kubesim.twin.wires import twin_deployment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kubesim.cluster import Endpoint, Pod, Service
    from kubesim.kernel.namespace import Namespace
    from kubesim.kernel.walk import Hop, Path
    from kubesim.scenario import Scenario
    from kubesim.scenario.deployment import Deployment
    from kubesim.twin.steps import OnStep
    from kubesim.twin.transport import Transport

_SOURCE_PORT = 61_000
_SAMPLES_AT_A_TIME = 10
_OF_RAW_SOCKETS = {"tcp_send": "udp_send", "tcp_receive": "udp_receive"}


@dataclass(frozen=True)
class Way:
    """One way of packets.

    Parameters
    ----------
    setting
        What tells the twin it is in from others, in words.
    service
        Name of the Service; its pods are sent to by their own addresses if the proxy gives it none.
    payload_bytes
        Of each packet.
    is_new
        Whether each opens a connection.
    """

    setting: str
    service: str
    payload_bytes: int
    is_new: bool

    @property
    def name(self) -> str:
        """In words."""
        kind = "new" if self.is_new else "established"
        return f"{self.setting}, {self.service}, {self.payload_bytes} bytes, {kind}"


@dataclass(frozen=True)
class Measured:
    """A way with its time, and the same way in the simulator.

    Parameters
    ----------
    way
        The way.
    server
        Which endpoint received.
    timing
        What was measured.
    path
        From the walk.
    """

    way: Way
    server: str
    timing: Timing
    path: Path

    @property
    def hops(self) -> tuple[Hop, ...]:
        """Its operations by the walk; segments are sent by raw sockets, which do a datagram's work."""
        hops = [one._replace(operation=_OF_RAW_SOCKETS.get(one.operation, one.operation)) for one in self.path.hops]
        first = [one._replace(operation=socket.FIRST_SEND) for one in self.path.hops if one.operation == "tcp_send"]
        return (*hops, *(first if self.way.is_new else []))


@dataclass(frozen=True)
class Case:
    """A twin, and the ways through it.

    Parameters
    ----------
    name
        What the twin is called.
    scenario
        What is built.
    services
        Names or positions (``first``, ``middle``, ``last``) of Services that are sent to.
    sizes
        Payloads in bytes.
    client
        The pod that sends, by its own or its owner's name; otherwise the first client of the scenario's traffic.
    rules
        More rules of each node's table ``filter``, as ``iptables`` takes them.
    sets
        IP sets that those look packets up in, as ``ipset`` takes them.
    """

    name: str
    scenario: Scenario
    services: Sequence[str] = ("last",)
    sizes: Sequence[int] = (64,)
    client: str | None = None
    rules: Sequence[str] = ()
    sets: str = ""


class Measurement:
    """Twins side by side, and probes through all of them that take turns.

    Parameters
    ----------
    cases
        What is built and measured.
    """

    def __init__(self, cases: Sequence[Case]) -> None:
        self._settings = [_Setting(case, f"{run_prefix()}-{number}") for number, case in enumerate(cases)]

    def run(self, rounds: int, on_step: OnStep = quietly) -> list[Measured]:
        """Build the twins, measure and take everything down again.

        Parameters
        ----------
        rounds
            How often each probe has its turn.
        on_step
            Told what is being done.
        """
        total = len(self._settings) + rounds
        try:
            for number, setting in enumerate(self._settings):
                on_step(f"building {setting.case.name}", number / total)
                setting.up()
            probes = [probe for setting in self._settings for probe in setting.probes]
            for number in range(rounds):
                on_step(f"measuring, round {number + 1} of {rounds}", (len(self._settings) + number) / total)
                for setting in self._settings:
                    setting.announce()
                for probe in probes:
                    probe.sample(_SAMPLES_AT_A_TIME)
            return [found for setting in self._settings for found in setting.measured()]
        finally:
            for setting in self._settings:
                setting.down()


class _Setting:
    """One twin and the ways through it."""

    def __init__(self, case: Case, prefix: str) -> None:
        self.case = case
        self._deployment = twin_deployment(case.scenario)
        for node in self._deployment.cluster.nodes:
            _add_rules(self._deployment.host(node.name).root, case)
        self._client = _client(self._deployment, case.client or case.scenario.traffic.from_)
        targets = [_Target(self._deployment, one) for one in case.services]
        self._targets = list({target.service.full_name: target for target in targets}.values())
        shared = [target for target in self._targets if len(target.pods) > 1 or not self._deployment.proxy.is_headless]
        own = [target.service.name for target in shared if self._client in target.pods]
        if own:
            raise InputError(f"{self._client.name} serves {own[0]} itself: the twin needs another client")
        pods = {self._client.full_name: self._client}
        for target in self._targets:
            pods |= {pod.full_name: pod for pod in target.pods}
        self._twin = Twin(self._deployment, pods.values(), prefix)
        self._ways = [
            (target, Way(case.name, target.service.name, size, is_new))
            for target in self._targets
            for size in case.sizes
            for is_new in (False, True)
        ]
        self._transports: dict[_Target, Transport] = {}
        self.probes: list[Probe] = []

    def up(self) -> None:
        """Build the twin, and see that packets arrive on every way."""
        self._twin.up()
        ports = source_ports()
        for target in self._targets:
            servers = [(self._twin.name(self._deployment.namespace(pod)), pod.address) for pod in target.pods]
            if target.protocol == "tcp":
                self._transports[target] = Segments(servers, target.port, ports)
            else:
                self._transports[target] = Datagrams([name for name, _ in servers], target.port, ports)
        for target, way in self._ways:
            probe = Probe(
                self._twin.name(self._deployment.namespace(self._client)),
                self._transports[target],
                self._client.address,
                target.address,
                payload_bytes=way.payload_bytes,
                is_new=way.is_new,
            )
            self.probes.append(probe)
            probe.warm_up()

    def announce(self) -> None:
        """Let bridges see all servers; they forget who says nothing."""
        for transport in self._transports.values():
            transport.announce(self._client.address)

    def down(self) -> None:
        """Take it down."""
        for probe in self.probes:
            probe.close()
        for transport in self._transports.values():
            transport.close()
        self._twin.down()

    def measured(self) -> Iterator[Measured]:
        """The time of each way, by the endpoint it led to, with the hops of the walk there."""
        for (target, way), probe in zip(self._ways, self.probes, strict=True):
            for number, timing in probe.timings(way.name).items():
                path = self._walk(target, way, number)
                yield Measured(way, target.pods[number].full_name, timing, path)

    def _walk(self, target: _Target, way: Way, number: int) -> Path:
        """Send the same datagram in the simulator, by luck and the scheduler's choice to this endpoint."""
        deployment = self._deployment
        deployment.forget_connections()
        if deployment.has_one_flow_tunnels:  # the kernel knows the one connection of a tunnel since the first packet
            self._converse(target, way, number)
            deployment.forget_connections(keeps_tunnels=True)
        if not way.is_new:
            self._converse(target, way, number)
        path = self._send(target, way, number)
        wanted = target.pods[number].address
        if path.packet.destination != wanted:
            raise InputError(f"{way.name}: the simulator sends to {path.packet.destination}, the kernel to {wanted}")
        return path

    def _converse(self, target: _Target, way: Way, number: int) -> None:
        """Send a datagram and answer it."""
        flow = self._send(target, way, number).packet.flow
        answer = Packet(*flow.reversed(), payload_bytes=way.payload_bytes)
        sender = self._deployment.namespace_at(flow.destination)
        socket.send(sender, answer, materialise=self._deployment.materialise)

    def _send(self, target: _Target, way: Way, number: int) -> Path:
        packet = Packet(
            self._client.address, target.address[0], target.protocol, _SOURCE_PORT, target.address[1], way.payload_bytes
        )
        packet.is_opening = way.is_new
        namespace = self._deployment.namespace(self._client)
        materialise = self._deployment.materialise
        chance = Chance((number + 0.5) / len(target.pods), (target.pods[number].address, target.port))
        path = socket.send(namespace, packet, chance=chance, materialise=materialise, receive_call=None)
        if path.reason is not None:
            raise InputError(f"{way.name}: {path.reason}")
        return path


def _add_rules(namespace: Namespace, case: Case) -> None:
    install_ipsets(namespace, read_ipsets(case.sets, case.name).values())
    for line in case.rules:
        parsed = parse_rule(line)
        Table.of(namespace, "filter").chain(parsed.chain).append(parsed.rule)


class _Target:
    """A Service port, whom its datagrams can reach, and which address they are sent to."""

    def __init__(self, deployment: Deployment, name: str) -> None:
        cluster = deployment.cluster
        ports = [(service, port) for _, service, port in cluster.service_ports() if port.protocol in ("tcp", "udp")]
        if not ports:
            raise InputError("the cluster has no Service with a TCP or UDP port to measure")
        places = {"first": 0, "middle": len(ports) // 2, "last": len(ports) - 1}
        if name in places:
            self.service, port = ports[places[name]]
        else:
            wanted: Service = cluster.service(name)
            self.service, port = next(((one, other) for one, other in ports if one == wanted), ports[-1])
        endpoints: Sequence[Endpoint] = sorted(cluster.endpoints(self.service, port), key=str)
        found = [cluster.pod_at(endpoint.address) for endpoint in endpoints]
        self.pods: list[Pod] = [pod for pod in found if pod is not None]
        if not self.pods:
            raise InputError(f"Service {self.service.full_name} has no endpoints to measure")
        self.port = endpoints[0].port
        self.protocol = port.protocol
        if deployment.proxy.is_headless:
            self.pods = self.pods[:1]
            self.address = (self.pods[0].address, self.port)
        else:
            self.address = (str(self.service.cluster_ip), port.port)


def _client(deployment: Deployment, name: str | None) -> Pod:
    """The pod that sends."""
    pods = deployment.cluster.pods
    found = [pod for pod in pods if (name or "client") in (pod.owner, pod.name, pod.full_name)]
    if found:
        return found[0]
    if name is not None:
        return deployment.cluster.pod(name)
    known = ", ".join(dict.fromkeys(pod.owner for pod in pods[:20]))
    raise InputError(f"the scenario does not say which pod sends: give --from: known: {known}")
