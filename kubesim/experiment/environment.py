"""Where and when a sweep was run: what is not the same on every machine, and so in no other file."""

from __future__ import annotations

import contextlib
import json
import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubesim.experiment.store import ENVIRONMENT
from kubesim.files import write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_PACKAGES = ("kubesim", "simpy", "numpy", "pandas", "pyarrow", "scipy", "pydantic", "joblib", "matplotlib")
_OPTIONAL_PACKAGES = ("numba",)
_EXPERIMENT_FILE = "experiment_file"


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
        return {str(run_id): float(seconds) for run_id, seconds in _read(directory)["run_seconds"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def remember_experiment(directory: Path, file: Path) -> None:
    """Say beside results where their experiment's file is, relative to them: baselines may lie beside it.

    Raises
    ------
    OutputError
        If that cannot be written.
    """
    known = {**_read(directory), _EXPERIMENT_FILE: os.path.relpath(file.resolve(), directory.resolve())}
    write_text(directory / ENVIRONMENT, json.dumps(known, indent=1) + "\n")


def remembered_experiment(directories: Iterable[Path]) -> Path | None:
    """The experiment's file of the first of some directories of results that says where it is, if it is there still."""
    for directory in directories:
        said = _read(directory).get(_EXPERIMENT_FILE)
        if isinstance(said, str):
            file = Path(os.path.normpath(directory.resolve() / said))
            if file.is_file():
                return file
    return None


def _read(directory: Path) -> dict[str, Any]:
    """What is known of where and when a sweep was run; nothing where the file is missing or damaged."""
    try:
        found = json.loads((directory / ENVIRONMENT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
