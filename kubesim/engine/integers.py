"""Arrays of whole numbers as plans hold them, and refusing those that break the contract."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kubesim.errors import PlanError

Int64Array = npt.NDArray[np.int64]

_LATEST_NS = 1 << 62
"""146 years, and as much again before 64 bits overflow."""


def read_only(name: str, value: npt.ArrayLike, dimensions: int) -> Int64Array:
    """``value`` as a read-only int64 array, whatever integers it came as.

    Raises
    ------
    PlanError
        If it holds something else, or has other dimensions.
    """
    array = np.asarray(value)
    if array.size == 0:
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise PlanError(f"plan: {name} holds {array.dtype} values; whole numbers are needed")
    if array.dtype.kind == "u" and array.size and int(array.max()) > np.iinfo(np.int64).max:
        raise PlanError(f"plan: {name} does not fit into 64 bits")
    array = np.ascontiguousarray(array, dtype=np.int64)
    if array.ndim != dimensions:
        raise PlanError(f"plan: {name} has {array.ndim} dimensions; it needs {dimensions}")
    if array is value or array.base is not None:
        array = array.copy()
    array.flags.writeable = False
    return array


def refuse(name: str, wrong: npt.NDArray[np.bool_], why: str, row: str) -> None:
    """Refuse an array with something wrong, shape (n, …), by the first row that has.

    Raises
    ------
    PlanError
        If there is one.
    """
    if wrong.any():
        first = int(np.argmax(wrong)) // max(1, wrong[0].size)
        raise PlanError(f"plan: {name} of {row} {first}: {why}")


def too_late(latest_ns: float) -> str | None:
    """Say why times up to this one are too large for the compiled engine, None if they are not."""
    if latest_ns < _LATEST_NS:
        return None
    return f"times may come to {latest_ns:.2g} ns; the compiled engine counts to {float(_LATEST_NS):.2g} ns"
