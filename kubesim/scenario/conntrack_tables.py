"""Nodes' conntrack tables as packets play: which packets need an entry where, and what becomes of those that get none.

A connection has an entry on each node where conntrack looks at its packets. Each packet sets the entry's time anew, by
the state that TCP is in (``nf_conntrack_tcp_timeouts``) or as UDP has it; after it the place is free. A packet whose
connection has no entry and that finds no place is dropped, when its core has looked for one in vain.

Entries here are taken to be assured, as TCP's are a round trip after their connection was opened, so that none makes
room for another. Entries of the outer packets of tunnels are left out: those of UDP are never assured, so that they
are the ones that make room, and IPIP has one for each pair of nodes. The kernel's own cleaning of a full table
(``gc_worker``), which ends closing connections early once a minute at the most while the table is more than 95 % full,
is left out too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from kubesim.engine import Tables
from kubesim.kernel.netfilter.conntrack import BUCKETS, BUCKETS_SEARCHED, UDP_TIMEOUT_S
from kubesim.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from kubesim.cost import CostSet
    from kubesim.scenario.flow_classes import FlowClasses
    from kubesim.scenario.visits import Visit
    from kubesim.workload import MessageKind, Messages

_LEAST_ENTRIES, _ENTRIES_PER_CORE = 131_072, 32_768
_SMALLEST_TABLE = 64  # what one connection needs on its way must fit in any table


class ConntrackSpec(BaseModel):
    """The conntrack table of each node, of limited size."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_entries: int | None = Field(
        default=None,
        ge=_SMALLEST_TABLE,
        le=1 << 31,
        description="nf_conntrack_max; by default what kube-proxy sets: 32768 per core, at least 131072",
    )
    held_entries: int = Field(
        default=0, ge=0, le=1 << 31, description="entries of other connections, which stay and are not dropped early"
    )
    tcp_syn_s: float = Field(default=120, ge=0.001, le=1e6, description="time of an entry after the SYN")
    tcp_established_s: float = Field(
        default=86_400, ge=0.001, le=1e6, description="the same after any other packet; kube-proxy sets a day"
    )
    tcp_time_wait_s: float = Field(default=120, ge=0.001, le=1e6, description="the same after a FIN and its answers")
    udp_s: float = Field(default=UDP_TIMEOUT_S, ge=0.001, le=1e6, description="the same after a datagram")


class TableSize(NamedTuple):
    """How many entries a node's table may have, and how many others have."""

    capacity: int
    held: int


def table_size(spec: ConntrackSpec, cores: int) -> TableSize:
    """The size of a node's table.

    >>> table_size(ConntrackSpec(held_entries=5), cores=8)
    TableSize(capacity=262144, held=5)
    """
    return TableSize(spec.max_entries or max(_LEAST_ENTRIES, _ENTRIES_PER_CORE * cores), spec.held_entries)


@dataclass(frozen=True)
class ConntrackLimits:
    """What the plan has to know.

    Parameters
    ----------
    spec
        As the scenario says.
    size
        Of each table.
    search_ns
        What the search for an entry that could go takes in a full table.
    """

    spec: ConntrackSpec
    size: TableSize
    search_ns: int

    @classmethod
    def of(cls, spec: ConntrackSpec, cores: int, costs: CostSet) -> ConntrackLimits:
        """The limits of nodes with so many cores."""
        size = table_size(spec, cores)
        met = BUCKETS_SEARCHED * 2 * size.capacity // BUCKETS
        return cls(spec, size, costs.price_ns("conntrack_early_drop", items=met))

    def keep_ns(self, messages: Messages) -> npt.NDArray[np.int64]:
        """How long an entry stays after each message, shape (n,)."""
        spec, by_kind = self.spec, []
        for kind in messages.kinds:
            after_s = spec.tcp_syn_s if kind.is_opening else spec.tcp_established_s
            after_s = spec.tcp_time_wait_s if kind.is_closing else after_s
            by_kind.append(round(after_s * NS_PER_S))
        is_udp = np.array([one.port.protocol == "udp" for one in messages.services])
        of_udp = is_udp[messages.flows.service[messages.flow]]
        return np.where(of_udp, round(spec.udp_s * NS_PER_S), np.array(by_kind, np.int64)[messages.script.kind])


class PlannedTables(NamedTuple):
    """Tables for the engine, and whose they are.

    Parameters
    ----------
    tables
        For all messages.
    hosts
        The node of each table.
    """

    tables: Tables
    hosts: tuple[str, ...]


Groups = list[tuple[tuple[int, int], "npt.NDArray[np.int64]"]]
"""Messages by their route and kind."""


class TablePlanner:
    """Fills the columns of tables, route by route and kind by kind.

    Parameters
    ----------
    limits
        Of each node.
    messages, classes
        What is sent, and which way.
    """

    def __init__(self, limits: ConntrackLimits, messages: Messages, classes: FlowClasses) -> None:
        self._limits = limits
        self._messages = messages
        self._classes = classes
        self._hosts: dict[str, int] = {}
        lookups = [opening.lookup for opening in classes.openings]
        self._opening_host = np.array([-1 if one is None else self._host(one.host) for one in lookups], np.int64)
        self._opening_ns = np.array([0 if one is None else one.until_ns for one in lookups], np.int64)
        self._opening_mean_ns = np.array([opening.mean_ns for opening in classes.openings], np.int64)

    def plan(
        self,
        groups: Groups,
        ways: Mapping[tuple[int, int], Sequence[Visit]],
        mean_ns: npt.NDArray[np.float64],
        service_ns: npt.NDArray[np.int64],
    ) -> PlannedTables:
        """Do it, for all messages, whose services take ``service_ns`` and on average ``mean_ns``, shape (n, visits)."""
        host = np.full(service_ns.shape, -1, np.int64)
        until_ns = np.zeros(service_ns.shape)
        for key, rows in groups:
            self._add_way(ways.get(key, ()), self._messages.kinds[key[1]], rows, host, until_ns)
        rows, columns = np.nonzero(host >= 0)
        keys = self._messages.flow[rows] * max(1, len(self._hosts)) + host[rows, columns]
        distinct, number = np.unique(keys, return_inverse=True)
        entry = np.full(service_ns.shape, -1, np.int64)
        entry[rows, columns] = number
        share = np.divide(until_ns + self._limits.search_ns, mean_ns, out=np.ones_like(mean_ns), where=mean_ns > 0)
        size, hosts = self._limits.size, len(self._hosts)
        tables = Tables(
            capacity=[size.capacity] * hosts,
            held=[size.held] * hosts,
            table=distinct % max(1, hosts),
            entry=entry,
            keep_ns=self._limits.keep_ns(self._messages),
            refused_ns=np.maximum(np.rint(service_ns * share), 1).astype(np.int64),
        )
        return PlannedTables(tables, tuple(self._hosts))

    def _host(self, name: str) -> int:
        return self._hosts.setdefault(name, len(self._hosts))

    def _add_way(
        self,
        way: Sequence[Visit],
        kind: MessageKind,
        rows: npt.NDArray[np.int64],
        host: npt.NDArray[np.int64],
        until_ns: npt.NDArray[np.float64],
    ) -> None:
        """Note at which visits packets of one way need an entry: each time conntrack is the first on its host to look.

        What the application computes, and a first packet's opening, are parts of the first visit.
        """
        if not way:
            return
        seen: set[int] = set()
        before_ns = np.full(len(rows), kind.work_ns, np.int64)
        if kind.opens_here:
            opening = self._classes.opening[self._messages.flow[rows]]
            host[rows, 0], until_ns[rows, 0] = self._opening_host[opening], before_ns + self._opening_ns[opening]
            seen = set(np.unique(self._opening_host[opening]).tolist())
            before_ns += self._opening_mean_ns[opening]
        for column, visit in enumerate(way):
            if visit.lookup_ns is not None and self._host(visit.host) not in seen:
                seen.add(self._host(visit.host))
                host[rows, column] = self._host(visit.host)
                until_ns[rows, column] = visit.lookup_ns + (before_ns if column == 0 else 0)
