"""Runs a scenario."""

from __future__ import annotations

import contextlib
import gc
import sys
from typing import TYPE_CHECKING

from kubesim.cluster import PlannedPod, build_cluster
from kubesim.cni import cni_class
from kubesim.cost import Kind, Number, Operation, load_cost_set
from kubesim.engine import play
from kubesim.errors import InputError
from kubesim.kernel.nic import Nic, Offloads
from kubesim.proxy import proxy_class
from kubesim.scenario.classification import classify
from kubesim.scenario.conntrack_tables import ConntrackLimits, table_size
from kubesim.scenario.deployment import Deployment
from kubesim.scenario.megaflows import draw_cached
from kubesim.scenario.planning import make_plan, notice_of_refusal
from kubesim.scenario.provenance import provenance
from kubesim.scenario.result import Result, totals_of
from kubesim.scenario.rule_updates import UpdateCost, update_cost
from kubesim.scenario.stations import Stations, notice_of_backlog
from kubesim.scenario.summary import Summarised
from kubesim.scenario.table_use import conntrack_use, no_table_use, notice_of_ports, snat_use
from kubesim.scenario.tunnel_ports import draw_known, notice_of_reuse
from kubesim.scenario.visit_planning import VisitPlanner
from kubesim.streams import Streams
from kubesim.units import ns_per_byte
from kubesim.workload import Sequences, WorkloadContext, with_lookups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kubesim.cluster import Cluster, Pod
    from kubesim.cost import CostSet
    from kubesim.scenario.flow_classes import FlowClasses
    from kubesim.scenario.spec import Hardware, Scenario
    from kubesim.scenario.totals import Totals
    from kubesim.workload import Messages


WORTH_IT = 400_000
"""Messages of a run that is worth importing Numba for."""

_WORTH_PARTS = 10_000
"""Messages of a run that is faster in parts than as a whole, where Numba has been imported already."""


def run(scenario: Scenario) -> Result:
    """Simulate a scenario.

    Parameters
    ----------
    scenario
        As :func:`kubesim.load_scenario` reads it.

    Returns
    -------
    Result
        Tables and a summary; the same scenario and version give the same, to the last bit.

    Raises
    ------
    InputError
        If the scenario makes no sense.
    """
    with _collector_paused():
        return _Run(scenario).result()


def summarise(scenario: Scenario, on_progress: Callable[[int, int], None] | None = None) -> Summarised:
    """Simulate a scenario, of which no packet is wanted.

    Long runs are made part by part where that is possible: memory then grows with connections, not with packets.

    Parameters
    ----------
    scenario
        As :func:`kubesim.load_scenario` reads it.
    on_progress
        Called now and then, where it is made part by part, with how many messages have been played, and of how many.

    Returns
    -------
    Summarised
        What :func:`run` adds up to, to the last bit.

    Raises
    ------
    InputError
        If the scenario makes no sense, or has to be held in memory and is too long for that.
    """
    with _collector_paused():
        return _Run(scenario).summary(on_progress)


class _Run:
    """A scenario that has been brought up, with the ways of its flows."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.deployment = deploy(scenario)
        self.costs = costs_of(scenario)
        self.streams = Streams(scenario.seed, scenario.replication)
        clients = _clients(scenario, self.deployment.cluster)
        context = WorkloadContext(self.deployment.cluster, clients, self.streams, self.deployment.segment_bytes)
        self.messages = scenario.traffic.messages(context)
        self.stations = Stations(scenario.hardware, self.costs.price_ns("core_wakeup"))

    def summary(self, on_progress: Callable[[int, int], None] | None) -> Summarised:
        """Made part by part, if that is faster and can be done: what comes out is the same."""
        messages = self.messages
        enough = min(WORTH_IT, _WORTH_PARTS) if "numba" in sys.modules else WORTH_IT
        if not isinstance(messages, Sequences) or len(messages) < enough:
            return self.result()
        from kubesim.scenario import streaming  # noqa: PLC0415 - imports Numba

        if (why := streaming.why_whole(self.scenario)) is not None:
            return self.result(why)
        classes = self._classes(messages)
        planner = VisitPlanner(messages, classes, self.stations, self.streams, streaming.used_keys(messages, classes))
        if (why := streaming.why_ways_are_whole(messages, planner, classes)) is not None:
            return _Run(self.scenario).result(why)
        totals = streaming.play_in_parts(self.scenario, messages, classes, self.stations, planner, on_progress)
        none = no_table_use()
        return Summarised(
            self.scenario,
            provenance(self.scenario),
            self._said(classes, totals, {}),
            messages,
            classes,
            self.stations,
            {},
            totals,
            *none,
            self._update(),
        )

    def result(self, why: str = "its tables are of all packets") -> Result:
        """With all packets, for a reason."""
        scenario, dns = self.scenario, self.scenario.traffic.dns
        messages = self.messages.whole(why)
        if dns is not None:
            messages = with_lookups(messages, dns, self.deployment.cluster)
        classes = self._classes(messages)
        limits = None
        if scenario.conntrack is not None:
            limits = ConntrackLimits.of(scenario.conntrack, scenario.hardware.cores, self.costs)
        planned = make_plan(messages, classes, self.stations, self.streams, limits)
        trace, other_engine = play(scenario.engine, planned.plan)
        totals = totals_of(messages, classes, planned, trace, scenario.warmup)
        more = other_engine, notice_of_ports(messages, planned, trace)
        return Result(
            scenario,
            provenance(scenario),
            self._said(classes, totals, planned.refusals, *more),
            messages,
            classes,
            self.stations,
            planned.refusals,
            totals,
            conntrack_use(planned, trace),
            snat_use(planned, trace),
            self._update(),
            planned,
            trace,
        )

    def _classes(self, messages: Messages | Sequences) -> FlowClasses:
        """The ways of the flows."""
        flows, deployment, streams = len(messages.flows), self.deployment, self.streams
        numbers = streams.generator("endpoint of each flow").random(flows)
        per_s = self.scenario.cluster.background_connections_per_s
        is_known = draw_known(per_s, flows, streams, is_one_flow=deployment.has_one_flow_tunnels)
        is_cached = draw_cached(deployment.upcall_ratio, flows, streams)
        return classify(deployment, self.costs, messages, numbers, is_known, is_cached)

    def _said(
        self, classes: FlowClasses, totals: Totals, refusals: dict[str, int], *more: str | None
    ) -> tuple[str, ...]:
        """What a person should know about the input."""
        is_quiet = self.scenario.cluster.background_connections_per_s is None
        notices = (
            *self.deployment.notices,
            notice_of_reuse(classes, totals.last_ns) if is_quiet else None,
            *more,
            notice_of_backlog(self.scenario.hardware),
            notice_of_refusal(len(classes.route), refusals),
        )
        return tuple(notice for notice in notices if notice is not None)

    def _update(self) -> UpdateCost | None:
        """What the scenario's change makes a node write."""
        scenario = self.scenario
        if scenario.update is None:
            return None
        proxy = proxy_class(scenario.proxy.name)
        cluster = self.deployment.cluster
        return update_cost(scenario.update, cluster, lambda changed: proxy(changed, scenario.proxy), self.costs)


def deploy(scenario: Scenario, card: type[Nic] = Nic) -> Deployment:
    """Bring a scenario's cluster up: its kernel state, without any packet.

    Parameters
    ----------
    scenario
        What to bring up.
    card
        What nodes are joined by.

    Raises
    ------
    InputError
        If the scenario makes no sense.
    """
    traffic = scenario.traffic
    outside = traffic.clients if traffic.is_from_outside else 1
    cluster = build_cluster(scenario.cluster, _client_pods(scenario), traffic.protocol, outside, traffic.objects())
    cni = cni_class(scenario.cni.name)(cluster, scenario.cni, scenario.hardware.mtu)
    cni.pod_mtu = scenario.cni.pod_mtu or cni.pod_mtu
    proxy = proxy_class(scenario.proxy.name)(cluster, scenario.proxy)
    hardware = scenario.hardware
    return Deployment(
        cluster,
        cni,
        proxy,
        scenario.cluster.node_cidr,
        hardware.mtu,
        offloads=Offloads(hardware.has_segmentation_offload, hardware.has_tunnel_offload, hardware.has_receive_offload),
        has_packet_steering=hardware.rps_cores > 0,
        background_connections=scenario.cluster.background_connections,
        has_node_local_dns=traffic.dns is not None and traffic.dns.is_node_local,
        load_balancing=scenario.cluster.load_balancer,
        conntrack=None if scenario.conntrack is None else table_size(scenario.conntrack, hardware.cores),
        card=card,
    )


def costs_of(scenario: Scenario) -> CostSet:
    """The cost set of a scenario, with the prices that follow from its hardware."""
    try:
        found = load_cost_set(scenario.costs)
    except InputError as error:
        raise InputError(f"costs: {error}") from None
    return found.with_operations(_hardware_prices(scenario.hardware))


@contextlib.contextmanager
def _collector_paused() -> Iterator[None]:
    """Do without the cycle collector for a while.

    The rules of ten thousand Services are a million objects and no cycle; searching them for cycles again and again
    takes as long as making them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _client_pods(scenario: Scenario) -> list[PlannedPod]:
    """The pods that are made to send."""
    traffic = scenario.traffic
    if traffic.from_ is not None or traffic.is_from_outside or not traffic.makes_clients:
        return []
    nodes = traffic.clients_on
    return [
        PlannedPod(
            "default", f"client-{number + 1}", "client", node=None if nodes is None else nodes[number % len(nodes)]
        )
        for number in range(traffic.clients)
    ]


def _clients(scenario: Scenario, cluster: Cluster) -> tuple[Pod, ...]:
    """The pods that send."""
    traffic = scenario.traffic
    if traffic.is_from_outside:
        return tuple(host.process for host in cluster.outside)
    if traffic.from_ is None:
        return tuple(pod for pod in cluster.pods if pod.owner == "client" and pod.namespace == "default")
    owned = tuple(pod for pod in cluster.pods if traffic.from_ in (pod.owner, f"{pod.namespace}/{pod.owner}"))
    try:
        return owned or (cluster.pod(traffic.from_),)
    except InputError as error:
        raise InputError(f"traffic.from: {error}") from None


def _hardware_prices(hardware: Hardware) -> dict[str, Operation]:
    """What cards and wires take, as the scenario says."""
    rate = Number(
        value=ns_per_byte(hardware.nic_gbit_per_s),
        kind=Kind.GIVEN,
        source=f"hardware.nic_gbit_per_s: {hardware.nic_gbit_per_s:g}; with frame check, preamble and gap",
    )
    delay = Number(value=hardware.wire_ns, kind=Kind.GIVEN, source=f"hardware.wire_ns: {hardware.wire_ns}")
    none = Number(value=0, kind=Kind.GIVEN, source="a clock")
    line = Operation(what="bits on the line", ns_per_byte=rate, spread=none)
    return {
        "nic_serialise": line,
        "port_serialise": line,
        "wire": Operation(what="from card to card", fixed_ns=delay, spread=none),
    }
