"""New connections in a full conntrack table: those that find no place, and those for which another has to go.

``nf_conntrack_max`` is one for the whole kernel, so that this is done in a user-mode kernel only.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from kubesim.errors import InputError
from kubesim.twin import ctnetlink, lanes
from kubesim.twin.frames import Burst, Flow
from kubesim.twin.lanes import Site

if TYPE_CHECKING:
    from collections.abc import Sequence

BUCKETS = 262_144
"""Of the table: as many as Linux takes on machines with more than 4 GiB (nf_conntrack_init_start)."""

BUCKETS_SEARCHED = 8
"""Buckets in which a full table looks for an entry that can go (``NF_CT_EVICTION_RANGE``)."""

MODULES = (f"nf_conntrack hashsize={BUCKETS}", "iptable_mangle")
"""Kernel modules with their options."""

ENTRIES = (256, 65_536, 262_144)
"""How many entries, all assured, a table has in which packets are refused."""

EVICTABLE_ENTRIES = 65_536
"""How many entries, none assured, a table has in which packets make others go: few buckets have two of them."""

DROPPED, REFUSED, NEW, EVICTING = "dropped by a rule", "refused", "new", "evicting"
"""Ways: a known connection that a rule drops; one that finds no place; one that finds one; one that makes another go.

The first two end at the same place, behind the lookup; the other two arrive.
"""

BurstsNs = dict[str, list[float]]
"""Nanoseconds per packet of each burst, by the way."""

_OTHER_POD, _THIRD_POD = "10.244.1.11", "10.244.1.12"
_LIMIT = Path("/proc/sys/net/netfilter/nf_conntrack_max")
_NO_LIMIT = 1 << 24
_WARM_UP_FRAMES = 256
_KNOWN_FLOWS = 64
_STAY_S = 1_000_000
_FLOWS_PER_SOURCE = 32_768


def entries_searched(entries: int) -> float:
    """How many entries a search that finds none meets: each is in the table twice, once for each direction.

    >>> entries_searched(262_144)
    16.0
    """
    return BUCKETS_SEARCHED * 2 * entries / BUCKETS


def measure_refused(entries: Sequence[int], rounds: int, frames: int) -> dict[int, BurstsNs]:
    """Time packets that find no place, beside packets that a rule drops, by the number of entries.

    Parameters
    ----------
    entries
        Numbers of entries, rising.
    rounds
        Bursts per way and number.
    frames
        Frames per burst.

    Raises
    ------
    InputError
        If this is no user-mode kernel, or a table does not hold what it is to hold.
    """
    found: dict[int, BurstsNs] = {}
    with _Table(f"*mangle\n-A PREROUTING -s {lanes.POD} -j DROP\nCOMMIT\n", frames) as table:
        ways = {DROPPED: table.burst(lanes.POD, _KNOWN_FLOWS), REFUSED: table.burst(_OTHER_POD, frames)}
        table.fill(table.flows(lanes.POD, _KNOWN_FLOWS), is_assured=True)
        for number in entries:
            table.fill(_others(table.size(), number), is_assured=True)
            table.limit_to(number)
            found[number] = {way: [] for way in ways}
            for _ in range(rounds):
                for way, burst in ways.items():
                    found[number][way].append(_timed(burst))
            table.check_size(number)
            table.limit_to(_NO_LIMIT)
    return found


def measure_evicting(rounds: int, frames: int) -> BurstsNs:
    """Time packets that make an entry go that is not assured, beside packets that find a place.

    Parameters
    ----------
    rounds
        Bursts per way.
    frames
        Frames per burst.

    Raises
    ------
    InputError
        As :func:`measure_refused`.
    """
    found: BurstsNs = {NEW: [], EVICTING: []}
    with _Table(lanes.CONNTRACK_RULES, frames) as table:
        ways = {NEW: table.burst(_OTHER_POD, frames), EVICTING: table.burst(_THIRD_POD, frames)}
        for _ in range(rounds):
            table.limit_to(_NO_LIMIT)
            table.empty()
            table.fill(_others(0, EVICTABLE_ENTRIES), is_assured=False)
            found[NEW].append(_timed(ways[NEW]))
            full = table.size()
            table.limit_to(full)
            found[EVICTING].append(_timed(ways[EVICTING]))
            if not full - 2 * frames < table.size() <= full:
                raise InputError("a full table does not let entries go as it should")
    return found


class _Table(contextlib.ExitStack):
    """The table of a node, and a pod that sends through the node."""

    def __init__(self, rules: str, frames: int) -> None:
        super().__init__()
        if "User Mode Linux" not in Path("/proc/cpuinfo").read_text("utf-8"):
            raise InputError("the limit of the conntrack table is one for the whole kernel: use a user-mode kernel")
        self._site = Site(self)
        self._site.restore(rules if "conntrack" in rules else rules + lanes.CONNTRACK_RULES)
        self._node = self._site.node
        self._frames = frames
        self.callback(self.limit_to, _NO_LIMIT)

    def burst(self, source: str, flows: int) -> Burst:
        """Frames of so many connections to the other pod."""
        lane = self._site.lane("", flows=flows)
        made = Burst(lane.pod, "eth0", lane.frames(self._frames, source))
        self.callback(made.close)
        return made

    def flows(self, source: str, count: int) -> list[Flow]:
        """The connections that :meth:`burst` sends packets of."""
        return self._site.lane("", flows=count).connections(source, count)

    def fill(self, flows: Sequence[Flow], *, is_assured: bool) -> None:
        """Add entries that stay."""
        with self._node.inside():
            ctnetlink.add_entries(flows, _STAY_S, is_assured=is_assured)

    def empty(self) -> None:
        """Forget all entries."""
        self._node.forget_connections()

    def size(self) -> int:
        """How many entries there are."""
        return self._node.connections()

    def check_size(self, expected: int) -> None:
        """See that no packet has changed the number of entries."""
        if self.size() != expected:
            raise InputError(f"a table of {expected} assured entries has {self.size()} after packets were refused")

    @staticmethod
    def limit_to(entries: int) -> None:
        """Have no table of this kernel hold more."""
        _LIMIT.write_text(str(entries), "ascii")


def _others(start: int, end: int) -> list[Flow]:
    """Connections of others, by number."""
    return [
        Flow(f"10.200.0.{number // _FLOWS_PER_SOURCE + 1}", 10_000 + number % _FLOWS_PER_SOURCE, lanes.SERVER, 80)
        for number in range(start, end)
    ]


def _timed(burst: Burst) -> float:
    burst.send(0, _WARM_UP_FRAMES)
    return burst.send(_WARM_UP_FRAMES, burst.frames) / (burst.frames - _WARM_UP_FRAMES)
