"""Tables of runs, as a sweep writes them, with measures that a test chooses."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


def table_of_runs(
    factors: Mapping[str, Sequence[Any]],
    measure: Callable[..., float],
    *,
    replications: int = 3,
    name: str = "latency_p50_ns",
    seed: int = 1,
) -> pd.DataFrame:
    """All combinations of levels; the measure gets the levels by place and then the number of the replication."""
    rows: list[dict[str, Any]] = []
    for levels in itertools.product(*factors.values()):
        for replication in range(replications):
            rows.append(
                {
                    "run": len(rows),
                    **dict(zip(factors, levels, strict=True)),
                    "replication": replication,
                    name: measure(*levels, replication),
                    "kubesim_version": "1",
                    "seed": seed,
                    "cost_set": "c",
                    "scenario_sha256": "s",
                }
            )
    return pd.DataFrame(rows)
