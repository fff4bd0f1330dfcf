"""The most memory that a program has held."""

from __future__ import annotations

import resource
from pathlib import Path


def peak_mib() -> float:
    """The running program's own peak; what getrusage says is, on Linux, at least that of the process which started it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024
