"""What operations cost, and on what evidence."""

from __future__ import annotations

from kubesim.cost.cost_set import (
    DEFAULT_COST_SET,
    CostSet,
    Kind,
    Number,
    Operation,
    cost_set_names,
    is_file_name,
    load_cost_set,
)

__all__ = [
    "DEFAULT_COST_SET",
    "CostSet",
    "Kind",
    "Number",
    "Operation",
    "cost_set_names",
    "is_file_name",
    "load_cost_set",
]
