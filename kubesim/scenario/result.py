"""What a scenario gave: tables of transactions, packets and hops, and a summary."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kubesim.scenario.drops import drops
from kubesim.scenario.showing import result_html, titled
from kubesim.scenario.steadiness import notices_of_steadiness
from kubesim.scenario.table_use import conntrack_use, measures, snat_use
from kubesim.scenario.visits import PricedHop, Role
from kubesim.stats.latencies import Latencies, latencies_of
from kubesim.stats.measures import NO_LATENCY, Window, busy_ns, latency_summary, measurement_window
from kubesim.stats.offered_load import OfferedLoad, offered_load
from kubesim.units import BITS_PER_BYTE, NS_PER_S, counted
from kubesim.workload import Part

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.engine import Trace
    from kubesim.scenario.flow_classes import FlowClasses
    from kubesim.scenario.planning import Planned
    from kubesim.scenario.rule_updates import UpdateCost
    from kubesim.scenario.spec import Scenario
    from kubesim.workload import Messages

_RULE_OPERATIONS = ("iptables_rule", "iptables_nft_rule", "nft_rule")
_OFF_CPU = (Role.NIC, Role.WIRE, Role.PORT)


@dataclass(frozen=True, eq=False)
class Result:
    """The outcome of one run.

    Parameters
    ----------
    scenario
        What was run.
    provenance
        Version, scenario, seed and cost set, for every file made of this.
    input_notices
        What a person should know about the input.
    messages, classes, planned, trace
        The workload, the ways of its flows, the plan and what the engine made of it.
    update
        What a change of the cluster makes a node write, where the scenario has one.
    """

    scenario: Scenario
    provenance: dict[str, str]
    input_notices: tuple[str, ...]
    messages: Messages
    classes: FlowClasses
    planned: Planned
    trace: Trace
    update: UpdateCost | None = None

    def __repr__(self) -> str:
        return f"<Result of {titled(self.scenario)}: {counted(self.summary['transactions'], 'transaction')}>"

    def _repr_html_(self) -> str:
        return result_html(self)

    @cached_property
    def notices(self) -> tuple[str, ...]:
        """What a person should know about the input, and about what came out."""
        said = notices_of_steadiness(self.load, self.planned.stations.all, self.window)
        return (*self.input_notices, *said)

    @cached_property
    def load(self) -> OfferedLoad:
        """The load that stations were offered, and which of them could not take it."""
        return offered_load(self.planned.plan, self.trace, self.window)

    @cached_property
    def transactions(self) -> pd.DataFrame:
        """One row per transaction that was started.

        Columns: ``transaction``, ``flow``, ``client``, ``service``, ``server``, ``start_ns``, ``end_ns`` (−1 if it was
        not completed), ``latency_ns`` (likewise), ``is_complete``, ``is_measured`` (behind the warm-up).
        """
        messages = self.messages
        first, last = self.planned.packet[messages.first], self.planned.packet[messages.last]
        released = np.append(self._released_ns, -1)
        delivered_end = np.append(np.where(self._is_delivered, self.trace.end_ns(), -1), -1)
        start, end = released[first], delivered_end[last]
        number = np.flatnonzero(start >= 0)
        start, end = start[number], end[number]
        flow = messages.flow[messages.last[number]]  # it may have begun with a look-up of the Service's name
        window = measurement_window(start, end, self.scenario.warmup)
        servers = np.array([*self.classes.servers, ""], dtype=object)
        return pd.DataFrame(
            {
                "transaction": number,
                "flow": flow,
                "client": np.array([pod.full_name for pod in messages.clients], object)[messages.flows.client[flow]],
                "service": np.array([one.service.port_name(one.port) for one in messages.services], object)[
                    messages.flows.service[flow]
                ],
                "server": servers[self.classes.server[flow]],
                "start_ns": start,
                "end_ns": end,
                "latency_ns": np.where(end >= 0, end - start, -1),
                "is_complete": end >= 0,
                "is_measured": np.where(end >= 0, end, start) > window.begin_ns,
            }
        )

    @cached_property
    def window(self) -> Window:
        """The time that is measured."""
        frame = self.transactions
        return measurement_window(frame["start_ns"].to_numpy(), frame["end_ns"].to_numpy(), self.scenario.warmup)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Numbers about the whole run, behind the warm-up.

        Times are in nanoseconds: latencies of transactions from socket to socket; ``first_packet_ns`` and the like are
        CPU time of one packet on all hosts together. ``cpu_s_per_gbit`` is that of all hosts per Gbit of payload: the
        cores that one Gbit/s keeps busy. ``warmup_transactions`` are left out of all others. ``offered_load`` is that
        of the station which is offered most, as :func:`kubesim.stats.offered_load.offered_load` says: a ratio, which
        may exceed 1. Where a queue grows without end, latencies are NaN; a finite one loses packets instead, see
        ``loss_ratio``.
        """
        frame, window = self.transactions, self.window
        measured = frame[frame["is_measured"]]
        complete = measured[measured["is_complete"]]
        latency = NO_LATENCY if self.load.unstable else latency_summary(self._measured_latency_ns)
        seconds = window.length_ns / NS_PER_S
        ended = len(complete)
        busiest = self.utilisation[self.utilisation["kind"].str.endswith("core")]
        cpu_ns = int(busiest["busy_ns"].sum())
        payload_bits = ended * self.messages.bytes_per_transaction * BITS_PER_BYTE
        return {
            "transactions": len(complete),
            "lost_transactions": len(measured) - len(complete),
            "loss_ratio": 1 - len(complete) / len(measured) if len(measured) else float("nan"),
            "warmup_transactions": window.skipped,
            "duration_ns": window.length_ns,
            "throughput_per_s": ended / seconds,
            "goodput_bit_per_s": payload_bits / seconds,
            "wire_bit_per_s": self._wire_bytes * BITS_PER_BYTE / seconds,
            **{f"latency_{name}_ns": value for name, value in latency.items()},
            **self._packet_costs,
            "cpu_ns_per_transaction": cpu_ns / ended if ended else float("nan"),
            "cpu_s_per_gbit": cpu_ns / payload_bits if payload_bits else float("nan"),
            "busiest_core_utilisation": float(busiest["utilisation"].max()) if len(busiest) else 0.0,
            "offered_load": self.load.highest,
            "dropped_packets": int((self.trace.is_dropped() | self.trace.is_refused()).sum()),
            "refused_flows": sum(self.planned.refusals.values()),
            **self._backlog_measures,
            **self._table_measures,
            **({} if self.update is None else asdict(self.update)),
        }

    @cached_property
    def latencies(self) -> Latencies | None:
        """A small picture of the latencies behind the warm-up; None where the summary has none either."""
        return None if self.load.unstable else latencies_of(self._measured_latency_ns)

    @cached_property
    def _measured_latency_ns(self) -> npt.NDArray[np.int64]:
        frame = self.transactions
        return frame.loc[frame["is_measured"] & frame["is_complete"], "latency_ns"].to_numpy()

    @cached_property
    def drops(self) -> pd.DataFrame:
        """One row per machine and limit that packets met there.

        Columns: ``host``, ``limit`` (the field of the scenario, such as ``hardware.receive_ring``, or ``socket
        buffer``), ``dropped_packets``, which together are those of the summary, and ``first_drop_ns``.
        """
        return drops(self.planned, self.trace)

    @cached_property
    def _backlog_measures(self) -> dict[str, Any]:
        """What the summary says of the backlogs of RPS, where the scenario has it."""
        if not self.scenario.hardware.rps_cores:
            return {}
        frame = self.drops
        at_backlogs = frame.loc[frame["limit"] == "hardware.netdev_max_backlog", "dropped_packets"]
        return {"backlog_dropped_packets": int(at_backlogs.sum())}

    @cached_property
    def conntrack(self) -> pd.DataFrame:
        """How full nodes' conntrack tables were: see :func:`kubesim.scenario.table_use.conntrack_use`."""
        return conntrack_use(self.planned, self.trace)

    @cached_property
    def snat_ports(self) -> pd.DataFrame:
        """How many ports translated sources had: see :func:`kubesim.scenario.table_use.snat_use`."""
        return snat_use(self.planned, self.trace)

    @cached_property
    def _table_measures(self) -> dict[str, Any]:
        """What the summary says of tables, where the scenario limits them."""
        if self.scenario.conntrack is None:
            return {}
        return measures(self.conntrack, "conntrack", "entries") | measures(self.snat_ports, "snat", "ports")

    @cached_property
    def utilisation(self) -> pd.DataFrame:
        """One row per station: ``host``, ``kind``, ``number``, ``busy_ns`` and ``utilisation`` behind the warm-up."""
        plan, stations = self.planned.plan, self.planned.stations.all
        busy = busy_ns(plan.station, self.trace.start_ns, self.trace.depart_ns, len(stations), self.window)
        servers = np.minimum(plan.servers, max(1, plan.packets))
        return pd.DataFrame(
            {
                "host": [station.host for station in stations],
                "kind": [station.kind for station in stations],
                "number": [station.number for station in stations],
                "busy_ns": busy,
                "utilisation": busy / (self.window.length_ns * servers),
            }
        )

    @cached_property
    def breakdown(self) -> pd.DataFrame:
        """Where the time goes: one row per operation, the dearest first.

        Columns: ``operation``, ``calls``, ``items`` (rules, frames …), ``total_ns`` (mean costs of all packets played),
        ``ns_per_transaction``, ``share`` of the CPU time, ``is_cpu`` (false for card, wire and switch).
        """
        totals: dict[tuple[str, bool], list[int]] = {}
        for hops, packets in self._played_hops():
            for one in hops:
                total = totals.setdefault((one.hop.operation, one.role not in _OFF_CPU), [0, 0, 0])
                total[0] += packets * one.hop.buffers
                total[1] += packets * one.hop.total_items
                total[2] += packets * one.cost_ns
        work = self._work_ns()
        if work:
            totals["application", True] = [0, 0, work]
        frame = pd.DataFrame(
            [(operation, *total, is_cpu) for (operation, is_cpu), total in totals.items()],
            columns=["operation", "calls", "items", "total_ns", "is_cpu"],
        )
        started = max(1, len(self.transactions))
        cpu_ns = max(1, int(frame.loc[frame["is_cpu"], "total_ns"].sum()))
        frame["ns_per_transaction"] = frame["total_ns"] / started
        frame["share"] = np.where(frame["is_cpu"], frame["total_ns"] / cpu_ns, np.nan)
        ordered = frame.sort_values(["total_ns", "operation"], ascending=[False, True], ignore_index=True)
        return ordered[["operation", "calls", "items", "total_ns", "ns_per_transaction", "share", "is_cpu"]]

    def packets(self) -> pd.DataFrame:
        """One row per packet and visit, made when asked for.

        Columns: ``packet``, ``flow``, ``kind``, ``visit``, ``station``, ``arrive_ns``, ``start_ns``, ``depart_ns``
        (−1 where it did not happen), ``waiting_ns``, ``service_ns``.
        """
        plan, trace = self.planned.plan, self.trace
        packet, visit = np.nonzero(plan.station >= 0)
        message = self.planned.message[packet]
        names = np.array([station.name for station in self.planned.stations.all], object)
        kinds = np.array([kind.name for kind in self.messages.kinds], object)
        start, depart = trace.start_ns[packet, visit], trace.depart_ns[packet, visit]
        return pd.DataFrame(
            {
                "packet": packet,
                "flow": self.messages.flow[message],
                "kind": kinds[self.messages.script.kind[message]],
                "visit": visit,
                "station": names[plan.station[packet, visit]],
                "arrive_ns": trace.arrive_ns[packet, visit],
                "start_ns": start,
                "depart_ns": depart,
                "waiting_ns": trace.waiting_ns()[packet, visit],
                "service_ns": np.where(depart >= 0, depart - start, -1),
            }
        )

    def hops(self) -> pd.DataFrame:
        """One row per packet and hop, made when asked for.

        Columns: ``packet``, ``flow``, ``kind``, ``node``, ``operation``, ``count``, ``at`` and ``cost_ns``, the mean
        cost of the operation; how long a packet really took is in :meth:`packets`.
        """
        frames = []
        keys = self._class_of_packet()
        for (route, kind, opening), packets in _groups(keys):
            rows = self._hops_of(route, kind, opening)
            frame = pd.DataFrame(
                {
                    "node": [one.hop.host for one in rows],
                    "operation": [one.hop.operation for one in rows],
                    "count": [one.hop.total_items for one in rows],
                    "at": [one.hop.at for one in rows],
                    "cost_ns": [one.cost_ns for one in rows],
                }
            )
            repeated = frame.iloc[np.tile(np.arange(len(rows)), len(packets))].reset_index(drop=True)
            numbers = np.repeat(packets, len(rows))
            repeated.insert(0, "kind", self.messages.kinds[kind].name)
            repeated.insert(0, "flow", self.messages.flow[self.planned.message[numbers]])
            repeated.insert(0, "packet", numbers)
            frames.append(repeated)
        if not frames:
            return pd.DataFrame(columns=["packet", "flow", "kind", "node", "operation", "count", "at", "cost_ns"])
        return pd.concat(frames).sort_values("packet", kind="stable", ignore_index=True)

    @cached_property
    def _released_ns(self) -> npt.NDArray[np.int64]:
        arrive = self.trace.arrive_ns
        return arrive[:, 0] if arrive.shape[1] else np.full(len(arrive), -1, np.int64)

    @cached_property
    def _is_delivered(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.trace.is_delivered(self.planned.plan) & ~self.planned.is_dead_end, np.bool_)

    @cached_property
    def _wire_bytes(self) -> int:
        """Bytes that cards sent within the window, from the time they took at line rate."""
        nic = self.utilisation[self.utilisation["kind"] == "nic"]
        return int(nic["busy_ns"].sum() * self.scenario.hardware.nic_gbit_per_s / BITS_PER_BYTE)

    def _class_of_packet(self) -> npt.NDArray[np.int64]:
        """Route, kind and opening of each packet that was released, shape (n, 3); −1 in rows of those that were not."""
        message = self.planned.message
        flow, kind = self.messages.flow[message], self.messages.script.kind[message]
        opens = np.array([one.opens_here for one in self.messages.kinds])[kind]
        keys = np.column_stack([self.classes.route[flow], kind, np.where(opens, self.classes.opening[flow], 0)])
        keys[self._released_ns < 0] = -1
        return keys

    def _hops_of(self, route: int, kind: int, opening: int) -> list[PricedHop]:
        """All hops of a packet: those of its opening, and of its route as far as its kind stands for it."""
        hops = [*self.classes.openings[opening].hops, *self.classes.routes[route][kind].hops]
        part = self.messages.kinds[kind].part
        if part is Part.WHOLE:
            return hops
        leaves = next((n for n, one in enumerate(hops) if one.role not in (Role.SEND, Role.NIC)), len(hops))
        return hops[:leaves] if part is Part.DEPARTURE else hops[leaves:]

    def _played_hops(self) -> list[tuple[list[PricedHop], int]]:
        """The hops of each class of packets, and how many packets are of it."""
        return [(self._hops_of(*key), len(packets)) for key, packets in _groups(self._class_of_packet())]

    def _work_ns(self) -> int:
        """What applications computed."""
        work = np.array([kind.work_ns for kind in self.messages.kinds], np.int64)
        message = self.planned.message[self._released_ns >= 0]
        return int(work[self.messages.script.kind[message]].sum())

    @cached_property
    def _packet_costs(self) -> dict[str, float]:
        """CPU time and rules of a first packet, of an established one, and of a reply, over all flows."""
        kinds = self.messages.kinds
        opening = next((n for n, kind in enumerate(kinds) if kind.is_opening), None)
        later = next((n for n, kind in enumerate(kinds) if _is_plain(kind) and kind.is_request), None)
        reply = next((n for n, kind in enumerate(kinds) if _is_plain(kind) and not kind.is_request), None)
        found: dict[str, float] = {}
        for name, kind in (("first", opening), ("established", later), ("reply", reply)):
            costs, rules = self._costs_of_kind(kind)
            numbers = latency_summary(costs)
            found[f"{name}_packet_ns"] = numbers["mean"]
            found[f"{name}_packet_p50_ns"], found[f"{name}_packet_p99_ns"] = numbers["p50"], numbers["p99"]
            found[f"{name}_packet_rules"] = float(rules.mean()) if len(rules) else float("nan")
        return found

    def _costs_of_kind(self, kind: int | None) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """CPU time of one packet of a kind, and the rules it meets, for each flow that has one."""
        classes = self.classes
        routes = np.zeros((len(classes.routes), 3), np.int64)
        for number, route in enumerate(classes.routes):
            if kind is not None and kind in route:
                routes[number] = (*_cpu_and_rules(route[kind].hops), 1)
        flows = np.flatnonzero(routes[classes.route, 2])
        totals = routes[classes.route[flows], :2]
        if kind is not None and self.messages.kinds[kind].is_opening:
            openings = np.array([_cpu_and_rules(one.hops) for one in classes.openings], np.int64).reshape(-1, 2)
            totals = totals + openings[classes.opening[flows]]
        return totals[:, 0], totals[:, 1]


def _is_plain(kind: Any) -> bool:
    """Whether a kind of message is neither of a handshake nor of a close, and carries something."""
    return (
        not kind.is_opening
        and kind.send_call is not None
        and kind.payload_bytes > 0
        and not kind.name.startswith("first")
    )


def _cpu_and_rules(hops: tuple[PricedHop, ...]) -> tuple[int, int]:
    cpu = sum(one.cost_ns for one in hops if one.role not in _OFF_CPU)
    return cpu, sum(one.hop.total_items for one in hops if one.hop.operation in _RULE_OPERATIONS)


def _groups(keys: npt.NDArray[np.int64]) -> list[tuple[tuple[int, int, int], npt.NDArray[np.int64]]]:
    """Positions of each distinct row of keys, without the rows of −1."""
    if not len(keys):
        return []
    distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    starts = np.searchsorted(inverse.ravel()[order], np.arange(len(distinct)))
    parts = np.split(order, starts[1:])
    return [((a, b, c), part) for (a, b, c), part in zip(distinct.tolist(), parts, strict=True) if a >= 0]
