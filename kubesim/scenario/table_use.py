"""How full tables were, of conntrack's entries and of translated ports, and who found no place in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from kubesim.engine import Int64Array, Tables, Trace
    from kubesim.scenario.flow_classes import SourceNat
    from kubesim.scenario.planning import Planned
    from kubesim.workload import Messages

_NEVER = np.iinfo(np.int64).max


def conntrack_use(planned: Planned, trace: Trace) -> pd.DataFrame:
    """One row per node with a conntrack table of limited size.

    Columns: ``node``, ``max_entries``, ``highest_entries`` (at any time, those of others included),
    ``dropped_packets`` for which there was no place, and ``first_drop_ns``, when that happened first (−1 if never).
    """
    nodes = list(planned.table_hosts)
    use = _use(planned, trace, np.arange(len(nodes)), "entries")
    return pd.concat([pd.DataFrame({"node": pd.Series(nodes, dtype=object)}), use], axis=1)


def snat_use(planned: Planned, trace: Trace) -> pd.DataFrame:
    """One row per node, source address and destination for which the node chooses ports.

    Columns: ``node``, ``address`` that the node sends from, ``destination`` with its port, ``protocol``,
    ``max_ports``, ``highest_ports``, ``dropped_packets`` and ``first_drop_ns``, as :func:`conntrack_use` has them.
    """
    ports = planned.port_tables
    owners = [(one.host, one.address, _destination(one), one.protocol) for one in ports]
    frame = pd.DataFrame(owners, columns=["node", "address", "destination", "protocol"], dtype=object)
    return pd.concat([frame, _use(planned, trace, len(planned.table_hosts) + np.arange(len(ports)), "ports")], axis=1)


def no_table_use() -> tuple[pd.DataFrame, pd.DataFrame]:
    """What :func:`conntrack_use` and :func:`snat_use` are where no table is of limited size."""
    owners = (["node"], "entries"), (["node", "address", "destination", "protocol"], "ports")
    conntrack, snat = (
        pd.concat([pd.DataFrame(columns=names, dtype=object), _no_use(places)], axis=1) for names, places in owners
    )
    return conntrack, snat


def measures(use: pd.DataFrame, prefix: str, places: str) -> dict[str, Any]:
    """What a summary says of some tables together; there may be none."""
    drops = use.loc[use["first_drop_ns"] >= 0, "first_drop_ns"]
    ratio = (use[f"highest_{places}"] / use[f"max_{places}"]).max() if len(use) else float("nan")
    return {
        f"{prefix}_dropped_packets": int(use["dropped_packets"].sum()),
        f"{prefix}_highest_{places}": int(use[f"highest_{places}"].max()) if len(use) else 0,
        f"{prefix}_occupancy_ratio": float(ratio),
        f"{prefix}_first_drop_ns": float(drops.min()) if len(drops) else float("nan"),
    }


def notice_of_ports(messages: Messages, planned: Planned, trace: Trace) -> str | None:
    """What to say if connections found no free port: how many, and where most of them did."""
    tables, first = planned.plan.tables, len(planned.table_hosts)
    if tables is None:
        return None
    packet, table = refusals(tables, trace)
    is_of_ports = table >= first
    flow = messages.flow[planned.message[packet[is_of_ports]]]
    counts = np.bincount(table[is_of_ports] - first, minlength=1)
    if not len(flow):
        return None
    worst, others = planned.port_tables[int(np.argmax(counts))], int(np.count_nonzero(counts)) - 1
    flows = len(np.unique(flow))
    who = "1 connection" if flows == 1 else f"{flows:,} connections"
    also = "" if not others else f", and towards {others} more" if others > 1 else ", and towards another"
    return f"{who} found no free port on {worst.host} towards {_destination(worst)}{also}"


def _destination(ports: SourceNat) -> str:
    assert ports.destination is not None  # noqa: S101 - a table's owner has one
    return f"{ports.destination.address}:{ports.destination.port}"


def refusals(tables: Tables, trace: Trace) -> tuple[Int64Array, Int64Array]:
    """The packets for which there was no place, and the table where."""
    packet = np.flatnonzero(trace.is_refused())
    return packet, tables.table[trace.refused_entry[packet]]


def _use(planned: Planned, trace: Trace, numbers: Int64Array, places: str) -> pd.DataFrame:
    """Places, the most that were taken, and drops of some tables."""
    tables = planned.plan.tables
    if tables is None:
        return _no_use(places)
    packet, table = refusals(tables, trace)
    drops = np.bincount(table, minlength=len(tables.capacity))
    first = np.full(len(drops), _NEVER)
    np.minimum.at(first, table, trace.arrive_ns[packet, trace.refused_visit[packet]])
    values = tables.capacity, trace.highest_occupancy, drops, np.where(drops > 0, first, -1)
    return pd.DataFrame({name: value[numbers] for name, value in zip(_no_use(places), values, strict=True)})


def _no_use(places: str) -> pd.DataFrame:
    """The columns of :func:`_use`, of no table."""
    columns = [f"max_{places}", f"highest_{places}", "dropped_packets", "first_drop_ns"]
    return pd.DataFrame(columns=columns, dtype=np.int64)
