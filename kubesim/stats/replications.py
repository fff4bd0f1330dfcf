"""The interval of a measure over replications of one combination of levels: every table and verdict takes it from here.

Percentiles of latencies are those of all replications together, the rest are means over replications; see
:mod:`kubesim.stats.intervals` for why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from kubesim.stats.intervals import Interval, mean_interval, percentile_interval
from kubesim.stats.measures import PERCENTILES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    import pandas as pd

    from kubesim.stats.latencies import Latencies

_PERCENTS = {f"latency_{name}_ns": percent for name, percent in PERCENTILES.items()}


def is_latency_percentile(measure: str) -> bool:
    """Whether a measure is taken from all replications together, where their latencies are kept."""
    return measure in _PERCENTS


def replications_interval(measure: str, values: npt.ArrayLike, latencies: Sequence[Latencies | None] = ()) -> Interval:
    """A measure over replications of one combination.

    Parameters
    ----------
    measure
        Its name.
    values : array of float, shape (r,)
        The measure in each replication; one that is not finite makes the whole unknown.
    latencies
        What is kept of the latencies of each; none, or None for one of which nothing is kept, for Student's t in place
        of Woodruff's interval.
    """
    found = np.asarray(values, float)
    if measure not in _PERCENTS or not np.isfinite(found).all():
        return mean_interval(found)
    known = [one for one in latencies if one is not None]
    if not known or len(known) < len(found):
        return mean_interval(found)
    return percentile_interval([one.spread() for one in known], _PERCENTS[measure])


def interval_of_rows(measure: str, rows: pd.DataFrame, latencies: Mapping[int, Latencies]) -> Interval:
    """A measure over the runs that a cell of a table is about.

    Where it is about several combinations of levels, their latencies do not belong together: then percentiles are
    averaged within each replication, and it is Student's t over these means, as for all other measures.

    Parameters
    ----------
    measure
        Its name.
    rows
        One row per run, with ``replication`` and the measure; if there are latencies, factors are the columns between
        ``run`` and ``replication``.
    latencies
        What is kept of the latencies of runs, by their numbers.
    """
    if latencies and is_latency_percentile(measure) and _is_one_combination(rows):
        kept = [latencies.get(number) for number in rows["run"].tolist()]
        return replications_interval(measure, rows[measure], kept)
    return mean_interval(rows.groupby("replication")[measure].mean())


def _is_one_combination(rows: pd.DataFrame) -> bool:
    """Whether runs differ in nothing but their replication."""
    columns = list(rows.columns)
    factors = columns[columns.index("run") + 1 : columns.index("replication")]
    return bool((rows[factors].nunique(dropna=False) <= 1).all())
