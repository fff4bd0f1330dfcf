"""Names of a twin's namespaces and devices, and how what a killed run left behind is found."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
from pathlib import Path

from pyroute2 import netns

PREFIX = "kubesim-"
UP = f"{PREFIX}up"
"""Namespaces that stay until somebody takes them down."""

_RUN = f"{PREFIX}run"
_LONGEST_DEVICE = 15  # IFNAMSIZ
_KEPT_OF_DEVICE = 5


def run_prefix() -> str:
    """What names of namespaces of this process's runs begin with."""
    return f"{_RUN}-{os.getpid()}"


def device_name(name: str) -> str:
    """A device's name as Linux takes it: short, without a slash, and with the beginning that rules look for."""
    if len(name) <= _LONGEST_DEVICE and "/" not in name:
        return name
    digest = hashlib.blake2b(name.encode(), digest_size=5).hexdigest()
    return name[:_KEPT_OF_DEVICE].replace("/", "-") + digest


def remove_namespaces(prefix: str) -> list[str]:
    """End what runs in namespaces whose names begin so, and remove them with all that is in them.

    Returns
    -------
    list of str
        The names.
    """
    names = sorted(name for name in netns.listnetns() if name.startswith(prefix) and name.startswith(PREFIX))
    for name in names:
        for process in _processes(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        with contextlib.suppress(FileNotFoundError):
            netns.remove(name)
    return names


def remove_leftovers() -> list[str]:
    """Remove what runs left behind whose processes are gone."""
    removed: list[str] = []
    for name in netns.listnetns():
        process = name.removeprefix(f"{_RUN}-").partition("-")[0]
        if name.startswith(f"{_RUN}-") and process.isdecimal() and not Path(f"/proc/{process}").exists():
            removed += remove_namespaces(name)
    return removed


def _processes(namespace: str) -> list[int]:
    """Processes in a namespace, this one left out: it is there for moments only."""
    done = subprocess.run(["ip", "netns", "pids", namespace], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return [int(text) for text in done.stdout.split() if int(text) != os.getpid()]
