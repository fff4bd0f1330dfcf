"""Runs of which only the summary is wanted: planned, played and counted part by part, so that memory does not grow.

A part takes up each sequence of messages where the last one left it, and is as large as a processor's cache likes.
Everything that is random belongs to the number of a message, so that the parts are those of the whole run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kubesim.engine import compiled_engine
from kubesim.engine.streaming import Part, PlanStream, held
from kubesim.scenario.rows import Rows
from kubesim.scenario.totals import PacketTally, Played
from kubesim.stats.offered_load import Arrivals
from kubesim.stats.transactions import TransactionTally
from kubesim.workload import NO_MESSAGE, MessagesPart

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from kubesim.engine.streaming import PlayedPart
    from kubesim.scenario.flow_classes import FlowClasses
    from kubesim.scenario.rows import Key
    from kubesim.scenario.spec import Scenario
    from kubesim.scenario.stations import Stations
    from kubesim.scenario.totals import Totals
    from kubesim.scenario.visit_planning import VisitPlanner
    from kubesim.workload import Sequences

AT_ONCE = 16_384
"""Messages that wait at a time: few parts, and arrays that fit a processor's cache more or less."""

_FOR_EVER_NS = np.iinfo(np.int64).max


def why_whole(scenario: Scenario) -> str | None:
    """Say why a scenario's packets have to be held in memory, as far as that is known before they are planned."""
    if scenario.traffic.dns is not None:
        return "packets with look-ups in front are not made in parts"
    if scenario.conntrack is not None:
        return "tables of limited size are not carried from part to part"
    if scenario.warmup == "mser-5":
        return "MSER-5 looks at all latencies at once"
    if scenario.engine == "simpy" or not compiled_engine.IS_COMPILED:
        return "SimPy plays whole plans"
    return None


def why_ways_are_whole(messages: Sequences, planner: VisitPlanner, classes: FlowClasses) -> str | None:
    """Say why packets that go these ways have to be held in memory."""
    if any(path.reason is not None for route in classes.routes for path in route.values()):
        return "some connections get nowhere"
    if planner.has_workers:
        return "threads of the kernel take packets in turn"
    roots = int(np.count_nonzero(messages.script.column("back") == 0))
    if roots > 1 and not messages.script.times:
        return "sequences are short"
    return None


def used_keys(messages: Sequences, classes: FlowClasses) -> list[Key]:
    """The routes and kinds that there are packets of."""
    routes = np.unique(classes.route).tolist()
    return [(route, kind) for route in routes for kind in messages.script.kinds() if kind in classes.routes[route]]


def play_in_parts(
    scenario: Scenario,
    messages: Sequences,
    classes: FlowClasses,
    stations: Stations,
    planner: VisitPlanner,
    on_progress: Callable[[int, int], None] | None = None,
) -> Totals:
    """Plan, play and count a run part by part.

    Parameters
    ----------
    scenario
        What is run.
    messages, classes, stations
        The workload, the ways of its flows, and what serves them.
    planner
        Of these.
    on_progress
        Called now and then with how many messages have been played, and of how many.

    Returns
    -------
    Totals
        Those of the whole run.
    """
    assert not isinstance(scenario.warmup, str)  # noqa: S101 - such runs are whole
    capacity = stations.capacity(planner.socket_places(Rows.of_connections(messages)))
    servers = stations.servers()
    feed, chains = _Feed(messages, AT_ONCE), _Chains(messages)
    stream = PlanStream(servers, capacity, stations.wakes(), planner.width)
    transactions = TransactionTally(messages.transactions, scenario.warmup)
    arrivals = 0 if chains.is_closed else len(messages.starts_ns)
    packets = PacketTally(messages, classes, servers, capacity, len(messages), arrivals)
    count = _Count(messages, transactions, packets, chains)
    while not feed.is_over:
        part = planned(feed.next(stream.waiting.number, stream.next_numbers()), planner)
        missing = feed.followed()
        chains.add(part, missing)
        stream.feed(part)
        played = stream.play(held(stream.waiting, missing), feed.until_ns)
        count.add(played, *stream.under_way())
        if on_progress is not None:
            on_progress(count.messages, len(messages))
    count.finish()
    return packets.totals(transactions, chains.arrivals())


def planned(made: MessagesPart, planner: VisitPlanner) -> Part:
    """Plan messages."""
    visited = planner.plan(Rows.of_part(made))
    columns = visited.station, visited.service_ns, made.after, made.think_ns, made.timeout_ns
    return Part(made.number, made.release_ns, *columns)


class _Feed:
    """Gives messages in parts: of each sequence the next ones, and of sequences those that come next.

    Parameters
    ----------
    messages
        The workload.
    at_once
        How many messages wait at a time.
    """

    def __init__(self, messages: Sequences, at_once: int) -> None:
        script = messages.script
        self._messages = messages
        self._at_once = at_once
        self._every = len(script)
        self._back = script.column("back")
        self._reach = int(self._back.max(initial=1))
        # With so many, some can be played whatever is held: neither what others wait for, nor a connection's rest.
        self._least = 2 * (self._reach + len(script.head) + len(script.round))
        self._order = np.argsort(messages.starts_ns, kind="stable")
        self._begun = 0
        self._open = np.empty(0, np.int64)
        self._given = np.empty(0, np.int64)

    @property
    def is_over(self) -> bool:
        """Whether all messages have been given."""
        return self._begun == len(self._order) and not len(self._open)

    @property
    def until_ns(self) -> int:
        """When the first sequence begins of which nothing was given."""
        if self._begun == len(self._order):
            return _FOR_EVER_NS
        return int(self._messages.starts_ns[self._order[self._begun]])

    def next(self, waiting: npt.NDArray[np.int64], due: npt.NDArray[np.int64]) -> MessagesPart:
        """More messages, where these, by number, have been given and still wait, and some of these are due next.

        A sequence may have much that waits and still be in need of more: where each of a window of buffers waits for
        the one a window before it, one may be ahead of the others.
        """
        new = self._next_sequences(self._at_once - len(waiting))
        quota = max(self._least, self._at_once // max(1, len(self._open) + len(new)))
        counts = np.bincount(self._places(waiting), minlength=len(self._open))
        more = np.where(2 * counts < quota, quota - counts, 0)
        is_due = self._places(due)
        more[is_due] = np.maximum(more[is_due], self._least)
        first = max(len(self._messages.script.head), quota)
        sequence = np.concatenate([self._open, new])
        order = np.argsort(sequence, kind="stable")
        sequence = sequence[order]
        given = np.concatenate([self._given, np.zeros(len(new), np.int64)])[order]
        more = np.minimum(np.concatenate([more, np.full(len(new), first)])[order], self._every - given)
        step = np.arange(int(more.sum()))
        step -= np.repeat(np.cumsum(more) - more - given, more)
        is_open = given + more < self._every
        self._open, self._given = sequence[is_open], (given + more)[is_open]
        return MessagesPart(self._messages, np.repeat(sequence, more), step)

    def _places(self, number: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Which of the open sequences messages are of, by number; those of others are left out."""
        sequence = number // self._every
        place = np.minimum(np.searchsorted(self._open, sequence), max(0, len(self._open) - 1))
        return place[self._open[place] == sequence] if len(self._open) else place[:0]

    def followed(self) -> npt.NDArray[np.int64]:
        """Numbers of the messages that release others which have not been given."""
        step = self._given[:, None] + np.arange(self._reach)
        step = np.minimum(step, self._every - 1)
        script = self._messages.script
        before = step - self._back[script.place(step, script.round_of(step))]
        is_given = (before < self._given[:, None]) & (before < step)
        return np.asarray((self._open[:, None] * self._every + before)[is_given], np.int64)

    def _next_sequences(self, room: int) -> npt.NDArray[np.int64]:
        """Those that begin next: as many as there is room for, at least one, and all that begin at the same time."""
        starts_ns, script = self._messages.starts_ns, self._messages.script
        if self._begun == len(self._order):
            return np.empty(0, np.int64)
        wanted = max(1, room // max(1, min(self._every, max(len(script.head), self._least))))
        last = min(self._begun + wanted, len(self._order)) - 1
        end = int(np.searchsorted(starts_ns[self._order], starts_ns[self._order[last]], side="right"))
        new, self._begun = self._order[self._begun : end], end
        return np.sort(new)


class _Chains:
    """What comes from outside, and how long it would take if it were alone: a sequence is what one arrival leads to.

    Where several messages of a sequence wait for none, they are its first window; those behind it go on for longer than
    these take to come, so that the loop is closed.
    """

    def __init__(self, messages: Sequences) -> None:
        order = np.argsort(messages.starts_ns, kind="stable")
        self._release_ns = messages.starts_ns[order]
        self._starts_ns = messages.starts_ns
        self._every = len(messages.script)
        self.rank = np.empty(len(order), np.int64)
        """Of each sequence, in the order of their starts."""
        self.rank[order] = np.arange(len(order))
        roots = int(np.count_nonzero(messages.script.column("back") == 0))
        lasting_ns = int(self._release_ns[-1] - self._release_ns[0]) if len(order) else 0
        self.is_closed = roots > 1 or lasting_ns == 0
        """Whether it is known to be."""
        self._longest_ns = 0
        self._known, self._known_ns = np.empty(0, np.int64), np.empty(0, np.int64)

    def arrivals(self) -> Arrivals:
        """All of them."""
        return Arrivals(self._release_ns, _FOR_EVER_NS if self.is_closed else self._longest_ns)

    def add(self, part: Part, missing: npt.NDArray[np.int64]) -> None:
        """See how long messages would take, of which some are followed by others that are missing yet."""
        if self.is_closed:
            return
        ends_ns = self._ends_ns(part)
        lasts_ns = ends_ns - self._starts_ns[part.number // self._every]
        self._longest_ns = max(self._longest_ns, int(lasts_ns.max(initial=0)))
        known = np.concatenate([self._known, part.number])
        keeps = np.isin(known, missing)
        self._known, self._known_ns = known[keeps], np.concatenate([self._known_ns, ends_ns])[keeps]

    def _ends_ns(self, part: Part) -> npt.NDArray[np.int64]:
        """When each message ends if nobody is in its way; as :func:`kubesim.stats.offered_load.chains` finds it."""
        own_ns = np.where(part.station >= 0, part.service_ns, 0).sum(axis=1)
        row = np.searchsorted(part.number, part.after)
        is_here = (row < len(part)) & (part.after >= 0)
        is_here[is_here] = part.number[row[is_here]] == part.after[is_here]
        earliest_ns = part.release_ns + own_ns
        carried = np.flatnonzero((part.after >= 0) & ~is_here)
        order = np.argsort(self._known, kind="stable")
        before_ns = self._known_ns[order][np.searchsorted(self._known[order], part.after[carried])]
        after_ns = before_ns + part.think_ns[carried] + own_ns[carried]
        earliest_ns[carried] = np.maximum(earliest_ns[carried], after_ns)
        first = np.where(is_here, row, np.arange(len(part)))
        later_ns = np.where(is_here, part.think_ns + own_ns, 0)
        while not np.array_equal(first[first], first):
            earliest_ns = np.maximum(earliest_ns[first] + later_ns, earliest_ns)
            later_ns, first = later_ns + later_ns[first], first[first]
        return np.asarray(np.maximum(earliest_ns[first] + later_ns, earliest_ns), np.int64)


class _Count:
    """Counts what has been played."""

    def __init__(
        self, messages: Sequences, transactions: TransactionTally, packets: PacketTally, chains: _Chains
    ) -> None:
        self._messages = messages
        self._transactions = transactions
        self._packets = packets
        self._chains = chains
        self._early: list[Played] = []
        self.messages = 0
        """That have been counted."""

    def add(self, played: PlayedPart, number: npt.NDArray[np.int64], released_ns: npt.NDArray[np.int64]) -> None:
        """Count packets whose way has ended, when these others, by number, are under way."""
        made = self._messages.part(played.part.number)
        self.messages += len(made)
        arrive_ns, begins, ends = played.arrive_ns, made.begins, made.ends
        begun = np.flatnonzero((begins != NO_MESSAGE) & (arrive_ns[:, 0] >= 0))
        ended = np.flatnonzero(ends != NO_MESSAGE)
        end_ns = np.where(played.is_delivered(), played.last_ns(), -1)[ended]
        if self._transactions.begin_ns is None:
            self._transactions.see_start(released_ns[self._messages.part(number).begins != NO_MESSAGE])
        begun = begun[np.argsort(begins[begun], kind="stable")]
        if self._transactions.add(begins[begun], arrive_ns[begun, 0], ends[ended], end_ns):
            self._packets.restart()
        self._early.append(
            Played(
                played.part.station,
                played.part.service_ns,
                arrive_ns,
                played.start_ns,
                played.depart_ns,
                made.flow,
                made.kind,
                self._chains.rank[made.thread],
            )
        )
        if self._transactions.begin_ns is not None:
            self.finish()

    def finish(self) -> None:
        """Count what came before it was known when the measured time begins."""
        begin_ns = self._transactions.begin_ns or 0
        for one in self._early:
            self._packets.add(one, begin_ns, self._transactions.last_ns)
        self._early = []
