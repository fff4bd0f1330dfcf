"""Nanoseconds per packet on the kernel this runs on, for ways through a node: ``python -m kubesim.twin.bursts``.

Frames go from a pod's interface with a thousand of them in each system call, so that what a system call costs, which
in a user-mode kernel is much, hardly counts. Ways are timed in turn, round after round; what counts are differences
between ways of one run. Needs root, ``ip`` and ``bridge``; what else is missing leaves out the ways that use it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kubesim.errors import InputError, KubesimError
from kubesim.twin import full_table, lanes
from kubesim.twin.frames import Burst
from kubesim.twin.lanes import Lane, Site
from kubesim.twin.uml import run_in_user_mode

Design = Callable[[Site, str], list[Lane]]

MODULES = (
    "veth", "bridge", "vxlan", "ipip", "geneve", "ip_tables", "iptable_filter", "iptable_nat", "xt_comment",
    "xt_tcpudp", "xt_conntrack", "xt_nat", "nf_conntrack", "nf_conntrack_netlink", "ip_vs", "ip_vs_rr", "ip_vs_lc",
)  # fmt: skip
"""Kernel modules that the ways need, where they are not built in or loaded on demand."""

WIDE_TABLE = "ip_vs conn_tab_bits=16"
"""What to load instead of ``ip_vs`` to time ways: connections of one way must not lengthen the chains of the next."""

SERVICES = (1, 100, 1000, 10_000)
BUCKET_ITEMS = (0, 16, 64, 256)
SERVERS = (1, 10, 100, 1000)
CONNECTIONS = (0, 4096, 16_384, 65_536, 262_144)

_WARM_UP_FRAMES = 256
_MEMORY_MIB = 1024
_FRAMES_PER_SOURCE = 32_768
_STEP = 7
_EXPIRY_S = lanes.CONNECTION_S + 0.4  # none expires while ways are timed, all have before the next round


@dataclass(frozen=True)
class Timing:
    """What a packet of a way takes.

    Parameters
    ----------
    best_decile_ns, median_ns
        Over the bursts.
    error_ns
        Standard error of the best decile, from halves of the bursts.
    """

    best_decile_ns: float
    median_ns: float
    error_ns: float

    @classmethod
    def of(cls, bursts_ns: list[float]) -> Timing:
        """Sum up bursts, each in nanoseconds per packet.

        >>> Timing.of([10.0, 11.0, 10.0, 30.0]).median_ns
        10.5
        """
        halves = [decile(bursts_ns[0::2]), decile(bursts_ns[1::2] or bursts_ns)]
        return cls(decile(bursts_ns), statistics.median(bursts_ns), abs(halves[0] - halves[1]) / 2)


def decile(values: list[float]) -> float:
    """The mean of the best tenth, at least one."""
    best = sorted(values)[: max(1, len(values) // 10)]
    return statistics.fmean(best)


def designs() -> dict[str, Design]:
    """All ways by name."""
    found: dict[str, Design] = {
        "bridge": lanes.bridged,
        "routed": lanes.plain,
        "routed, conntrack": lanes.tracked,
        "local": lanes.local_sink,
        "ipvs passing by": lanes.ipvs_passing_by,
        "ipvs": partial(lanes.ipvs_services, services=1, has_conntrack=False),
    }
    for ending, at_wire in (("", False), (" to the wire", True)):
        found[f"host-gw{ending}"] = partial(lanes.host_gateway, at_wire=at_wire)
        found[f"ipip{ending}"] = partial(lanes.ip_tunnel, at_wire=at_wire)
        for kind in ("vxlan", "geneve"):
            found[f"{kind}{ending}"] = partial(lanes.ethernet_tunnel, kind=kind, at_wire=at_wire)
    for services in SERVICES:
        found[f"iptables, {services} services"] = partial(lanes.iptables_services, services=services)
        found[f"ipvs, {services} services"] = partial(lanes.ipvs_services, services=services, has_conntrack=True)
    for items in BUCKET_ITEMS:
        found[f"ipvs miss, {items} in bucket"] = partial(lanes.ipvs_missed, bucket_items=items)
    for scheduler in ("rr", "lc"):
        for servers in SERVERS:
            found[f"ipvs {scheduler}, {servers} servers"] = partial(
                lanes.ipvs_servers, scheduler=scheduler, servers=servers
            )
    return found


class Measurement:
    """Ways built once and timed in turn.

    Parameters
    ----------
    stack
        Takes the namespaces.
    frames
        Frames per burst.
    """

    def __init__(self, stack: contextlib.ExitStack, frames: int) -> None:
        self._stack = stack
        self._frames = frames
        self._bursts: dict[str, tuple[Lane, Burst]] = {}
        self.ns: dict[str, list[float]] = {}
        self.missing: dict[str, str] = {}

    @property
    def ways(self) -> list[str]:
        """Names of the ways that can be timed."""
        return list(self._bursts)

    def build(self, chosen: dict[str, Design]) -> None:
        """Build ways; those that cannot be are noted with the reason."""
        for name, design in chosen.items():
            attempt = contextlib.ExitStack()
            try:
                made = design(Site(attempt), name)
                bursts = [Burst(lane.pod, "eth0", lane.frames(_WARM_UP_FRAMES + self._frames)) for lane in made]
            except (KubesimError, OSError) as error:
                attempt.close()
                self.missing[name] = str(error)
                continue
            self._stack.enter_context(attempt)
            for lane, burst in zip(made, bursts, strict=True):
                self._stack.callback(burst.close)
                self._bursts[lane.name] = (lane, burst)

    def check(self) -> None:
        """Leave out the ways on which packets do not arrive."""
        for name, (lane, burst) in list(self._bursts.items()):
            before = lane.arrived()
            burst.send(0, _WARM_UP_FRAMES)
            arrived = lane.arrived() - before
            self._forget(lane)
            if arrived < _WARM_UP_FRAMES:  # more may: neighbour discovery, router solicitation
                self.missing[name] = f"{arrived} of {_WARM_UP_FRAMES} packets arrive"
                del self._bursts[name]

    def round(self, number: int) -> None:
        """Time each way once; each round starts with another, as tables fill on the way."""
        ways = list(self._bursts.items())
        start = number * _STEP % len(ways)
        for name, (lane, burst) in ways[start:] + ways[:start]:
            burst.send(0, _WARM_UP_FRAMES)
            spent_ns = burst.send(_WARM_UP_FRAMES, burst.frames)
            self.ns.setdefault(name, []).append(spent_ns / (burst.frames - _WARM_UP_FRAMES))
            self._forget(lane)  # conntrack has one table for all namespaces

    @staticmethod
    def _forget(lane: Lane) -> None:
        if lane.has_conntrack and lane.node is not None:
            lane.node.forget_connections()


def measure_chains(connections: tuple[int, ...], rounds: int, frames: int) -> dict[str, Any]:
    """Time packets that pass by IPVS with more and more connections in its table, beside packets without IPVS.

    Parameters
    ----------
    connections
        Numbers of connections, rising. The kernel has one table for all namespaces, so that these cannot be in turn.
    rounds
        Bursts per way and number.
    frames
        Frames per burst.
    """
    ways: dict[str, Design] = {
        "routed": partial(lanes.plain, flows=None),
        "ipvs passing by": partial(lanes.ipvs_passing_by, flows=None),
    }
    ns: dict[str, dict[int, dict[str, float]]] = {name: {} for name in ways}
    with contextlib.ExitStack() as stack:
        (filler,) = lanes.ipvs_keeping(Site(stack), "filler")
        measurement = Measurement(stack, frames)
        measurement.build(ways)
        if measurement.missing:
            raise InputError(next(iter(measurement.missing.values())))
        made = 0
        for number in connections:
            while made < number:
                count = min(_FRAMES_PER_SOURCE, number - made)
                source = f"10.200.{made // _FRAMES_PER_SOURCE // 250}.{made // _FRAMES_PER_SOURCE % 250 + 1}"
                with contextlib.closing(Burst(filler.pod, "eth0", filler.frames(count, source))) as burst:
                    before = filler.arrived()
                    burst.send(0, count)
                if filler.arrived() - before < count:
                    raise InputError(f"the connection table does not take {number} connections")
                made += count
            measurement.ns.clear()
            for repeat in range(rounds):
                measurement.round(repeat)
            for name, values in measurement.ns.items():
                ns[name][number] = vars(Timing.of(values))
    return {**provenance(rounds, frames), "ns_per_packet_by_connections": ns}


def measure_full_table(rounds: int, frames: int) -> dict[str, Any]:
    """Time new connections in a full conntrack table, and what they are to be compared with.

    Parameters
    ----------
    rounds
        Bursts per way.
    frames
        Frames per burst.
    """
    evicting = {full_table.EVICTABLE_ENTRIES: full_table.measure_evicting(rounds, frames)}
    ns: dict[str, dict[int, dict[str, float]]] = {}
    for entries, bursts in [*full_table.measure_refused(full_table.ENTRIES, rounds, frames).items(), *evicting.items()]:
        for way, values in bursts.items():
            ns.setdefault(way, {})[entries] = vars(Timing.of(values))
    return {**provenance(rounds, frames), "ns_per_packet_by_entries": ns}


def measure(chosen: dict[str, Design], rounds: int, frames: int) -> dict[str, Any]:
    """Time ways, and give what a packet takes on each.

    Parameters
    ----------
    chosen
        The ways.
    rounds
        Bursts per way.
    frames
        Frames per burst.
    """
    with contextlib.ExitStack() as stack:
        measurement = Measurement(stack, frames)
        measurement.build(chosen)
        measurement.check()
        if not measurement.ways:
            raise InputError(f"nothing can be timed: {next(iter(measurement.missing.values()))}")
        for number in range(rounds):
            time.sleep(_EXPIRY_S)
            measurement.round(number)
    return {
        **provenance(rounds, frames),
        "ns_per_packet": {name: vars(Timing.of(values)) for name, values in measurement.ns.items()},
        "missing": measurement.missing,
    }


def provenance(rounds: int, frames: int) -> dict[str, Any]:
    """Where and how it was measured."""
    return {"kernel": platform.release(), "rounds": rounds, "frames": frames}


def processor(cpuinfo: str) -> str:
    """The processor's name, by the text of ``/proc/cpuinfo``."""
    names = (line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name"))
    return next(names, platform.machine())


def measure_in_user_mode(arguments: list[str], limit_s: float) -> dict[str, Any]:
    """Run this program in a user-mode kernel, and give what it prints.

    Parameters
    ----------
    arguments
        Its arguments.
    limit_s
        When to give up.

    Raises
    ------
    InputError
        If there is no user-mode kernel, it does not boot, or the program fails.
    """
    program = ["-m", "kubesim.twin.bursts", *arguments]
    found: dict[str, Any] = run_in_user_mode(
        program, modules=_modules(arguments), memory_mib=_MEMORY_MIB, limit_s=limit_s
    )
    return found


def _modules(arguments: list[str]) -> tuple[str, ...]:
    """What a run of this program needs."""
    if "--connections" in arguments:
        return MODULES
    own = full_table.MODULES if "--full-table" in arguments else (WIDE_TABLE,)
    replaced = {one.partition(" ")[0] for one in own}
    return (*own, *(one for one in MODULES if one not in replaced))


def main(arguments: list[str] | None = None) -> None:
    """Measure, and print the result as JSON."""
    parser = argparse.ArgumentParser(prog="python -m kubesim.twin.bursts", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="bursts per way")
    parser.add_argument("--frames", type=int, default=4096, help="frames per burst")
    parser.add_argument("--only", default="", help="ways whose name has this in it")
    parser.add_argument("--connections", action="store_true", help="time IPVS's connection table instead")
    parser.add_argument("--full-table", action="store_true", help="time new connections in a full conntrack table")
    parser.add_argument("--user-mode", action="store_true", help="in a user-mode kernel, which has IPVS, IPIP, Geneve")
    parser.add_argument("--limit", type=float, default=600, help="seconds until a user-mode kernel is given up")
    given = parser.parse_args(arguments)
    try:
        result = _measure_as(given)
        result["machine"] = processor(Path("/proc/cpuinfo").read_text("utf-8"))
    except KubesimError as error:
        parser.exit(2, f"{error}\n")
    json.dump(result, sys.stdout, indent=1)
    sys.stdout.write("\n")


def _measure_as(given: argparse.Namespace) -> dict[str, Any]:
    """Measure what the command line says."""
    if given.user_mode:
        same = ["--rounds", str(given.rounds), "--frames", str(given.frames), "--only", given.only]
        kinds = {"--connections": given.connections, "--full-table": given.full_table}
        return measure_in_user_mode([*same, *(option for option, is_given in kinds.items() if is_given)], given.limit)
    if given.full_table:
        return measure_full_table(given.rounds, given.frames)
    if given.connections:
        return measure_chains(CONNECTIONS, given.rounds, given.frames)
    chosen = {name: design for name, design in designs().items() if given.only in name}
    if not chosen:
        raise InputError(f"there is no way with {given.only!r} in its name; known: {', '.join(designs())}")
    return measure(chosen, given.rounds, given.frames)


if __name__ == "__main__":
    main()
