"""The directory of a single run.

``transactions.parquet``
    One row per transaction.
``breakdown.*``, ``utilisation.*``
    Where the time goes, by operation and by station.
``conntrack.*``, ``snat_ports.*``
    How full nodes' conntrack tables were, and how many ports translated sources had, where the scenario limits them.
``drops.*``
    Where packets were dropped, and which limit that was, if any were.
``packets.*``, ``hops.*``
    One row per packet and visit, or hop, where asked for. CSV beside each table where asked for.
``summary.json``, ``scenario.json``, ``manifest.json``
    Measures, the scenario with all defaults, and what made it all.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Any

from kubesim.files import MANIFEST, prepare_directory, write_text
from kubesim.tables import write_table

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from kubesim.scenario.result import Result
    from kubesim.scenario.summary import Summarised


def save_result(result: Result, directory: Path, *, with_packets: bool = False, with_csv: bool = False) -> None:
    """Write a result's tables and its manifest.

    Parameters
    ----------
    result
        What to write.
    directory
        Where; made if it is not there.
    with_packets
        Write the tables of packets and hops too, which are large.
    with_csv
        Write tables as CSV, too.

    Raises
    ------
    OutputError
        If the directory cannot be written, or holds something else.
    """
    prepare_directory(directory, "run")
    tables = {
        "transactions": result.transactions,
        "breakdown": result.breakdown,
        "utilisation": result.utilisation,
    }
    if result.scenario.conntrack is not None:
        tables |= {"conntrack": result.conntrack, "snat_ports": result.snat_ports}
    if len(result.drops):
        tables["drops"] = result.drops
    if with_packets:
        tables |= {"packets": result.packets(), "hops": result.hops()}
    for name, frame in tables.items():
        write_table(directory / name, _with_origin(frame, result), result.provenance, with_csv=with_csv)
    write_text(directory / "summary.json", _json({**summary_as_json(result), **result.provenance}))
    write_text(directory / "scenario.json", _json(json.loads(result.provenance["scenario"])))
    manifest = {
        "kind": "run",
        "name": result.scenario.name,
        "kubesim_version": result.provenance["kubesim_version"],
        "provenance": result.provenance,
        "notices": list(result.notices),
        "refusals": result.refusals,
        "tables": sorted(tables),
    }
    write_text(directory / MANIFEST, _json(manifest))


def summary_as_json(result: Summarised) -> dict[str, Any]:
    """The summary with null in place of what is not a number."""
    return {
        name: value if not isinstance(value, float) or isfinite(value) else None
        for name, value in result.summary.items()
    }


def _with_origin(frame: pd.DataFrame, result: Result) -> pd.DataFrame:
    """The table with columns that say which run made its rows."""
    origin = result.provenance
    return frame.assign(
        kubesim_version=origin["kubesim_version"],
        seed=result.scenario.seed,
        cost_set=origin["cost_set"],
        scenario_sha256=origin["scenario_sha256"],
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, allow_nan=False) + "\n"
