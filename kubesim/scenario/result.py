"""What a scenario gave: tables of transactions, packets and hops besides the summary."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from kubesim.scenario.planning import AT_ONCE
from kubesim.scenario.summary import Summarised
from kubesim.scenario.totals import PacketTally, Played, Totals
from kubesim.stats.measures import measurement_window
from kubesim.stats.offered_load import chains
from kubesim.stats.transactions import TransactionTally

if TYPE_CHECKING:
    import numpy.typing as npt

    from kubesim.engine import Trace
    from kubesim.scenario.flow_classes import FlowClasses
    from kubesim.scenario.planning import Planned
    from kubesim.workload import Messages


@dataclass(frozen=True, eq=False, repr=False)
class Result(Summarised):
    """The outcome of one run.

    Parameters
    ----------
    messages, planned, trace
        All messages of the workload, the plan, and what the engine made of it.
    """

    messages: Messages
    planned: Planned
    trace: Trace

    @cached_property
    def transactions(self) -> pd.DataFrame:
        """One row per transaction that was started.

        Columns: ``transaction``, ``flow``, ``client``, ``service``, ``server``, ``start_ns``, ``end_ns`` (−1 if it was
        not completed), ``latency_ns`` (likewise), ``is_complete``, ``is_measured`` (behind the warm-up).
        """
        messages = self.messages
        number, start, end = started(messages, self.planned, self.trace)
        flow = messages.flow[messages.last[number]]  # it may have begun with a look-up of the Service's name
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
                "is_measured": np.where(end >= 0, end, start) > self.window.begin_ns,
            }
        )

    def packets(self) -> pd.DataFrame:
        """One row per packet and visit, made when asked for.

        Columns: ``packet``, ``flow``, ``kind``, ``visit``, ``station``, ``arrive_ns``, ``start_ns``, ``depart_ns``
        (−1 where it did not happen), ``waiting_ns``, ``service_ns``.
        """
        plan, trace = self.planned.plan, self.trace
        packet, visit = np.nonzero(plan.station >= 0)
        message = self.planned.message[packet]
        names = np.array([station.name for station in self.stations.all], object)
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

    def _class_of_packet(self) -> npt.NDArray[np.int64]:
        """Route, kind and opening of each packet that was released, shape (n, 3); −1 in rows of those that were not."""
        message = self.planned.message
        flow, kind = self.messages.flow[message], self.messages.script.kind[message]
        opens = np.array([one.opens_here for one in self.messages.kinds])[kind]
        keys = np.column_stack([self.classes.route[flow], kind, np.where(opens, self.classes.opening[flow], 0)])
        keys[_released_ns(self.trace) < 0] = -1
        return keys


def _released_ns(trace: Trace) -> npt.NDArray[np.int64]:
    """When packets were released, shape (n,), −1 for those that were not."""
    arrive = trace.arrive_ns
    return arrive[:, 0] if arrive.shape[1] else np.full(len(arrive), -1, np.int64)


def started(
    messages: Messages, planned: Planned, trace: Trace
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Numbers of the transactions that were started, when, and when they ended (−1 if not), shape (t,) each."""
    first, last = planned.packet[messages.first], planned.packet[messages.last]
    is_delivered = trace.is_delivered(planned.plan) & ~planned.is_dead_end
    released = np.append(_released_ns(trace), -1)
    delivered_end = np.append(np.where(is_delivered, trace.end_ns(), -1), -1)
    start, end = released[first], delivered_end[last]
    number = np.flatnonzero(start >= 0)
    return number, start[number], end[number]


def totals_of(
    messages: Messages, classes: FlowClasses, planned: Planned, trace: Trace, warmup: float | Literal["mser-5"]
) -> Totals:
    """Count all that was played, so many packets at a time as a processor's cache holds."""
    plan = planned.plan
    number, start, end = started(messages, planned, trace)
    window = measurement_window(start, end, warmup, len(messages.first))
    transactions = TransactionTally(len(messages.first), 0.0, window)
    transactions.add(number, start, number, end)
    arrivals, arrival = chains(plan)
    counted = len(arrivals.release_ns) if arrivals.is_open else 0
    tally = PacketTally(messages, classes, plan.servers, plan.capacity, plan.packets, counted)
    for begin in range(0, plan.packets, AT_ONCE):
        part = slice(begin, begin + AT_ONCE)
        message = planned.message[part]
        played = Played(
            plan.station[part],
            plan.service_ns[part],
            trace.arrive_ns[part],
            trace.start_ns[part],
            trace.depart_ns[part],
            messages.flow[message],
            messages.script.kind[message],
            arrival[part],
        )
        tally.add(played, window.begin_ns, window.end_ns)
    return tally.totals(transactions, arrivals)


def _groups(keys: npt.NDArray[np.int64]) -> list[tuple[tuple[int, int, int], npt.NDArray[np.int64]]]:
    """Positions of each distinct row of keys, without the rows of −1."""
    if not len(keys):
        return []
    distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    starts = np.searchsorted(inverse.ravel()[order], np.arange(len(distinct)))
    parts = np.split(order, starts[1:])
    return [((a, b, c), part) for (a, b, c), part in zip(distinct.tolist(), parts, strict=True) if a >= 0]
