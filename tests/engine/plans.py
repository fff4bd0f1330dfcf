"""Random plans full of ties, drops, loops and wake-ups, and a slow, literal reading of the contract."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from kubesim.engine import NEVER, UNLIMITED, Int64Array, Plan, Tables


@st.composite
def plans(draw: st.DrawFn, loops: bool = True, has_tables: bool = True) -> Plan:
    """Small numbers, so that packets meet at the same instant all the time."""
    packets = draw(st.integers(0, 14))
    stations = draw(st.integers(1, 4))
    visits = draw(st.integers(0, 4))
    small = st.integers(0, 6)
    rows = st.lists(st.integers(0, stations - 1), max_size=visits).map(lambda row: row + [-1] * (visits - len(row)))
    servers = draw(st.lists(st.integers(1, 3), min_size=stations, max_size=stations))
    capacity = [draw(st.one_of(st.just(UNLIMITED), st.integers(count, count + 3))) for count in servers]
    rank = draw(st.permutations(range(packets)))
    after = [NEVER] * packets
    if loops:
        for place, packet in enumerate(rank[1:], start=1):
            after[packet] = draw(st.one_of(st.just(NEVER), st.sampled_from(rank[:place])))

    def times(strategy: st.SearchStrategy[int], length: int) -> list[int]:
        return draw(st.lists(strategy, min_size=length, max_size=length))

    def table(lines: list[list[int]]) -> Int64Array:
        return np.array(lines, np.int64).reshape(packets, visits)

    station = table([draw(rows) for _ in range(packets)])
    return Plan(
        release_ns=np.array(times(small, packets), np.int64),
        station=station,
        service_ns=table([times(st.integers(1, 4), visits) for _ in range(packets)]),
        servers=servers,
        capacity=capacity,
        after=np.array(after, np.int64),
        think_ns=np.array(times(small, packets), np.int64),
        timeout_ns=np.array(times(st.one_of(st.just(NEVER), small), packets), np.int64),
        wake_ns=times(st.sampled_from([0, 0, 2]), stations),
        tables=draw(st.none() | tables(station)) if has_tables else None,
    )


@st.composite
def tables(draw: st.DrawFn, station: Int64Array) -> Tables:
    """Few places, and entries that packets share; each kind of entry is in tables of its own."""
    packets, visits = station.shape
    kinds, of_each, entries = draw(st.integers(0, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 5))

    def numbers(strategy: st.SearchStrategy[int], *shape: int) -> Int64Array:
        length = int(np.prod(shape))
        return np.array(draw(st.lists(strategy, min_size=length, max_size=length)), np.int64).reshape(shape)

    kind = np.arange(kinds)
    entry = numbers(st.integers(-1, entries - 1), packets, visits, kinds)
    return Tables(
        capacity=numbers(st.integers(0, 3), kinds * of_each),
        held=numbers(st.integers(0, 1), kinds * of_each),
        table=np.ravel(numbers(st.integers(0, of_each - 1), kinds, entries) + (kind * of_each)[:, None]),
        entry=np.where((station >= 0)[:, :, None] & (entry >= 0), entry + kind * entries, -1),
        keep_ns=numbers(st.integers(1, 9), packets, kinds),
        refused_ns=numbers(st.integers(1, 3), packets, visits, kinds),
        limit=draw(st.none() | st.just(numbers(st.integers(0, 4), packets, kinds))),
    )


@dataclass
class _Server:
    idle_since: int = -1
    is_busy: bool = False


@dataclass
class ReferenceEngine:
    """The contract word by word, with a server object per server and no thought for speed."""

    plan: Plan
    arrive: dict[tuple[int, int], int] = field(default_factory=dict)
    start: dict[tuple[int, int], int] = field(default_factory=dict)
    depart: dict[tuple[int, int], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plan = self.plan
        self.servers = [[_Server() for _ in range(count)] for count in plan.servers]
        self.queues: list[list[int]] = [[] for _ in plan.servers]
        self.visit = dict.fromkeys(range(plan.packets), -1)
        self.entry_leaves: dict[int, int] = {}
        self.refused: dict[int, tuple[int, int]] = {}
        self.highest = [] if plan.tables is None else plan.tables.held.tolist()
        self.serving: dict[int, _Server] = {}
        self.pending = [(int(plan.release_ns[p]), p) for p in range(plan.packets) if plan.after[p] == NEVER]
        heapq.heapify(self.pending)
        while self.pending:
            now, packet = heapq.heappop(self.pending)
            self._event(packet, now)

    def _event(self, packet: int, now: int) -> None:
        visit = self.visit[packet]
        if visit >= 0:
            self._leave(packet, int(self.plan.station[packet, visit]), now)
        visit = self.visit[packet] = visit + 1
        row = self.plan.station[packet]
        if packet in self.refused:
            self._end(packet, now, lost=True)
        elif visit == len(row) or row[visit] < 0:
            self._end(packet, now, lost=False)
        else:
            self._join(packet, int(row[visit]), now)

    def _leave(self, packet: int, station: int, now: int) -> None:
        server = self.serving.pop(packet)
        if self.queues[station]:
            self._serve(self.queues[station].pop(0), server, now)
        else:
            server.is_busy = False
            server.idle_since = now

    def _join(self, packet: int, station: int, now: int) -> None:
        self.arrive[packet, self.visit[packet]] = now
        free = [server for server in self.servers[station] if not server.is_busy]
        inside = len(self.servers[station]) - len(free) + len(self.queues[station])
        has_room = free or self.plan.capacity[station] == UNLIMITED or inside < self.plan.capacity[station]
        if has_room and self.plan.tables is not None:
            self._ask_for_entries(self.plan.tables, packet, self.visit[packet], now)
        if free:
            awake = [server for server in free if server.idle_since == now]
            self._serve(packet, (awake or free)[0], now + (0 if awake else int(self.plan.wake_ns[station])))
        elif has_room:
            self.queues[station].append(packet)
        else:
            self._end(packet, now, lost=True)

    def _ask_for_entries(self, tables: Tables, packet: int, visit: int, now: int) -> None:
        """Refuse the packet, or note what it has now: tries it on a copy, and looks at all entries there are."""
        leaves = {one: leaves for one, leaves in self.entry_leaves.items() if leaves > now}
        highest = list(self.highest)
        for kind, entry in enumerate(tables.entry[packet, visit].tolist()):
            if entry < 0:
                continue
            table = tables.table[entry]
            taken = int(tables.held[table]) + sum(tables.table[one] == table for one in leaves)
            if entry not in leaves:
                if taken >= tables.capacity[table] or taken >= tables.limit[packet, kind]:
                    self.refused[packet] = visit, kind
                    return
                highest[table] = max(highest[table], taken + 1)
            leaves[entry] = now + int(tables.keep_ns[packet, kind])
        self.entry_leaves, self.highest = leaves, highest

    def _serve(self, packet: int, server: _Server, start: int) -> None:
        visit = self.visit[packet]
        service = self.plan.service_ns[packet, visit]
        if packet in self.refused and self.plan.tables is not None:
            service = self.plan.tables.refused_ns[packet, visit, self.refused[packet][1]]
        end = start + int(service)
        self.start[packet, visit], self.depart[packet, visit] = start, end
        server.is_busy = True
        self.serving[packet] = server
        heapq.heappush(self.pending, (end, packet))

    def _end(self, packet: int, now: int, lost: bool) -> None:
        for follower in np.flatnonzero(self.plan.after == packet).tolist():
            delay = int(self.plan.timeout_ns[follower] if lost else self.plan.think_ns[follower])
            if delay == NEVER:
                self._end(follower, now, lost=True)
            else:
                heapq.heappush(self.pending, (max(now + delay, int(self.plan.release_ns[follower])), follower))

    def refusals(self) -> tuple[list[int], list[int]]:
        """At which visit each packet was refused, and for which entry; −1 for those that were not."""
        packets, tables = range(self.plan.packets), self.plan.tables
        found = [(self.refused[one][0] if one in self.refused else -1) for one in packets]
        if tables is None:
            return found, found
        return found, [int(tables.entry[one, *self.refused[one]]) if one in self.refused else -1 for one in packets]

    def times(self, which: str) -> list[list[int]]:
        """One of the three arrays of a trace."""
        found: dict[tuple[int, int], int] = getattr(self, which)
        return [[found.get((p, v), -1) for v in range(self.plan.visits)] for p in range(self.plan.packets)]


def busy_plan(random: np.random.Generator, packets: int, grain_ns: int, *, has_tables: bool = True) -> Plan:
    """A plan in which about everything there is happens all the time; the coarser its times, the more at once."""
    stations, visits, kinds, entries = 6, 5, 2, max(4, packets // 10)

    def times(least: int, most_ns: int, *shape: int) -> Int64Array:
        return random.integers(least, max(most_ns // grain_ns, least + 1), shape) * grain_ns

    station = random.integers(0, stations, (packets, visits))
    station[np.arange(visits) >= random.integers(0, visits + 1, packets)[:, None]] = -1
    servers = random.integers(1, 4, stations)
    before = (np.arange(packets) * random.random(packets)).astype(np.int64)
    is_follower = (random.random(packets) < 0.4) & (np.arange(packets) > 0)
    entry = random.integers(0, entries, (packets, visits, kinds)) + np.arange(kinds) * entries
    entry[(random.random(entry.shape) < 0.7) | (station < 0)[:, :, None]] = -1
    places = 2 + entries // 10
    return Plan(
        release_ns=times(0, 3 * packets, packets),
        station=station,
        service_ns=times(1, 60, packets, visits),
        servers=servers,
        capacity=np.where(random.random(stations) < 0.3, UNLIMITED, servers + random.integers(0, 12, stations)),
        after=np.where(is_follower, before, NEVER),
        think_ns=times(0, 100, packets),
        timeout_ns=np.where(random.random(packets) < 0.3, NEVER, times(0, 100, packets)),
        wake_ns=times(0, 40, stations),
        tables=None
        if not has_tables
        else Tables(
            capacity=random.integers(places // 2, places, 2 * kinds),
            held=random.integers(0, 2, 2 * kinds),
            table=np.ravel(random.integers(0, 2, (kinds, entries)) + 2 * np.arange(kinds)[:, None]),
            entry=entry,
            keep_ns=times(1, 2000, packets, kinds),
            refused_ns=times(1, 40, packets, visits, kinds),
            limit=random.integers(places // 2, 2 * places, (packets, kinds)),
        ),
    )
