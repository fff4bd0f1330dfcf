"""What the columns of results mean: the measures of a run's summary, and the columns of its breakdown."""

from __future__ import annotations

from typing import NamedTuple

from kubesim.stats.measures import PERCENTILES


class Column(NamedTuple):
    """What a column of a table holds.

    Parameters
    ----------
    unit
        Of its numbers: a unit, what is counted, or ``1`` for a share or ratio; empty for texts and truths.
    description
        What it is.
    """

    unit: str
    description: str


def _latencies() -> dict[str, Column]:
    """Latencies of transactions."""
    what = "latency of completed transactions, from socket to socket; not there if a queue grows without end"
    names = {"mean": "mean", **{name: f"{percent:g}th percentile of the" for name, percent in PERCENTILES.items()}}
    return {f"latency_{name}_ns": Column("ns", f"{said} {what}") for name, said in names.items()}


def _packets() -> dict[str, Column]:
    """Costs of packets, by kind."""
    kinds = {
        "first": "the packet that opens a connection, all chains of nat included",
        "established": "a later request of a connection",
        "reply": "a reply within a connection",
    }
    found: dict[str, Column] = {}
    for kind, what in kinds.items():
        found |= {
            f"{kind}_packet_ns": Column("ns", f"mean CPU time on all hosts together of {what}, over all flows"),
            f"{kind}_packet_p50_ns": Column("ns", f"median over flows of the CPU time of {what}"),
            f"{kind}_packet_p99_ns": Column("ns", f"99th percentile over flows of the CPU time of {what}"),
            f"{kind}_packet_rules": Column("rules", f"mean rules of iptables and nftables tested by {what}"),
        }
    return found


def _tables(prefix: str, places: str, table: str, place: str) -> dict[str, Column]:
    """How full a kind of table was; only where the scenario has ``conntrack``."""
    return {
        f"{prefix}_dropped_packets": Column("packets", f"packets dropped since {place} was free"),
        f"{prefix}_highest_{places}": Column(places, f"most {places} taken at any time in one {table}"),
        f"{prefix}_occupancy_ratio": Column("1", f"most {places} taken over those there are, of the fullest {table}"),
        f"{prefix}_first_drop_ns": Column("ns", f"time of the first packet for which {place} was free; none if never"),
    }


MEASURES: dict[str, Column] = {
    "transactions": Column("transactions", "transactions completed behind the warm-up"),
    "lost_transactions": Column("transactions", "transactions begun behind the warm-up and never completed"),
    "loss_ratio": Column("1", "lost transactions as a share of all behind the warm-up"),
    "warmup_transactions": Column(
        "transactions", "transactions of the warm-up, left out of times, rates and latencies"
    ),
    "duration_ns": Column("ns", "simulated time behind the warm-up"),
    "throughput_per_s": Column("1/s", "completed transactions per second of simulated time"),
    "goodput_bit_per_s": Column("bit/s", "payload of completed transactions per second of simulated time"),
    "wire_bit_per_s": Column("bit/s", "all that cards sent, headers included, per second of simulated time"),
    **_latencies(),
    **_packets(),
    "cpu_ns_per_transaction": Column("ns", "busy time of all cores of all hosts per completed transaction"),
    "cpu_s_per_gbit": Column(
        "s/Gbit", "busy time of all cores per Gbit of payload: the cores that 1 Gbit/s keeps busy"
    ),
    "busiest_core_utilisation": Column("1", "share of the time that the busiest core was busy"),
    "offered_load": Column("1", "work brought to the station that is offered most, over what it can do; may exceed 1"),
    "dropped_packets": Column("packets", "packets dropped by full queues and full tables, the warm-up's included"),
    "refused_flows": Column("connections", "connections that had no way to where they were to go"),
    "backlog_dropped_packets": Column(
        "packets", "packets dropped by full backlogs of RPS; only with hardware.rps_cores"
    ),
    **_tables("conntrack", "entries", "conntrack table", "no entry of a conntrack table"),
    **_tables("snat", "ports", "source address and destination", "no port of a translated source"),
    "update_rules": Column("rules", "rules and entries that a node's proxy writes for a change; only with update"),
    "update_bytes": Column("bytes", "length of the text or messages that say so; only with update"),
    "update_ns": Column("ns", "CPU time of that, with reading what is there where the proxy does; only with update"),
}
"""Everything that a run's summary may hold (:attr:`kubesim.scenario.Result.summary`); a test holds them together."""

BREAKDOWN: dict[str, Column] = {
    "operation": Column("", "function of kernel, card or network; `application` for what applications compute"),
    "calls": Column("calls", "how often it was done, for all packets played"),
    "items": Column("items", "rules, frames and the like that it was done for"),
    "total_ns": Column("ns", "mean cost of all of that"),
    "ns_per_transaction": Column("ns", "the same per transaction that was begun"),
    "share": Column("1", "share of all CPU time; none where it takes no CPU"),
    "is_cpu": Column("", "whether it takes CPU time: false for card, wire and switch"),
}
"""The columns of :attr:`kubesim.scenario.Result.breakdown`."""
