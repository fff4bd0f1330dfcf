"""Which numbers there are among many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def distinct(keys: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Each number from 0 that is among some, shape (m,), rising; and which of these each of them is, shape (m,)."""
    highest = int(keys.max(initial=0))
    if highest > 4 * len(keys):
        return np.unique(keys, return_inverse=True)
    is_there = np.zeros(highest + 1, np.bool_)  # much faster than sorting, where there is room for all numbers
    is_there[keys] = True
    return np.flatnonzero(is_there), (np.cumsum(is_there) - 1).take(keys)
