"""The fast engine: one loop over arrays of integers, compiled by Numba.

What the SimPy engine keeps in objects is kept in rows of arrays here: pending events in a binary heap, queues as lists
linked by packet number, the entries of tables in a heap that knows the place of each. Without Numba the same functions
run as plain Python, slowly; ``NUMBA_DISABLE_JIT=1`` does that too, for a debugger. Compiled code is kept on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from kubesim.engine.integers import Int64Array, too_late
from kubesim.engine.plan import NEVER, UNLIMITED, Plan
from kubesim.engine.tables import NO_ENTRY, Tables
from kubesim.engine.trace import Trace
from kubesim.errors import PlanError

try:
    import numba

    _njit: Callable[..., Any] | None = numba.njit
except ImportError:
    _njit = None

IS_COMPILED = _njit is not None
"""Whether Numba is there."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _jit(function: _Function, *, is_inlined: bool = False) -> _Function:
    """Compile a function on its first call, and keep the result where there is a directory for it.

    None of them makes an array or keeps one, so Numba need not count references to those it is given (``_nrt``);
    counting takes several times as long as the work.
    """
    if _njit is None:
        return function
    options = {"_nrt": False, "forceinline": is_inlined}
    try:
        compiled: _Function = _njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's directory nor one of the user's can be written to
        compiled = _njit(**options)(function)
    return compiled


def _inlined(function: _Function) -> _Function:
    """Compile a function into those that call it: handing over arrays takes longer than a short one."""
    return _jit(function, is_inlined=True)


# Columns of `packets`: the visit it makes, −1 before it is released; who stands behind it in its queue, when it was
# released; where a table refused it, for which of the entries that it needs there, and how long it is served then, 0 if
# it was not refused; and whether it is held: the loop stops before it is released.
VISIT, BEHIND, RELEASED_NS, _REFUSED_VISIT, _REFUSED_PLACE, REFUSED_NS, HELD = range(7)

ENDED = 1 << 40
"""In the place of the visit: its way is over, or it was never sent and never will be."""

# Columns of `loops`, by packet: when it may be released at the earliest, how long after the end, or the loss, of the
# packet before; the first of those that its own end releases, and the next one that is released with it.
_EARLIEST_NS, _THINK_NS, _TIMEOUT_NS, _FIRST_FOLLOWER, _NEXT_FOLLOWER = range(5)

# Columns of `stations`: idle servers, how long they take to wake up, who became idle last and how many of them are
# awake at that instant; the queue's ends, its length and its places.
_IDLE, _WAKE_NS, _WARM_AT_NS, _WARM, FIRST, LAST, _WAITING, _PLACES = range(8)

# Columns of `events`, a binary heap: its root is in row 1, and row 0 holds how many there are, and 1 while the first
# happens: then it waits to be replaced, which is half the work of taking it out and putting another in.
DUE_NS, PACKET = range(2)

# Columns of `entries`: the table, when it leaves, −1 if it is not in there; when that is looked at, and where it is in
# `leaving`, a binary heap of entries by that time with their number in front. An entry that is to leave later than
# thought stays where it is, and is put back when its earlier time has come.
_TABLE, _LEAVES_NS, _LOOKED_AT_NS, _PLACE = range(4)

# Columns of `tables`.
_CAPACITY, _TAKEN, _HIGHEST = range(3)


FOR_EVER_NS = np.iinfo(np.int64).max
"""As the end of a game: whenever nothing is left to happen."""


class Arrays(NamedTuple):
    """What :func:`play` works on: the plan's own arrays, and rows of what changes."""

    planned: Int64Array
    release_ns: Int64Array
    station: Int64Array
    service_ns: Int64Array
    entry: Int64Array
    keep_ns: Int64Array
    refused_ns: Int64Array
    limit: Int64Array
    depart_ns: Int64Array
    packets: Int64Array
    loops: Int64Array
    stations: Int64Array
    events: Int64Array
    entries: Int64Array
    leaving: Int64Array
    tables: Int64Array


def simulate(plan: Plan) -> Trace:
    """Play ``plan`` with compiled code.

    Parameters
    ----------
    plan
        Any plan whose times are small enough for 64 bits: nothing here tells when they overflow.

    Returns
    -------
    Trace
        Times of the same shape as ``plan.station``.

    Raises
    ------
    PlanError
        If times may become too large.
    """
    why_not = too_late(plan.latest_ns())
    if why_not is not None:
        raise PlanError(f"plan: {why_not}")
    arrays = arrays_of(plan)
    play(*arrays, until_ns=FOR_EVER_NS)
    released_ns, visit, place = arrays.packets[:, [RELEASED_NS, _REFUSED_VISIT, _REFUSED_PLACE]].T.copy()
    return Trace.of_departures(plan, released_ns, arrays.depart_ns, visit, place, arrays.tables[:, _HIGHEST].copy())


def arrays_of(plan: Plan) -> Arrays:
    """Put a plan into the arrays that :func:`play` works on, as they are before the first event."""
    planned = np.flatnonzero(plan.after == NEVER)
    tables = Tables.without_entries(plan.packets, plan.visits) if plan.tables is None else plan.tables
    packets = np.full((plan.packets, 7), -1)
    packets[:, [REFUSED_NS, HELD]] = 0
    return Arrays(
        planned=planned[np.argsort(plan.release_ns[planned], kind="stable")],
        release_ns=plan.release_ns,
        station=plan.station,
        service_ns=plan.service_ns,
        entry=tables.entry,
        keep_ns=tables.keep_ns,
        refused_ns=tables.refused_ns,
        limit=tables.limit,
        depart_ns=np.full((plan.packets, plan.visits), -1),
        packets=packets,
        loops=loops_of(plan.release_ns, plan.after, plan.think_ns, plan.timeout_ns),
        stations=stations_of(plan.servers, plan.capacity, plan.wake_ns),
        events=np.zeros((plan.packets + 1, 2), np.int64),
        entries=_columns(tables.table, *np.full((3, len(tables.table)), -1)),
        leaving=np.zeros(len(tables.table) + 1, np.int64),
        tables=_columns(tables.capacity, tables.held, tables.held),
    )


def _columns(*columns: Int64Array) -> Int64Array:
    """One array, row by row in memory."""
    return np.ascontiguousarray(np.array(columns, np.int64).T)


def loops_of(release_ns: Int64Array, after: Int64Array, think_ns: Int64Array, timeout_ns: Int64Array) -> Int64Array:
    """Who is released by whom; nothing where nobody is."""
    waiting = np.flatnonzero(after != NEVER)
    if not len(waiting):
        return np.empty((0, 5), np.int64)
    loops = np.full((len(after), 5), -1)
    loops[:, _EARLIEST_NS], loops[:, _THINK_NS], loops[:, _TIMEOUT_NS] = release_ns, think_ns, timeout_ns
    waiting = waiting[np.argsort(after[waiting], kind="stable")]
    before = after[waiting]
    is_first = np.diff(before, prepend=-1) > 0
    loops[before[is_first], _FIRST_FOLLOWER] = waiting[is_first]
    loops[waiting[:-1][~is_first[1:]], _NEXT_FOLLOWER] = waiting[1:][~is_first[1:]]
    return loops


def stations_of(servers: Int64Array, capacity: Int64Array, wake_ns: Int64Array) -> Int64Array:
    """All of them empty."""
    stations = np.full((len(servers), 8), -1)
    stations[:, _IDLE] = servers
    stations[:, _WAKE_NS] = wake_ns
    stations[:, _WARM] = stations[:, _WAITING] = 0
    stations[:, _PLACES] = np.where(capacity == UNLIMITED, np.iinfo(np.int64).max, capacity - servers)
    return stations


@_jit
def play(  # noqa: PLR0917 - one by one as everywhere below, in the order of Arrays
    planned: Int64Array,
    release_ns: Int64Array,
    station_of: Int64Array,
    service_ns: Int64Array,
    entry_of: Int64Array,
    keep_ns: Int64Array,
    refused_ns: Int64Array,
    limit: Int64Array,
    depart_ns: Int64Array,
    packets: Int64Array,
    loops: Int64Array,
    stations: Int64Array,
    events: Int64Array,
    entries: Int64Array,
    leaving: Int64Array,
    tables: Int64Array,
    until_ns: int,
) -> int:
    """Play a plan until nothing is left to happen, or not before a time, or somebody is to be released who is held.

    Returns
    -------
    int
        How many of ``planned`` were released.
    """
    has_tables, has_loops = entry_of.shape[2] > 0, len(loops) > 0
    released = 0
    while True:
        if released < len(planned) and _is_first(events, release_ns[planned[released]], planned[released]):
            packet = planned[released]
            now = release_ns[packet]
            if now >= until_ns or packets[packet, HELD]:
                return released
            packets[packet, RELEASED_NS] = now
            released += 1
        elif events[0, 0]:
            now, packet = events[1, DUE_NS], events[1, PACKET]
            if now >= until_ns or (packets[packet, HELD] and packets[packet, VISIT] < 0):
                return released
            events[0, 1] = 1
            if packets[packet, VISIT] >= 0:
                station = station_of[packet, packets[packet, VISIT]]
                _leave(packets, stations, events, service_ns, depart_ns, station, now)
        else:
            return released
        packets[packet, VISIT] += 1
        visit = packets[packet, VISIT]
        is_lost = has_tables and packets[packet, REFUSED_NS] > 0
        has_ended = is_lost or visit == station_of.shape[1] or station_of[packet, visit] < 0
        if not has_ended:
            station = station_of[packet, visit]
            is_lost = has_ended = not _has_room(stations, station)
            if not is_lost:
                if has_tables:
                    _let_leave(entries, leaving, tables, now)
                    _take_entries(packets, entries, leaving, tables, entry_of, keep_ns, refused_ns, limit, packet, now)
                _join(packets, stations, events, service_ns, depart_ns, packet, station, now)
        if has_ended:
            packets[packet, VISIT] = ENDED
            if has_loops:
                _release_followers(packets, loops, events, packet, now, is_lost)
        _drop_first_event(events)


@_inlined
def _leave(
    packets: Int64Array,
    stations: Int64Array,
    events: Int64Array,
    service_ns: Int64Array,
    depart_ns: Int64Array,
    station: int,
    now: int,
) -> None:
    """Let a packet leave the station, where the head of the queue starts, or else a server becomes idle."""
    if stations[station, _WAITING]:
        head = stations[station, FIRST]
        stations[station, FIRST] = packets[head, BEHIND]
        stations[station, _WAITING] -= 1
        _serve(packets, events, service_ns, depart_ns, head, now)
        return
    stations[station, _IDLE] += 1
    if stations[station, _WAKE_NS]:
        is_alone = stations[station, _WARM_AT_NS] != now
        stations[station, _WARM] = 1 if is_alone else stations[station, _WARM] + 1
        stations[station, _WARM_AT_NS] = now


@_inlined
def _has_room(stations: Int64Array, station: int) -> bool:
    """Whether a packet may join the station."""
    is_idle: bool = stations[station, _IDLE] > 0
    return is_idle or bool(stations[station, _WAITING] < stations[station, _PLACES])


@_inlined
def _join(
    packets: Int64Array,
    stations: Int64Array,
    events: Int64Array,
    service_ns: Int64Array,
    depart_ns: Int64Array,
    packet: int,
    station: int,
    now: int,
) -> None:
    """Let the packet join a station that has room: it starts, once a server is awake, or goes to the queue's end."""
    if stations[station, _IDLE]:
        stations[station, _IDLE] -= 1
        start_ns = now
        if stations[station, _WAKE_NS]:
            if stations[station, _WARM_AT_NS] == now and stations[station, _WARM]:
                stations[station, _WARM] -= 1
            else:
                start_ns += stations[station, _WAKE_NS]
        _serve(packets, events, service_ns, depart_ns, packet, start_ns)
        return
    if stations[station, _WAITING]:
        packets[stations[station, LAST], BEHIND] = packet
    else:
        stations[station, FIRST] = packet
    stations[station, LAST] = packet
    stations[station, _WAITING] += 1


@_inlined
def _serve(
    packets: Int64Array, events: Int64Array, service_ns: Int64Array, depart_ns: Int64Array, packet: int, start_ns: int
) -> None:
    """Start the packet's service, for as long as it takes."""
    visit, refused_ns = packets[packet, VISIT], packets[packet, REFUSED_NS]
    end_ns = start_ns + (refused_ns or service_ns[packet, visit])
    depart_ns[packet, visit] = end_ns
    _add_event(events, end_ns, packet)


@_jit
def _release_followers(
    packets: Int64Array, loops: Int64Array, events: Int64Array, packet: int, now: int, is_lost: bool
) -> None:
    """Release who waits for this packet's end; pass a loss on along those that have no time-out.

    Those are linked as in a queue: a packet that is not sent stands in no other.
    """
    packets[packet, BEHIND] = -1
    ended = packet
    while ended >= 0:
        follower, ended = loops[ended, _FIRST_FOLLOWER], packets[ended, BEHIND]
        while follower >= 0:
            delay_ns = loops[follower, _TIMEOUT_NS] if is_lost else loops[follower, _THINK_NS]
            if delay_ns == NEVER:
                packets[follower, VISIT], packets[follower, BEHIND] = ENDED, ended
                ended = follower
            else:
                due_ns = max(now + delay_ns, loops[follower, _EARLIEST_NS])
                packets[follower, RELEASED_NS] = due_ns
                _add_event(events, due_ns, follower)
            follower = loops[follower, _NEXT_FOLLOWER]


@_inlined
def _is_before(due_ns: int, packet: int, other_due_ns: int, other_packet: int) -> bool:
    """Tell the order of two events: time, then packet number."""
    return due_ns < other_due_ns or (due_ns == other_due_ns and packet < other_packet)


@_inlined
def _is_first(events: Int64Array, due_ns: int, packet: int) -> bool:
    """Whether an event comes before all pending ones."""
    return events[0, 0] == 0 or _is_before(due_ns, packet, events[1, DUE_NS], events[1, PACKET])


@_inlined
def _add_event(events: Int64Array, due_ns: int, packet: int) -> None:
    """Put an event into the heap, in place of the one that happens now if that is still there."""
    if events[0, 1]:
        events[0, 1] = 0
        _put_first(events, due_ns, packet)
        return
    place = events[0, 0] + 1
    events[0, 0] = place
    while place > 1:
        above = place >> 1
        if not _is_before(due_ns, packet, events[above, DUE_NS], events[above, PACKET]):
            break
        events[place, DUE_NS], events[place, PACKET] = events[above, DUE_NS], events[above, PACKET]
        place = above
    events[place, DUE_NS], events[place, PACKET] = due_ns, packet


@_inlined
def _drop_first_event(events: Int64Array) -> None:
    """Take the first event out, if it has not been replaced: the last one goes where it was."""
    if not events[0, 1]:
        return
    count = events[0, 0]
    events[0, 0], events[0, 1] = count - 1, 0
    _put_first(events, events[count, DUE_NS], events[count, PACKET])


@_inlined
def _put_first(events: Int64Array, due_ns: int, packet: int) -> None:
    """Put an event in place of the first one; those below that are earlier move up."""
    count, place, below = events[0, 0], 1, 2
    while below <= count:
        if below < count and _is_before(
            events[below + 1, DUE_NS], events[below + 1, PACKET], events[below, DUE_NS], events[below, PACKET]
        ):
            below += 1
        if not _is_before(events[below, DUE_NS], events[below, PACKET], due_ns, packet):
            break
        events[place, DUE_NS], events[place, PACKET] = events[below, DUE_NS], events[below, PACKET]
        place, below = below, below << 1
    events[place, DUE_NS], events[place, PACKET] = due_ns, packet


@_jit
def _take_entries(
    packets: Int64Array,
    entries: Int64Array,
    leaving: Int64Array,
    tables: Int64Array,
    entry_of: Int64Array,
    keep_ns: Int64Array,
    refused_ns: Int64Array,
    limit: Int64Array,
    packet: int,
    now: int,
) -> None:
    """Put in, or set anew, all entries that the packet needs at its visit, or note which of them is not to be had."""
    visit = packets[packet, VISIT]
    for place in range(entry_of.shape[2]):
        entry = entry_of[packet, visit, place]
        if entry == NO_ENTRY or entries[entry, _LEAVES_NS] >= 0:
            continue
        table = entries[entry, _TABLE]
        if tables[table, _TAKEN] >= min(tables[table, _CAPACITY], limit[packet, place]):
            packets[packet, _REFUSED_VISIT], packets[packet, _REFUSED_PLACE] = visit, place
            packets[packet, REFUSED_NS] = refused_ns[packet, visit, place]
            return
    for place in range(entry_of.shape[2]):
        entry = entry_of[packet, visit, place]
        if entry != NO_ENTRY:
            _keep(entries, leaving, tables, entry, now + keep_ns[packet, place])


@_inlined
def _keep(entries: Int64Array, leaving: Int64Array, tables: Int64Array, entry: int, leaves_ns: int) -> None:
    """Put the entry in if it is not, and set its time."""
    if entries[entry, _LEAVES_NS] < 0:
        table = entries[entry, _TABLE]
        tables[table, _TAKEN] += 1
        tables[table, _HIGHEST] = max(tables[table, _HIGHEST], tables[table, _TAKEN])
        entries[entry, _LOOKED_AT_NS] = leaves_ns
        leaving[0] += 1
        _move_up(entries, leaving, entry, leaving[0])
    elif leaves_ns < entries[entry, _LOOKED_AT_NS]:
        entries[entry, _LOOKED_AT_NS] = leaves_ns
        _move_up(entries, leaving, entry, entries[entry, _PLACE])
    entries[entry, _LEAVES_NS] = leaves_ns


@_jit
def _let_leave(entries: Int64Array, leaving: Int64Array, tables: Int64Array, now: int) -> None:
    """Take out the entries whose time has come."""
    while leaving[0] and entries[leaving[1], _LOOKED_AT_NS] <= now:
        entry = leaving[1]
        if entries[entry, _LEAVES_NS] > now:
            entries[entry, _LOOKED_AT_NS] = entries[entry, _LEAVES_NS]
            _move_down(entries, leaving, entry)
            continue
        entries[entry, _LEAVES_NS] = -1
        tables[entries[entry, _TABLE], _TAKEN] -= 1
        last = leaving[leaving[0]]
        leaving[0] -= 1
        if leaving[0]:
            _move_down(entries, leaving, last)


@_inlined
def _move_up(entries: Int64Array, leaving: Int64Array, entry: int, place: int) -> None:
    """Put an entry into the heap here or above."""
    while place > 1:
        above = leaving[place >> 1]
        if entries[above, _LOOKED_AT_NS] <= entries[entry, _LOOKED_AT_NS]:
            break
        leaving[place], entries[above, _PLACE] = above, place
        place >>= 1
    leaving[place], entries[entry, _PLACE] = entry, place


@_inlined
def _move_down(entries: Int64Array, leaving: Int64Array, entry: int) -> None:
    """Put an entry into the heap at its root or below."""
    count, place, below = leaving[0], 1, 2
    while below <= count:
        if below < count and entries[leaving[below + 1], _LOOKED_AT_NS] < entries[leaving[below], _LOOKED_AT_NS]:
            below += 1
        other = leaving[below]
        if entries[entry, _LOOKED_AT_NS] <= entries[other, _LOOKED_AT_NS]:
            break
        leaving[place], entries[other, _PLACE] = other, place
        place, below = below, below << 1
    leaving[place], entries[entry, _PLACE] = entry, place
