"""The table of a sweep that holds pictures of its runs' latencies: a row per run and rank."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pandas.api.types import is_integer_dtype

from kubesim.errors import InputError
from kubesim.stats.latencies import Latencies
from kubesim.tables import read_parquet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

TABLE = "latencies"
"""What it is called."""

_COLUMNS = ("run", "rank", "latency_ns")


def latency_table(kept: Mapping[int, Latencies]) -> pd.DataFrame:
    """The table of pictures, by the number of the run."""
    return pd.DataFrame(
        {
            "run": np.array([number for number, one in kept.items() for _ in one.ranks], np.int64),
            "rank": np.array([rank for one in kept.values() for rank in one.ranks], np.int64),
            "latency_ns": np.array([value for one in kept.values() for value in one.values_ns], np.int64),
        }
    )


def read_latencies(directory: Path) -> dict[int, Latencies]:
    """Pictures of the latencies of a sweep's runs, by the number of the run; none where the file is missing.

    Raises
    ------
    InputError
        If it is damaged.
    """
    path = directory / f"{TABLE}.parquet"
    if not path.exists():
        return {}
    table = read_parquet(path)
    if any(name not in table.columns or not is_integer_dtype(table[name]) for name in _COLUMNS):
        raise InputError(f"{path} is damaged: its columns are not {', '.join(_COLUMNS)}")
    return {int(rows["run"].iloc[0]): _picture(rows, path) for _, rows in table.groupby("run", sort=False)}


def _picture(rows: pd.DataFrame, path: Path) -> Latencies:
    """That of one run."""
    ranks, values = rows["rank"].to_numpy(), rows["latency_ns"].to_numpy()
    if ranks[0] != 1 or (np.diff(ranks) <= 0).any() or (np.diff(values) < 0).any():
        raise InputError(f"{path} is damaged: ranks and latencies of run {rows['run'].iloc[0]} do not rise")
    return Latencies(tuple(ranks.tolist()), tuple(values.tolist()))
