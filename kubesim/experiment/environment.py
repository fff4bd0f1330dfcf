"""Where and when a sweep was run: what is not the same on every machine, and so in no other file."""

from __future__ import annotations

import contextlib
import json
import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from kubesim.experiment.store import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PACKAGES = ("kubesim", "simpy", "numpy", "pandas", "pyarrow", "scipy", "pydantic", "joblib", "matplotlib")
_OPTIONAL_PACKAGES = ("numba",)


def environment(started: datetime, where: str, run_seconds: Mapping[str, float]) -> dict[str, Any]:
    """What is to be known of a sweep that began at some time and was run somewhere.

    Parameters
    ----------
    started
        When.
    where
        By whom, in words.
    run_seconds
        How long runs took, by ID.
    """
    return {
        "started": started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "where": where,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _package_versions(),
        "run_seconds": {run_id: round(seconds, 4) for run_id, seconds in sorted(run_seconds.items())},
    }


def _package_versions() -> dict[str, str]:
    """What is installed of the packages that results may depend on, or how long they take."""
    versions = {name: metadata.version(name) for name in _PACKAGES}
    for name in _OPTIONAL_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def earlier_run_seconds(directory: Path) -> dict[str, float]:
    """How long runs took that are in a directory, by ID; nothing where that is not known."""
    try:
        found = json.loads((directory / ENVIRONMENT).read_text(encoding="utf-8"))["run_seconds"]
        return {str(run_id): float(seconds) for run_id, seconds in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
