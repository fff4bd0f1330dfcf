"""Being in a network namespace, and running the kernel's tools."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from typing import TYPE_CHECKING

from kubesim.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_HERE = "/proc/thread-self/ns/net"
_TOOL_TIMEOUT_S = 600


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Be in a network namespace by its name; sockets made there stay there."""
    there = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    try:
        with entered(there):
            yield
    finally:
        os.close(there)


@contextlib.contextmanager
def entered(descriptor: int) -> Iterator[None]:
    """Be in a network namespace by an open file of it."""
    here = os.open(_HERE, os.O_RDONLY)
    try:
        _check(_LIBC.setns(descriptor, _CLONE_NEWNET), "enter a network namespace")
        yield
    finally:
        _LIBC.setns(here, _CLONE_NEWNET)
        os.close(here)


def unnamed() -> int:
    """A new network namespace as an open file: it lasts as long as that. The process must have one thread only."""
    here = os.open(_HERE, os.O_RDONLY)
    try:
        _check(_LIBC.unshare(_CLONE_NEWNET), "make a network namespace")
        return os.open(_HERE, os.O_RDONLY)
    finally:
        _LIBC.setns(here, _CLONE_NEWNET)
        os.close(here)


def run_tool(*words: str, text: str = "") -> str:
    """Run one of the kernel's tools; what it prints.

    Raises
    ------
    InputError
        If it is not installed, or fails, with the first line it says.
    """
    try:
        done = subprocess.run(  # noqa: S603 - the kernel's tools, with words of our own
            words, input=text, capture_output=True, text=True, check=False, timeout=_TOOL_TIMEOUT_S
        )
    except FileNotFoundError:
        raise InputError(f"{words[0]} is not installed") from None
    except PermissionError:
        raise InputError(f"{words[0]}: not installed where this user may run it") from None
    except subprocess.TimeoutExpired:
        raise InputError(f"{words[0]} took more than {_TOOL_TIMEOUT_S} s") from None
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise InputError(f"{' '.join(words[:6])}: {said[0] if said else f'exit code {done.returncode}'}")
    return done.stdout


def _check(result: int, what: str) -> None:
    """Turn the kernel's refusal into a line."""
    if result != 0:
        raise InputError(f"cannot {what}: {os.strerror(ctypes.get_errno())}; root is needed")
