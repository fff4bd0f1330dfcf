"""Where packets were dropped: on which machine, and at which limit of the scenario."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kubesim.scenario.stations import LIMITS
from kubesim.scenario.table_use import refusals

if TYPE_CHECKING:
    from kubesim.engine import Trace
    from kubesim.scenario.planning import Planned
    from kubesim.scenario.stations import Station

SOCKET_BUFFER = "socket buffer"
CONNTRACK, SNAT_PORTS = "conntrack.max_entries", "conntrack.snat_ports"


def drops(planned: Planned, trace: Trace) -> pd.DataFrame:
    """Count what was dropped.

    Parameters
    ----------
    planned, trace
        What was played, and what came of it.

    Returns
    -------
    DataFrame
        One row per machine and limit that packets met there, in the order of their names: ``host``, ``limit``,
        ``dropped_packets``, ``first_drop_ns``.
    """
    plan, stations = planned.plan, planned.stations.all
    packet, visit = np.nonzero((trace.arrive_ns >= 0) & (trace.start_ns < 0))
    places = [(stations[one].host, _limit_of(stations[one])) for one in plan.station[packet, visit].tolist()]
    moments = trace.arrive_ns[packet, visit].tolist()
    if plan.tables is not None:
        packet, table = refusals(plan.tables, trace)
        places += [_table_place(planned, one) for one in table.tolist()]
        moments += trace.arrive_ns[packet, trace.refused_visit[packet]].tolist()
    found = pd.DataFrame(places, columns=["host", "limit"]).assign(moment_ns=np.array(moments, np.int64))
    measures = {"dropped_packets": ("moment_ns", "count"), "first_drop_ns": ("moment_ns", "min")}
    return found.groupby(["host", "limit"], as_index=False).agg(**measures)


def _table_place(planned: Planned, table: int) -> tuple[str, str]:
    """The node of a table, and the field that limits it."""
    nodes = len(planned.table_hosts)
    if table < nodes:
        return planned.table_hosts[table], CONNTRACK
    return planned.port_tables[table - nodes].host, SNAT_PORTS


def _limit_of(station: Station) -> str:
    field = LIMITS.get(station.kind)
    return SOCKET_BUFFER if field is None else f"hardware.{field}"
