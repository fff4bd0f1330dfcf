"""From timed ways to prices of operations: ``python -m kubesim.twin.operations runs.json…`` prints them.

A price is a difference between two ways of one run that differ by the operation. Several runs, each in a kernel started
anew, give its uncertainty: memory lies otherwise each time.

A user-mode kernel is built for one processor: no locks, no atomic instructions, no mitigations. ``--host`` takes a run
on the host's kernel; fixed prices are then multiplied by what :func:`kernel_ratio` says of ways that both have. Prices
per item are loads and compares, and are left as they are.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubesim.cost import DEFAULT_COST_SET, load_cost_set
from kubesim.errors import InputError, KubesimError
from kubesim.files import read_text
from kubesim.twin import full_table

CONNECTION_BUCKETS = 4096
"""Buckets of IPVS's connection table by default (``conn_tab_bits`` 12)."""

Ways = Mapping[str, float]

_BY_NUMBER = "ns_per_packet_by_"


@dataclass(frozen=True)
class Estimate:
    """A number from several runs.

    Parameters
    ----------
    value
        The mean.
    error
        Its standard error; None from one run.
    """

    value: float
    error: float | None

    @classmethod
    def of(cls, values: list[float]) -> Estimate:
        """The mean of runs.

        >>> Estimate.of([9.0, 11.0])
        Estimate(value=10.0, error=1.0)
        """
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
        return cls(statistics.fmean(values), error)


def slope(points: list[tuple[float, float]]) -> float:
    """The slope of the line of least squares.

    >>> slope([(0, 1.0), (1, 3.0), (2, 5.0)])
    2.0
    """
    across, up = zip(*points, strict=True)
    return statistics.linear_regression(across, up).slope


_PAIRS = (
    ("routed, conntrack, established", "routed"),
    ("routed, conntrack, new", "routed, conntrack, established"),
    ("iptables, 1 services, new", "iptables, 1 services, established"),
    ("vxlan", "host-gw"),
    ("vxlan to the wire", "host-gw to the wire"),
)


def kernel_ratio(ways: Ways, others: Ways) -> Estimate:
    """How much longer the same work takes in the kernel of ``others``: geometric mean over differences of ways.

    Its error is the standard deviation over them, not that of the mean: it is for use on one operation.
    """
    logarithms = [math.log((others[more] - others[less]) / (ways[more] - ways[less])) for more, less in _PAIRS]
    value = math.exp(statistics.fmean(logarithms))
    return Estimate(value, value * statistics.stdev(logarithms))


def operation_prices(ways: Ways, assumed: Mapping[str, float], scale: float = 1.0) -> dict[str, float]:
    """Prices of IPVS's operations from ways of one run.

    Parameters
    ----------
    ways
        Nanoseconds per packet by the names of :func:`kubesim.twin.bursts.designs`.
    assumed
        What cannot be told apart here and is taken from elsewhere: ``ip_forward`` and ``ipvs_schedule``.
    scale
        What fixed prices are multiplied by.
    """
    look = ways["ipvs passing by"] - ways["routed"]
    bucket = slope([(items, ways[f"ipvs miss, {items} in bucket"]) for items in (0, 16, 64, 256)])
    service = ways["ipvs miss, 0 in bucket"] - ways["local"] - 2 * look
    # The two are the same work; in the first the connection table has left the caches, in the second it is in them.
    opening = (ways["ipvs, new"] + ways["ipvs rr, 1 servers"]) / 2 - ways["ipvs, established"]
    passing = ways["ipvs, established"] - ways["routed"]
    return {
        "ipvs_connection_lookup fixed_ns": scale * look,
        "ipvs_service_lookup fixed_ns": scale * service,
        "ipvs_service_lookup ns_per_item": bucket,
        "ipvs_schedule ns_per_item": _scan(ways, 1, 100),
        "ipvs_schedule ns_per_item above 100": _scan(ways, 100, 1000),
        "ipvs_connection_new fixed_ns": scale * (opening - service) - bucket - assumed["ipvs_schedule"],
        "ipvs_nat fixed_ns": scale * (passing - 2 * look) + assumed["ip_forward"],
        "iptables_rule ns_per_item": _rules(ways, 1, 1000),
        "iptables_rule ns_per_item above 1000": _rules(ways, 1000, 10_000),
    }


def _scan(ways: Ways, few: int, many: int) -> float:
    """What a scheduler that looks at all servers takes for each, less what one that does not takes with as many."""
    more = {name: ways[f"ipvs {name}, {many} servers"] - ways[f"ipvs {name}, {few} servers"] for name in ("lc", "rr")}
    return (more["lc"] - more["rr"]) / (many - few)


def _rules(ways: Ways, few: int, many: int) -> float:
    more = ways[f"iptables, {many} services, new"] - ways[f"iptables, {few} services, new"]
    return more / (many - few)


def ratios(ways: Ways) -> dict[str, float]:
    """How ways of one run compare."""
    found = {}
    for tunnel in ("ipip", "geneve"):
        for ending in ("", " to the wire"):
            extra = {name: ways[f"{name}{ending}"] - ways[f"host-gw{ending}"] for name in (tunnel, "vxlan")}
            found[f"{tunnel}/vxlan{ending}"] = extra[tunnel] / extra["vxlan"]
    for services in (1, 100, 1000, 10_000):
        for kind in ("new", "established"):
            extra = {
                name: ways[f"{name}, {services} services, {kind}"] - ways["routed"] for name in ("ipvs", "iptables")
            }
            found[f"ipvs/iptables, {services} services, {kind}"] = extra["ipvs"] / extra["iptables"]
    return found


def chain_prices(by_connections: Mapping[str, Mapping[int, float]]) -> dict[str, float]:
    """Nanoseconds per entry of a chain of the connection table, from packets that look through a whole chain.

    Parameters
    ----------
    by_connections
        Nanoseconds per packet by the number of connections, for each way of
        :func:`kubesim.twin.bursts.measure_chains`.
    """
    look = {number: ns - by_connections["routed"][number] for number, ns in by_connections["ipvs passing by"].items()}
    *_, some, many = sorted(look)
    length, longer = some / CONNECTION_BUCKETS, many / CONNECTION_BUCKETS
    return {
        "ipvs_connection_lookup ns_per_item": (look[some] - look[0]) / length,
        f"ipvs_connection_lookup ns_per_item above {length:.0f}": (look[many] - look[some]) / (longer - length),
    }


def full_table_prices(
    by_entries: Mapping[str, Mapping[int, float]], assumed: Mapping[str, float], scale: float = 1.0
) -> dict[str, float]:
    """Prices of what a new connection takes in a full conntrack table.

    Parameters
    ----------
    by_entries
        Nanoseconds per packet by the number of entries, for each way of
        :func:`kubesim.twin.bursts.measure_full_table`.
    assumed
        What only the packet pays that a rule drops and is taken from elsewhere: ``iptables_table``, ``iptables_rule``.
    scale
        What fixed prices are multiplied by.
    """
    refused, dropped = by_entries[full_table.REFUSED], by_entries[full_table.DROPPED]
    points = [
        (full_table.entries_searched(entries), refused[entries] - dropped[entries]) for entries in sorted(refused)
    ]
    per_entry = slope(points)
    fixed = min(points)[1] - min(points)[0] * per_entry
    (evicting,), (new,) = by_entries[full_table.EVICTING].values(), by_entries[full_table.NEW].values()
    return {
        "conntrack_early_drop fixed_ns": scale * fixed + assumed["iptables_table"] + assumed["iptables_rule"],
        "conntrack_early_drop ns_per_item": per_entry,
        "conntrack_evict fixed_ns": scale * (evicting - new - fixed - per_entry),
    }


def summarise(runs: list[dict[str, Any]], host: dict[str, Any] | None = None) -> dict[str, dict[str, Estimate]]:
    """Prices and ratios from several runs.

    Parameters
    ----------
    runs
        What :mod:`kubesim.twin.bursts` prints.
    host
        A run on a kernel whose prices are wanted, although it lacks some of the ways.

    Raises
    ------
    InputError
        If a run lacks a way.
    """
    costs = load_cost_set(DEFAULT_COST_SET)
    assumed = {name: float(costs.price_ns(name, items=0)) for name in ("ip_forward", "ipvs_schedule", "iptables_table")}
    assumed["iptables_rule"] = float(costs.price_ns("iptables_rule", items=1))
    try:
        ways = [_best(run["ns_per_packet"]) for run in runs if "ns_per_packet" in run]
        chains = [_by_number(run, "connections") for run in runs if _BY_NUMBER + "connections" in run]
        full = [_by_number(run, "entries") for run in runs if _BY_NUMBER + "entries" in run]
        scales = [kernel_ratio(one, _best(host["ns_per_packet"])) for one in ways] if host else []
        factors = [scale.value for scale in scales] or [1.0] * len(ways)
        found = [operation_prices(one, assumed, factor) for one, factor in zip(ways, factors, strict=True)]
        found += [chain_prices(one) for one in chains]
        found += [full_table_prices(one, assumed, statistics.fmean(factors or [1.0])) for one in full]
        compared = [ratios(one) for one in ways]
    except KeyError as error:
        raise InputError(f"a run lacks the way {error}") from None
    spread = {"host/user mode": scales[0]} if scales else {}
    return {"operations": _gather(found), "ratios": _gather(compared) | spread}


def _best(timings: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {name: timing["best_decile_ns"] for name, timing in timings.items()}


def _by_number(run: Mapping[str, Any], of: str) -> dict[str, dict[int, float]]:
    return {
        way: {int(number): timing["best_decile_ns"] for number, timing in timings.items()}
        for way, timings in run[_BY_NUMBER + of].items()
    }


def _gather(runs: list[dict[str, float]]) -> dict[str, Estimate]:
    names = dict.fromkeys(name for run in runs for name in run)
    return {name: Estimate.of([run[name] for run in runs if name in run]) for name in names}


def main(arguments: list[str] | None = None) -> None:
    """Print prices and ratios from files of runs."""
    parser = argparse.ArgumentParser(prog="python -m kubesim.twin.operations", description="prices from timed ways")
    parser.add_argument("runs", nargs="+", type=Path, help="what kubesim.twin.bursts prints")
    parser.add_argument("--host", type=Path, help="a run on the host's kernel, to whose prices others are brought")
    given = parser.parse_args(arguments)
    try:
        host = json.loads(read_text(given.host)) if given.host else None
        found = summarise([json.loads(read_text(file)) for file in given.runs], host)
    except (KubesimError, json.JSONDecodeError) as error:
        parser.exit(2, f"{error}\n")
    for part, estimates in found.items():
        sys.stdout.write(f"{part}\n")
        for name, estimate in estimates.items():
            error_text = "" if estimate.error is None else f" ± {estimate.error:.2f}"
            sys.stdout.write(f"  {name:45} {estimate.value:8.2f}{error_text}\n")


if __name__ == "__main__":
    main()
