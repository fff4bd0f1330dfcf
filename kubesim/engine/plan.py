"""What an engine is given: who is released when, where each packet goes, and how long it is served there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kubesim.engine.integers import Int64Array, read_only, refuse
from kubesim.engine.tables import Tables
from kubesim.errors import PlanError

UNLIMITED = -1
"""A capacity that never refuses a packet."""

NEVER = -1
"""In ``after``: released by no packet. In ``timeout_ns``: not released when the packet before is lost."""


@dataclass(frozen=True, eq=False, init=False)
class Plan:
    """Everything random already drawn: integers that an engine plays by the contract.

    Times are whole nanoseconds. A packet has one pending event at a time, and events are taken in the order of
    ``(time, packet number)``. At its event a packet first leaves its station, where the head of the queue starts at
    the same instant; then it joins the next station, or is dropped if that one is full. Queues are first in, first
    out.

    Parameters
    ----------
    release_ns : array of int64, shape (n,)
        When the packet joins its first station; for a packet released by another one, the earliest moment for that.
    station : array of int64, shape (n, visits)
        The stations visited, in order; −1 pads the end of a row.
    service_ns : array of int64, shape (n, visits)
        How long the packet is served at each visit, at least 1; not read where ``station`` is −1.
    servers : array of int64, shape (s,)
        Servers of each station, at least 1.
    capacity : array of int64, shape (s,)
        Places of each station, those in service included (K in Kendall's notation), at least ``servers``;
        −1 for no limit.
    after : array of int64, shape (n,), optional
        The packet whose end releases this one; −1 (the default) for none.
    think_ns : array of int64, shape (n,), optional
        Time between the end of ``after`` and the release, 0 by default.
    timeout_ns : array of int64, shape (n,), optional
        Time from the loss of ``after`` to the release of this packet. With −1 (the default) this packet is never
        sent then; it counts as lost at the same moment itself, so that a later packet of the loop may have a
        time-out.
    wake_ns : array of int64, shape (s,), optional
        What a server that has been idle for at least 1 ns needs to wake up before it serves; 0 by default.
    tables : Tables, optional
        Tables that packets need entries in; none by default.

    Raises
    ------
    PlanError
        If a shape, a number or a reference breaks the contract; the message names the first offender.
    """

    release_ns: Int64Array
    station: Int64Array
    service_ns: Int64Array
    servers: Int64Array
    capacity: Int64Array
    after: Int64Array
    think_ns: Int64Array
    timeout_ns: Int64Array
    wake_ns: Int64Array
    tables: Tables | None

    def __init__(
        self,
        release_ns: npt.ArrayLike,
        station: npt.ArrayLike,
        service_ns: npt.ArrayLike,
        servers: npt.ArrayLike,
        capacity: npt.ArrayLike,
        after: npt.ArrayLike | None = None,
        think_ns: npt.ArrayLike | None = None,
        timeout_ns: npt.ArrayLike | None = None,
        wake_ns: npt.ArrayLike | None = None,
        tables: Tables | None = None,
    ) -> None:
        self._set("release_ns", release_ns, dimensions=1)
        self._set("station", station, dimensions=2)
        self._set("service_ns", service_ns, dimensions=2)
        self._set("servers", servers, dimensions=1)
        self._set("capacity", capacity, dimensions=1)
        packets, stations = len(self.release_ns), len(self.servers)
        self._set("after", np.full(packets, NEVER) if after is None else after, dimensions=1)
        self._set("think_ns", np.zeros(packets, np.int64) if think_ns is None else think_ns, dimensions=1)
        self._set("timeout_ns", np.full(packets, NEVER) if timeout_ns is None else timeout_ns, dimensions=1)
        self._set("wake_ns", np.zeros(stations, np.int64) if wake_ns is None else wake_ns, dimensions=1)
        self._check_shapes()
        self._check_stations()
        self._check_packets()
        self._check_releases()
        object.__setattr__(self, "tables", tables)
        if tables is not None:
            tables.check(self.station)

    @property
    def packets(self) -> int:
        """Number of packets, n."""
        return len(self.release_ns)

    @property
    def stations(self) -> int:
        """Number of stations, s."""
        return len(self.servers)

    @property
    def visits(self) -> int:
        """Columns of ``station``: the longest row's number of visits."""
        return int(self.station.shape[1])

    def visit_counts(self) -> Int64Array:
        """Number of visits of each packet, shape (n,)."""
        return np.asarray(np.count_nonzero(self.station >= 0, axis=1), np.int64)

    def latest_ns(self) -> float:
        """Give a time that no event is later than, nor the end of an entry's stay.

        It is the last planned release and everything that may delay a packet, all one after the other.
        """
        is_visit = self.station >= 0
        latest_ns = float(self.release_ns.max(initial=0))
        latest_ns += float(self.service_ns.sum(where=is_visit, dtype=np.float64))
        latest_ns += float(is_visit.sum()) * float(self.wake_ns.max(initial=0))
        latest_ns += float(np.maximum(self.think_ns, self.timeout_ns).sum(dtype=np.float64))
        return latest_ns if self.tables is None else latest_ns + self.tables.longest_ns()

    def _set(self, name: str, value: npt.ArrayLike, dimensions: int) -> None:
        object.__setattr__(self, name, read_only(name, value, dimensions))

    def _check_shapes(self) -> None:
        packets, stations = self.packets, self.stations
        for name in ("station", "service_ns"):
            shape = getattr(self, name).shape
            if shape[0] != packets or shape != self.station.shape:
                raise PlanError(f"plan: {name} has shape {shape}; {packets} packets need {(packets, self.visits)}")
        for name, length in (
            ("capacity", stations),
            ("wake_ns", stations),
            ("after", packets),
            ("think_ns", packets),
            ("timeout_ns", packets),
        ):
            if len(getattr(self, name)) != length:
                raise PlanError(f"plan: {name} has {len(getattr(self, name))} entries; it needs {length}")

    def _check_stations(self) -> None:
        refuse("servers", self.servers < 1, "a station needs at least 1 server", "station")
        limited = self.capacity != UNLIMITED
        refuse("capacity", limited & (self.capacity < 1), "a station has at least 1 place, or -1", "station")
        refuse("capacity", limited & (self.capacity < self.servers), "fewer places than servers", "station")
        refuse("wake_ns", self.wake_ns < 0, "a time cannot be negative", "station")

    def _check_packets(self) -> None:
        used = self.station >= 0
        refuse("station", self.station < -1, "-1 is the only negative number", "packet")
        refuse("station", self.station >= self.stations, "there is no such station", "packet")
        refuse("station", used[:, 1:] & ~used[:, :-1], "-1 may only pad the end", "packet")
        refuse("service_ns", used & (self.service_ns < 1), "service lasts at least 1 ns", "packet")
        refuse("release_ns", self.release_ns < 0, "a time cannot be negative", "packet")
        refuse("think_ns", self.think_ns < 0, "a time cannot be negative", "packet")
        refuse("timeout_ns", self.timeout_ns < NEVER, "a time cannot be negative (-1: never)", "packet")

    def _check_releases(self) -> None:
        outside = (self.after < NEVER) | (self.after >= self.packets)
        refuse("after", outside, "there is no such packet", "packet")
        if (self.after < np.arange(self.packets)).all():
            return  # each waits for one before it: nobody for itself
        # Pointer doubling: after k rounds a packet points 2^k releases back; who still points anywhere is in a cycle.
        ancestor = self.after
        for _ in range(max(1, self.packets.bit_length())):
            ancestor = np.where(ancestor >= 0, ancestor[ancestor], -1)
        refuse("after", ancestor >= 0, "the packet waits, in the end, for itself", "packet")
