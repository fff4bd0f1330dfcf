"""A plan that breaks the contract is refused by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from kubesim.engine import Plan, Tables
from kubesim.errors import PlanError


def plan(**changes: Any) -> Plan:
    """Two packets over two stations, with something changed."""
    fields: dict[str, Any] = {
        "release_ns": [0, 1],
        "station": [[0, 1], [1, -1]],
        "service_ns": [[5, 5], [5, 0]],
        "servers": [1, 2],
        "capacity": [1, -1],
    }
    return Plan(**{**fields, **changes})


def test_arrays_become_read_only_int64_copies() -> None:
    release = np.array([0, 1], np.int32)
    made = plan(release_ns=release)
    assert made.release_ns.dtype == np.int64
    release[0] = 99
    assert made.release_ns[0] == 0
    with pytest.raises(ValueError, match="read-only"):
        made.release_ns[0] = 1


def test_defaults_mean_none() -> None:
    made = plan()
    assert made.after.tolist() == [-1, -1]
    assert made.think_ns.tolist() == [0, 0]
    assert made.timeout_ns.tolist() == [-1, -1]
    assert made.wake_ns.tolist() == [0, 0]
    assert made.visit_counts().tolist() == [2, 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"release_ns": [0.5, 1.0]}, "release_ns holds float64 values"),
        ({"release_ns": [[0, 1]]}, "release_ns has 2 dimensions"),
        ({"release_ns": [-1, 0]}, "release_ns of packet 0: a time cannot be negative"),
        ({"release_ns": [0, 1, 2]}, "station has shape"),
        ({"service_ns": [[5], [5]]}, "service_ns has shape"),
        ({"service_ns": [[5, 0], [5, 0]]}, "service_ns of packet 0: service lasts at least 1 ns"),
        ({"station": [[0, 2], [1, -1]]}, "station of packet 0: there is no such station"),
        ({"station": [[0, 1], [-1, 1]]}, "station of packet 1: -1 may only pad the end"),
        ({"station": [[0, 1], [1, -2]]}, "station of packet 1: -1 is the only negative number"),
        ({"servers": [1, 0]}, "servers of station 1"),
        ({"capacity": [0, -1]}, "capacity of station 0"),
        ({"capacity": [1, 1]}, "capacity of station 1: fewer places than servers"),
        ({"capacity": [1]}, "capacity has 1 entries; it needs 2"),
        ({"after": [2, -1]}, "after of packet 0: there is no such packet"),
        ({"after": [1, 0]}, "after of packet 0: the packet waits, in the end, for itself"),
        ({"after": [0, -1]}, "after of packet 0: the packet waits, in the end, for itself"),
        ({"think_ns": [-1, 0]}, "think_ns of packet 0"),
        ({"timeout_ns": [-2, 0]}, "timeout_ns of packet 0"),
        ({"wake_ns": [-1, 0]}, "wake_ns of station 0"),
    ],
)
def test_a_broken_plan_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=f"plan: {message}".replace("(", r"\(")):
        plan(**changes)


def tables(**changes: Any) -> Tables:
    """A table with entries for the two packets of :func:`plan`, with something changed."""
    fields: dict[str, Any] = {
        "capacity": [2],
        "held": [0],
        "table": [0, 0],
        "entry": [[[0], [-1]], [[1], [-1]]],
        "keep_ns": [[5], [5]],
        "refused_ns": [[[1], [1]], [[1], [1]]],
    }
    return Tables(**{**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"capacity": [-1]}, "tables.capacity of table 0: a table cannot have fewer than 0 places"),
        ({"capacity": [1.5]}, "tables.capacity holds float64 values"),
        ({"held": [-1]}, "tables.held of table 0"),
        ({"held": [0, 0]}, "tables.held has 2 entries; it needs 1"),
        ({"table": [0, 1]}, "tables.table of entry 1: there is no such table"),
        ({"entry": [[[0], [-1]], [[2], [-1]]]}, "tables.entry of packet 1: there is no such entry"),
        ({"entry": [[[0], [-1]], [[-2], [-1]]]}, "tables.entry of packet 1: there is no such entry"),
        ({"entry": [[[0], [-1]], [[1], [1]]]}, "tables.entry of packet 1: there is no such visit"),
        ({"entry": [[[0]], [[1]]]}, "tables.entry has shape"),
        ({"entry": [[0, -1], [1, -1]]}, "tables.entry has 2 dimensions; it needs 3"),
        (
            {
                "entry": [[[0, -1], [-1, -1]], [[1, 0], [-1, -1]]],
                "keep_ns": [[5, 5]] * 2,
                "refused_ns": [[[1, 1]] * 2] * 2,
            },
            "tables.entry of packet 1: it needs two entries of one table at a visit",
        ),
        ({"keep_ns": [[5], [0]]}, "tables.keep_ns of packet 1: an entry stays at least 1 ns"),
        ({"keep_ns": [[5]]}, "tables.keep_ns has shape"),
        ({"limit": [[1], [-1]]}, "tables.limit of packet 1: fewer than 0 places cannot be too many"),
        ({"limit": [[1]]}, "tables.limit has shape"),
        ({"refused_ns": [[[0], [1]], [[1], [1]]]}, "tables.refused_ns of packet 0: service lasts at least 1 ns"),
    ],
)
def test_broken_tables_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=f"plan: {message}"):
        plan(tables=tables(**changes))


def test_tables_that_fit_are_taken() -> None:
    made = plan(tables=tables()).tables
    assert made is not None
    assert (made.limit >= made.capacity.max()).all()
    no_entries = np.empty((2, 2, 0), np.int64)
    none = tables(entry=no_entries, keep_ns=no_entries[:, 0], refused_ns=no_entries, table=[])
    assert plan(tables=none).tables is none
    assert plan().tables is None
