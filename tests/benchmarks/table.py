"""kubesim's engines among other simulators, on the same tandem, and whole runs among more and more Services.

Each figure is the best of some rounds, in which all take turns; seconds are those of the processor. Slow simulators get
fewer packets. A program of its own plays each, so that each has its own peak of memory.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console
from rich.table import Table

from tests.benchmarks.simulators import NAMES

LOOP = "kubesim_loop"
LOOP_STEP, BOTH, PARTS, WHOLE = "engine's loop", "plan and engine's loop", "plan, engine and counting", "whole run"
"""Steps of :mod:`tests.benchmarks.steps`, which imports more than this may."""

SERVICES, TRANSACTIONS = (10, 1_000, 100_000), 1_000_000

FAST = {LOOP, "kubesim_compiled", "numba_loop"}
NEEDS = {"ns_py": "ns", "salabim": "salabim", "ciw": "ciw"}


FEWEST, STATIONS, MORE_STATIONS = 4_000, 5, 20
MORE_PACKETS = {False: (32_000,), True: (32_000, 1_000_000)}
"""The larger sizes, of slow simulators and of fast ones."""


@dataclass
class Case:
    """One simulator on one tandem, and what its rounds took."""

    name: str
    packets: int
    stations: int
    seconds: list[float] = field(default_factory=list)
    peak_mib: float = 0.0
    answers: set[str] = field(default_factory=set)

    def measure(self) -> None:
        """Play it once more."""
        command = [sys.executable, "-m", "tests.benchmarks.one", self.name, str(self.packets), str(self.stations)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        self.seconds.append(found["seconds"])
        self.peak_mib = max(self.peak_mib, found["peak_mib"])
        self.answers.add(found["answer"])

    def packets_per_s(self) -> float:
        """In the best round."""
        return self.packets / min(self.seconds)


def cases(names: list[str]) -> Iterator[Case]:
    """What is played: more packets through five stations, then few packets through more of them."""
    for name in names:
        for packets in (FEWEST, *MORE_PACKETS[name in FAST]):
            yield Case(name, packets, STATIONS)
        yield Case(name, FEWEST, MORE_STATIONS)


def check(played: list[Case]) -> None:
    """Stop if two simulators give different answers to the same question."""
    answers: dict[tuple[int, int], set[str]] = {}
    for one in played:
        answers.setdefault((one.packets, one.stations), set()).update(one.answers)
    different = [size for size, found in answers.items() if len(found) > 1]
    if different:
        sys.exit(f"different departure times with (packets, stations): {different}")


def show(played: list[Case], console: Console) -> None:
    """Print how fast each is, what it needs, and how that grows."""
    table = Table(title="open tandem, load 0.8, capacity 100, fixed service: the same departure times from all")
    table.add_column("simulator")
    for heading in ("packets", "stations", "packets/s", "ns per visit", "peak MiB", "the loop is faster by"):
        table.add_column(heading, justify="right")
    loops = [one.packets_per_s() for one in played if one.name == LOOP and one.stations == STATIONS]
    before = None
    for one in played:
        if one.name != before:
            table.add_section()
        rate = one.packets_per_s()
        ratio = f"{max(loops) / rate:,.1f}" if loops and one.stations == STATIONS else ""
        visit_ns = f"{1e9 / rate / one.stations:,.0f}"
        row = [f"{one.packets:,}", str(one.stations), f"{rate:,.0f}", visit_ns, f"{one.peak_mib:,.0f}", ratio]
        table.add_row("" if one.name == before else NAMES[one.name], *row)
        before = one.name
    console.print(table)


@dataclass
class Run:
    """A whole run among so many Services, and what its rounds took."""

    services: int
    transactions: int
    found: list[dict[str, float]] = field(default_factory=list)

    def measure(self) -> None:
        """Run it once more."""
        command = [sys.executable, "-m", "tests.benchmarks.steps", str(self.services), str(self.transactions)]
        self.found.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))

    def row(self) -> list[str]:
        """What it came to in the best round of each step."""
        best = {name: min(one[name] for one in self.found) for name in self.found[0]}
        packet_ns = 1e9 / (2 * self.transactions)
        steps = [f"{best[step] * packet_ns:,.0f}" for step in (LOOP_STEP, BOTH, PARTS)]
        return [f"{self.services:,}", *steps, f"{best[WHOLE] - best[PARTS]:.2f}", f"{best['peak_mib']:,.0f}"]


def show_runs(runs: list[Run], console: Console) -> None:
    """Print what a packet costs among few Services, and among many."""
    table = Table(
        title=f"tcp_rr, {runs[0].transactions:,} transactions through a ClusterIP across VXLAN: ns per packet"
    )
    for heading in ("Services", "loop", "plan and loop", "plan, loop and counting", "set-up s", "peak MiB"):
        table.add_column(heading, justify="right")
    for run in runs:
        table.add_row(*run.row())
    console.print(table)


def installed(names: list[str], console: Console) -> list[str]:
    """The simulators that are there; say which are not."""
    missing = [name for name in names if importlib.util.find_spec(NEEDS.get(name, "sys")) is None]
    for name in missing:
        console.print(f"{NAMES[name]} is not installed: left out")
    return [name for name in names if name not in missing]
