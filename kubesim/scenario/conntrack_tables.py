"""Nodes' conntrack tables and translated ports as packets play: who needs an entry where, and what if there is none.

A connection has an entry on each node where conntrack looks at its packets. Each packet sets the entry's time anew, by
the state that TCP is in (``nf_conntrack_tcp_timeouts``) or as UDP has it; after it the place is free. A packet whose
connection has no entry and that finds no place is dropped, when its core has looked for one in vain.

Entries here are taken to be assured, as TCP's are a round trip after their connection was opened, so that none makes
room for another. Entries of the outer packets of tunnels are left out: those of UDP are never assured, so that they
are the ones that make room, and IPIP has one for each pair of nodes. The kernel's own cleaning of a full table
(``gc_worker``), which ends closing connections early once a minute at the most while the table is more than 95 % full,
is left out too.

Where a node gives a connection another source (SNAT, MASQUERADE), it needs a port as well, which no other connection
has that the node sends from the same address to the same address, port and protocol. A port is taken for as long as
the entry. Linux tries 248 ports and then drops the packet, so that connections fail before the last port is taken:
with a share u of them in use, by u^248 where those are spread evenly. Searches go on from port to port, so that taken
ports clump, and really somewhat more fail (trying it, where ports come back in the order in which they were taken: 1 %
in place of 0 at u = 0.95, 16 % in place of 8 % at 0.99, 78 % at 0.999 either way). Who finds no port pays for its
whole search; what others try in vain, u/(1 − u) ports or more, is left out. So are ports that a node's own processes
use towards the same destination, and those of translations that nf_nat does not make (Cilium's, Open vSwitch's).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from kubesim.engine import Int64Array, Tables
from kubesim.kernel.netfilter.conntrack import BUCKETS, BUCKETS_SEARCHED, UDP_TIMEOUT_S
from kubesim.kernel.netfilter.nat import LONGEST_WINDOW, PORTS_TRIED, SOURCE_PORTS
from kubesim.units import NS_PER_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from kubesim.cost import CostSet
    from kubesim.scenario.flow_classes import FlowClasses, SourceNat
    from kubesim.scenario.visits import Visit
    from kubesim.streams import Streams
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
    snat_ports: int = Field(
        default=SOURCE_PORTS,
        ge=1,
        le=SOURCE_PORTS,
        description="ports for connections that a node gives one source address, to one destination",
    )
    held_snat_ports: int = Field(
        default=0, ge=0, description="how many of them other connections have, for each destination"
    )
    snat_time_wait_s: float | None = Field(
        default=None,
        ge=0.001,
        le=1e6,
        description="time for which the port of a closed TCP connection is taken; by default tcp_time_wait_s, as up to "
        "Linux 6.2; later ones give it to whom finds no other: say 1",
    )

    @field_validator("held_snat_ports")
    @classmethod
    def _are_there(cls, held: int, info: ValidationInfo) -> int:
        ports = info.data.get("snat_ports")
        if ports is not None and held > ports:
            raise ValueError(f"others cannot have {held} of {ports} ports")
        return held


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
    port_search_ns
        What the search for a port takes that finds none.
    """

    spec: ConntrackSpec
    size: TableSize
    search_ns: int
    port_search_ns: int

    @classmethod
    def of(cls, spec: ConntrackSpec, cores: int, costs: CostSet) -> ConntrackLimits:
        """The limits of nodes with so many cores."""
        size = table_size(spec, cores)
        met = BUCKETS_SEARCHED * 2 * size.capacity // BUCKETS
        search_ns = costs.price_ns("conntrack_early_drop", items=met)
        return cls(spec, size, search_ns, costs.price_ns("nat_port_search", items=PORTS_TRIED))

    def keep_ns(self, messages: Messages) -> Int64Array:
        """How long an entry, and a port, stays after each message, shape (n, 2)."""
        spec = self.spec
        port_time_wait_s = spec.tcp_time_wait_s if spec.snat_time_wait_s is None else spec.snat_time_wait_s
        by_kind = []
        for kind in messages.kinds:
            after_s = spec.tcp_syn_s if kind.is_opening else spec.tcp_established_s
            both_s = (spec.tcp_time_wait_s, port_time_wait_s) if kind.is_closing else (after_s, after_s)
            by_kind.append([round(one_s * NS_PER_S) for one_s in both_s])
        is_udp = np.array([one.port.protocol == "udp" for one in messages.services])
        of_udp = is_udp[messages.flows.service[messages.flow]]
        of_tcp = np.array(by_kind, np.int64)[messages.script.kind]
        return np.where(of_udp[:, None], round(spec.udp_s * NS_PER_S), of_tcp)

    def port_limit(self, luck: npt.NDArray[np.float64]) -> Int64Array:
        """How many taken ports are too many for searches that have a luck in [0, 1), shape as given.

        A search fails where ``u^248`` is above its luck. A range that is no longer than a window is tried in full.
        """
        ports = self.spec.snat_ports
        if ports <= LONGEST_WINDOW:
            return np.full(luck.shape, ports, np.int64)
        return np.asarray(np.floor(ports * luck ** (1 / PORTS_TRIED)) + 1, np.int64)


class PlannedTables(NamedTuple):
    """Tables for the engine, and whose they are.

    Parameters
    ----------
    tables
        For all messages.
    hosts
        The node of each of the first tables, which are conntrack's.
    ports
        Whose ports the others are, each with its destination.
    """

    tables: Tables
    hosts: tuple[str, ...]
    ports: tuple[SourceNat, ...]


Groups = list[tuple[tuple[int, int], "npt.NDArray[np.int64]"]]
"""Messages by their route and kind."""


class _Needs:
    """Which messages need an entry of one kind, at which visit.

    Parameters
    ----------
    shape
        (n, visits)
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.table = np.full(shape, -1, np.int64)
        """Number of the table, −1 where none is needed."""
        self.until_ns = np.zeros(shape)
        """What the packet has cost on average when the entry is found to be missing."""

    def entries(self, flow: Int64Array) -> tuple[Int64Array, Int64Array]:
        """The table of each entry, shape (e,), and which entry is needed where, shape (n, visits).

        A flow has one entry in a table.
        """
        rows, columns = np.nonzero(self.table >= 0)
        count = int(self.table.max(initial=0)) + 1
        distinct, number = np.unique(flow[rows] * count + self.table[rows, columns], return_inverse=True)
        entry = np.full(self.table.shape, -1, np.int64)
        entry[rows, columns] = number
        return distinct % count, entry


class TablePlanner:
    """Fills the columns of tables, route by route and kind by kind.

    Parameters
    ----------
    limits
        Of each node.
    messages, classes
        What is sent, and which way.
    streams
        Random numbers for searches.
    """

    def __init__(self, limits: ConntrackLimits, messages: Messages, classes: FlowClasses, streams: Streams) -> None:
        self._limits = limits
        self._messages = messages
        self._classes = classes
        self._luck = streams.generator("searches for translated ports").random(len(messages))
        self._hosts: dict[str, int] = {}
        self._ports: dict[SourceNat, int] = {}
        lookups = [opening.lookup for opening in classes.openings]
        self._opening_host = np.array([-1 if one is None else self._host(one.host) for one in lookups], np.int64)
        self._opening_ns = np.array([0 if one is None else one.until_ns for one in lookups], np.int64)
        self._opening_mean_ns = np.array([opening.mean_ns for opening in classes.openings], np.int64)

    def plan(
        self,
        groups: Groups,
        ways: Mapping[tuple[int, int], Sequence[Visit]],
        mean_ns: npt.NDArray[np.float64],
        service_ns: Int64Array,
    ) -> PlannedTables:
        """Do it, for all messages, whose services take ``service_ns`` and on average ``mean_ns``, shape (n, visits)."""
        tracked, translated = _Needs(mean_ns.shape), _Needs(mean_ns.shape)
        for key, rows in groups:
            way, kind = ways.get(key, ()), self._messages.kinds[key[1]]
            if way:
                self._add_way(way, kind, rows, tracked)
                for nat in self._classes.source_nats[key[0]]:
                    self._add_ports(nat, way, kind, rows, tracked, translated)
        tables = self._tables((tracked, translated) if self._ports else (tracked,), mean_ns, service_ns)
        return PlannedTables(tables, tuple(self._hosts), tuple(self._ports))

    def _tables(self, needs: tuple[_Needs, ...], mean_ns: npt.NDArray[np.float64], service_ns: Int64Array) -> Tables:
        """Put the kinds of entries side by side."""
        limits, spec, kinds = self._limits, self._limits.spec, len(needs)
        table, entry, refused_ns, first_entry, first_table = [], [], [], 0, 0
        for one, search_ns in zip(needs, (limits.search_ns, limits.port_search_ns), strict=False):
            tables, entries = one.entries(self._messages.flow)
            table.append(tables + first_table)
            entry.append(np.where(entries >= 0, entries + first_entry, -1))
            share = np.divide(one.until_ns + search_ns, mean_ns, out=np.ones_like(mean_ns), where=mean_ns > 0)
            refused_ns.append(np.maximum(np.rint(service_ns * share), 1).astype(np.int64))
            first_entry, first_table = first_entry + len(tables), len(self._hosts)
        counts = len(self._hosts), len(self._ports)
        always = np.full(self._luck.shape, limits.size.capacity, np.int64)
        return Tables(
            capacity=np.repeat([limits.size.capacity, spec.snat_ports], counts),
            held=np.repeat([limits.size.held, spec.held_snat_ports], counts),
            table=np.concatenate(table),
            entry=np.stack(entry, axis=2),
            keep_ns=limits.keep_ns(self._messages)[:, :kinds],
            refused_ns=np.stack(refused_ns, axis=2),
            limit=np.stack([always, limits.port_limit(self._luck)], axis=1)[:, :kinds],
        )

    def _host(self, name: str) -> int:
        return self._hosts.setdefault(name, len(self._hosts))

    def _before_ns(self, kind: MessageKind, rows: Int64Array) -> Int64Array:
        """What is done in the first visit of some messages before their route begins."""
        before_ns = np.full(len(rows), kind.work_ns, np.int64)
        if kind.opens_here:
            before_ns += self._opening_mean_ns[self._classes.opening[self._messages.flow[rows]]]
        return before_ns

    def _add_way(self, way: Sequence[Visit], kind: MessageKind, rows: Int64Array, needs: _Needs) -> None:
        """Note at which visits packets of one way need an entry: each time conntrack is the first on its host to look.

        What the application computes, and a first packet's opening, are parts of the first visit.
        """
        seen: set[int] = set()
        if kind.opens_here:
            opening = self._classes.opening[self._messages.flow[rows]]
            needs.table[rows, 0] = self._opening_host[opening]
            needs.until_ns[rows, 0] = kind.work_ns + self._opening_ns[opening]
            seen = set(np.unique(self._opening_host[opening]).tolist())
        for column, visit in enumerate(way):
            if visit.lookup_ns is not None and self._host(visit.host) not in seen:
                seen.add(self._host(visit.host))
                needs.table[rows, column] = self._host(visit.host)
                needs.until_ns[rows, column] = visit.lookup_ns + (self._before_ns(kind, rows) if column == 0 else 0)

    def _add_ports(
        self,
        nat: SourceNat,
        way: Sequence[Visit],
        kind: MessageKind,
        rows: Int64Array,
        tracked: _Needs,
        translated: _Needs,
    ) -> None:
        """Note that packets of one way need a port on a host: with the entry that they need there.

        A new connection that finds none is dropped when its entry would be put into the table.
        """
        table = self._port_tables(nat, rows)
        for column, visit in enumerate(way):
            is_here = tracked.table[rows, column] == self._hosts.get(nat.host, -1)
            here = rows[is_here]
            translated.table[here, column] = table[is_here]
            translated.until_ns[here, column] = tracked.until_ns[here, column]
            if visit.host == nat.host and visit.confirm_ns is not None:
                before_ns = self._before_ns(kind, here) if column == 0 else 0
                translated.until_ns[here, column] = visit.confirm_ns + before_ns

    def _port_tables(self, nat: SourceNat, rows: Int64Array) -> Int64Array:
        """Which ports some messages need, of one way where a source is translated."""
        endpoints, number = np.unique(self._classes.endpoint[self._messages.flow[rows]], return_inverse=True)
        found = []
        for endpoint in endpoints.tolist():
            ports = nat._replace(destination=nat.destination or self._classes.endpoints[endpoint])
            found.append(self._ports.setdefault(ports, len(self._ports)))
        return np.array(found, np.int64)[number]
