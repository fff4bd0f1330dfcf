"""Where packets were dropped: on which machine, and at which limit of the scenario."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from kubesim.scenario.stations import LIMITS

if TYPE_CHECKING:
    from kubesim.scenario.stations import Station
    from kubesim.scenario.totals import Totals

SOCKET_BUFFER = "socket buffer"
CONNTRACK, SNAT_PORTS = "conntrack.max_entries", "conntrack.snat_ports"


def drops(stations: list[Station], totals: Totals, conntrack: pd.DataFrame, snat_ports: pd.DataFrame) -> pd.DataFrame:
    """Say where packets were dropped.

    Parameters
    ----------
    stations, totals
        What served packets, and how many it dropped.
    conntrack, snat_ports
        The same of tables.

    Returns
    -------
    DataFrame
        One row per machine and limit that packets met there, in the order of their names: ``host``, ``limit``,
        ``dropped_packets``, ``first_drop_ns``.
    """
    columns = ["host", "limit", "dropped_packets", "first_drop_ns"]
    rows = [
        (stations[one].host, _limit_of(stations[one]), int(totals.dropped_packets[one]), int(totals.first_drop_ns[one]))
        for one in np.flatnonzero(totals.dropped_packets).tolist()
    ]
    for use, limit in ((conntrack, CONNTRACK), (snat_ports, SNAT_PORTS)):
        full = use[use["dropped_packets"] > 0]
        rows += [(host, limit, *drop) for host, *drop in full[["node", *columns[2:]]].itertuples(index=False)]
    found = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(columns[2:], np.int64))
    measures = {"dropped_packets": ("dropped_packets", "sum"), "first_drop_ns": ("first_drop_ns", "min")}
    return found.groupby(["host", "limit"], as_index=False).agg(**measures)


def _limit_of(station: Station) -> str:
    field = LIMITS.get(station.kind)
    return SOCKET_BUFFER if field is None else f"hardware.{field}"
