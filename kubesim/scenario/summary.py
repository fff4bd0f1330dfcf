"""What a run adds up to: a summary, and the tables that take no packet one by one."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kubesim.scenario.drops import drops
from kubesim.scenario.showing import result_html, titled
from kubesim.scenario.steadiness import notices_of_steadiness
from kubesim.scenario.table_use import measures
from kubesim.scenario.visits import PricedHop, Role
from kubesim.stats.latencies import Latencies, latencies_of
from kubesim.stats.measures import NO_LATENCY, Window, latency_summary
from kubesim.units import BITS_PER_BYTE, NS_PER_S, counted
from kubesim.workload import Part

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.scenario.flow_classes import FlowClasses
    from kubesim.scenario.rule_updates import UpdateCost
    from kubesim.scenario.spec import Scenario
    from kubesim.scenario.stations import Stations
    from kubesim.scenario.totals import Totals
    from kubesim.stats.offered_load import OfferedLoad
    from kubesim.workload import Messages, Sequences

_RULE_OPERATIONS = ("iptables_rule", "iptables_nft_rule", "nft_rule")
_OFF_CPU = (Role.NIC, Role.WIRE, Role.PORT)


@dataclass(frozen=True, eq=False, repr=False)
class Summarised:
    """The outcome of one run, without its packets.

    Parameters
    ----------
    scenario
        What was run.
    provenance
        Version, scenario, seed and cost set, for every file made of this.
    input_notices
        What a person should know about the input.
    messages, classes, stations
        The workload, the ways of its flows, and what served them.
    refusals
        How many connections end where, by the reason.
    totals
        What was counted.
    conntrack, snat_ports
        How full nodes' conntrack tables were, and how many ports translated sources had: see
        :func:`kubesim.scenario.table_use.conntrack_use` and :func:`kubesim.scenario.table_use.snat_use`.
    update
        What a change of the cluster makes a node write, where the scenario has one.
    """

    scenario: Scenario
    provenance: dict[str, str]
    input_notices: tuple[str, ...]
    messages: Messages | Sequences
    classes: FlowClasses
    stations: Stations
    refusals: dict[str, int]
    totals: Totals
    conntrack: pd.DataFrame
    snat_ports: pd.DataFrame
    update: UpdateCost | None

    def __repr__(self) -> str:
        return f"<Result of {titled(self.scenario)}: {counted(self.summary['transactions'], 'transaction')}>"

    def _repr_html_(self) -> str:
        return result_html(self)

    @cached_property
    def notices(self) -> tuple[str, ...]:
        """What a person should know about the input, and about what came out."""
        said = notices_of_steadiness(self.load, self.stations.all, self.window)
        return (*self.input_notices, *said)

    @property
    def load(self) -> OfferedLoad:
        """The load that stations were offered, and which of them could not take it."""
        return self.totals.load

    @property
    def window(self) -> Window:
        """The time that is measured."""
        return self.totals.window

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Numbers about the whole run, behind the warm-up.

        Times are in nanoseconds: latencies of transactions from socket to socket; ``first_packet_ns`` and the like are
        CPU time of one packet on all hosts together. ``cpu_s_per_gbit`` is that of all hosts per Gbit of payload: the
        cores that one Gbit/s keeps busy. ``warmup_transactions`` are left out of all others. ``offered_load`` is that
        of the station which is offered most, as :class:`kubesim.stats.offered_load.LoadTally` says: a ratio, which may
        exceed 1. Where a queue grows without end, latencies are NaN; a finite one loses packets instead, see
        ``loss_ratio``.
        """
        totals, window = self.totals, self.window
        latency = NO_LATENCY if self.load.unstable else latency_summary(totals.latency_ns)
        seconds = window.length_ns / NS_PER_S
        ended, measured = len(totals.latency_ns), len(totals.latency_ns) + totals.lost
        busiest = self.utilisation[self.utilisation["kind"].str.endswith("core")]
        cpu_ns = int(busiest["busy_ns"].sum())
        payload_bits = ended * self.messages.bytes_per_transaction * BITS_PER_BYTE
        return {
            "transactions": ended,
            "lost_transactions": totals.lost,
            "loss_ratio": 1 - ended / measured if measured else float("nan"),
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
            "dropped_packets": int(self.drops["dropped_packets"].sum()),
            "refused_flows": sum(self.refusals.values()),
            **self._backlog_measures,
            **self._table_measures,
            **({} if self.update is None else asdict(self.update)),
        }

    @cached_property
    def latencies(self) -> Latencies | None:
        """A small picture of the latencies behind the warm-up; None where the summary has none either."""
        return None if self.load.unstable else latencies_of(self.totals.latency_ns)

    @cached_property
    def drops(self) -> pd.DataFrame:
        """One row per machine and limit that packets met there.

        Columns: ``host``, ``limit`` (the field of the scenario, such as ``hardware.receive_ring``, or ``socket
        buffer``), ``dropped_packets``, which together are those of the summary, and ``first_drop_ns``.
        """
        return drops(self.stations.all, self.totals, self.conntrack, self.snat_ports)

    @cached_property
    def _backlog_measures(self) -> dict[str, Any]:
        """What the summary says of the backlogs of RPS, where the scenario has it."""
        if not self.scenario.hardware.rps_cores:
            return {}
        frame = self.drops
        at_backlogs = frame.loc[frame["limit"] == "hardware.netdev_max_backlog", "dropped_packets"]
        return {"backlog_dropped_packets": int(at_backlogs.sum())}

    @cached_property
    def _table_measures(self) -> dict[str, Any]:
        """What the summary says of tables, where the scenario limits them."""
        if self.scenario.conntrack is None:
            return {}
        return measures(self.conntrack, "conntrack", "entries") | measures(self.snat_ports, "snat", "ports")

    @cached_property
    def utilisation(self) -> pd.DataFrame:
        """One row per station: ``host``, ``kind``, ``number``, ``busy_ns`` and ``utilisation`` behind the warm-up."""
        stations, busy_ns = self.stations.all, self.totals.busy_ns
        return pd.DataFrame(
            {
                "host": [station.host for station in stations],
                "kind": [station.kind for station in stations],
                "number": [station.number for station in stations],
                "busy_ns": busy_ns,
                "utilisation": busy_ns / (self.window.length_ns * self.totals.servers),
            }
        )

    @cached_property
    def breakdown(self) -> pd.DataFrame:
        """Where the time goes: one row per operation, the dearest first.

        Columns: ``operation``, ``calls``, ``items`` (rules, frames …), ``total_ns`` (mean costs of all packets played),
        ``ns_per_transaction``, ``share`` of the CPU time, ``is_cpu`` (false for card, wire and switch).
        """
        totals: dict[tuple[str, bool], list[int]] = {}
        for key, packets in self.totals.played.items():
            for one in self._hops_of(*key):
                total = totals.setdefault((one.hop.operation, one.role not in _OFF_CPU), [0, 0, 0])
                total[0] += packets * one.hop.buffers
                total[1] += packets * one.hop.total_items
                total[2] += packets * one.cost_ns
        kinds = self.messages.kinds
        work_ns = sum(packets * kinds[kind].work_ns for (_, kind, _), packets in self.totals.played.items())
        if work_ns:
            totals["application", True] = [0, 0, work_ns]
        frame = pd.DataFrame(
            [(operation, *total, is_cpu) for (operation, is_cpu), total in totals.items()],
            columns=["operation", "calls", "items", "total_ns", "is_cpu"],
        )
        started = max(1, self.totals.started)
        cpu_ns = max(1, int(frame.loc[frame["is_cpu"], "total_ns"].sum()))
        frame["ns_per_transaction"] = frame["total_ns"] / started
        frame["share"] = np.where(frame["is_cpu"], frame["total_ns"] / cpu_ns, np.nan)
        ordered = frame.sort_values(["total_ns", "operation"], ascending=[False, True], ignore_index=True)
        return ordered[["operation", "calls", "items", "total_ns", "ns_per_transaction", "share", "is_cpu"]]

    @cached_property
    def _wire_bytes(self) -> int:
        """Bytes that cards sent within the window, from the time they took at line rate."""
        nic = self.utilisation[self.utilisation["kind"] == "nic"]
        return int(nic["busy_ns"].sum() * self.scenario.hardware.nic_gbit_per_s / BITS_PER_BYTE)

    def _hops_of(self, route: int, kind: int, opening: int) -> list[PricedHop]:
        """All hops of a packet: those of its opening, and of its route as far as its kind stands for it."""
        hops = [*self.classes.openings[opening].hops, *self.classes.routes[route][kind].hops]
        part = self.messages.kinds[kind].part
        if part is Part.WHOLE:
            return hops
        leaves = next((n for n, one in enumerate(hops) if one.role not in (Role.SEND, Role.NIC)), len(hops))
        return hops[:leaves] if part is Part.DEPARTURE else hops[leaves:]

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
