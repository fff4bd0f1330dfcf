"""A whole kernel as a user program (User Mode Linux), for what the host's kernel was built without.

Its root is the host's files, read only, so that the host's Python and tools run in it; one directory is shared both
ways.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubesim.errors import InputError
from kubesim.twin.guest import ERRORS, OUTPUT, STARTED, STATUS

if TYPE_CHECKING:
    from collections.abc import Sequence

_BINARIES = ("linux.uml", "linux")
_MODULES = Path("/usr/lib/uml/modules")
_END_CHECKS, _END_CHECK_S = 100, 0.02
_INSTALL = "install Debian's user-mode-linux"

# /run is where iptables keeps its lock; all else is the host's and read only.
_INIT = """#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 PYTHONPATH='{package}'
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmpfs /run
mount -t hostfs shared '{shared}' -o '{shared}'
cd '{shared}'
exec '{python}' -m kubesim.twin.guest '{shared}'
"""


@dataclass(frozen=True)
class UserModeLinux:
    """A kernel as a user program.

    Parameters
    ----------
    binary
        The kernel.
    modules
        The directory with its modules, in one directory per version.
    """

    binary: Path
    modules: Path


def find_user_mode_linux(modules: Path = _MODULES) -> UserModeLinux:
    """Find the kernel.

    Parameters
    ----------
    modules
        Where its modules are, in one directory per version.

    Raises
    ------
    InputError
        If it is not installed.
    """
    binary = next(filter(None, map(shutil.which, _BINARIES)), None)
    if binary is None:
        raise InputError(f"there is no user-mode kernel ({' or '.join(_BINARIES)}): {_INSTALL}")
    if not any(modules.glob("*/modules.dep")):
        raise InputError(f"there are no modules of the user-mode kernel in {modules}: {_INSTALL}")
    return UserModeLinux(Path(binary), modules)


def run_in_user_mode(
    arguments: Sequence[str],
    *,
    kernel: UserModeLinux | None = None,
    modules: Sequence[str] = (),
    memory_mib: int = 512,
    limit_s: float = 120,
) -> Any:
    """Run Python in a user-mode kernel, as root of that kernel, and give the JSON that it prints.

    Parameters
    ----------
    arguments
        What follows ``python``: a script and its arguments, or ``-m`` and a module.
    kernel
        The kernel; what :func:`find_user_mode_linux` finds by default.
    modules
        Kernel modules to load before, each by its name, with its options after a space.
    memory_mib
        Memory of the kernel.
    limit_s
        When to give up and kill it.

    Raises
    ------
    InputError
        If it is not installed, does not boot or is not done in time; if Python fails, with the last line it says.
    """
    kernel = kernel or find_user_mode_linux()
    with tempfile.TemporaryDirectory(prefix="kubesim-uml-") as name:
        shared = Path(name).resolve()
        request = {
            "modules_folder": str(kernel.modules),
            "modules": [*modules],
            "command": [sys.executable, *arguments],
        }
        (shared / "request.json").write_text(json.dumps(request), "utf-8")
        init = shared / "init"
        package = Path(__file__).parents[2]
        init.write_text(_INIT.format(package=package, shared=shared, python=sys.executable), "utf-8")
        init.chmod(0o700)
        boot = [str(kernel.binary), f"mem={memory_mib}M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro",
                   f"init={init}", "con=null", "con0=null,fd:1", f"uml_dir={shared}/uml", "umid=kubesim"]  # fmt: skip
        is_in_time = _boot(boot, shared / "console", limit_s)
        return answer(shared, limit_s, is_in_time=is_in_time)


def _boot(command: list[str], console: Path, limit_s: float) -> bool:
    """Run the kernel until it switches itself off, and say whether it did; nothing of it is left in either case."""
    with console.open("wb") as output:
        started = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            started.wait(limit_s)
        except subprocess.TimeoutExpired:
            return False
        finally:
            _end(started)
    return True


def _end(started: subprocess.Popen[bytes]) -> None:
    """Kill a kernel and the processes in it, which are of its process group, and see them gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    for _ in range(_END_CHECKS):
        try:
            os.killpg(started.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(_END_CHECK_S)


def answer(shared: Path, limit_s: float, *, is_in_time: bool) -> Any:
    """What the kernel has left in the shared directory, as JSON.

    Parameters
    ----------
    shared
        The directory.
    limit_s
        The time it was given.
    is_in_time
        Whether it ended by itself.

    Raises
    ------
    InputError
        If there is no answer, with the reason.
    """
    if not (shared / STARTED).exists():
        raise InputError(f"the user-mode kernel does not boot here: {_last_line(shared / 'console')}")
    if not is_in_time:
        raise InputError(f"the user-mode kernel was not done after {limit_s:g} s and was killed")
    status = _text(shared / STATUS).strip()
    if status != "0":
        raise InputError(f"Python in the user-mode kernel failed: {_last_line(shared / ERRORS)}")
    try:
        return json.loads(_text(shared / OUTPUT))
    except json.JSONDecodeError:
        raise InputError("Python in the user-mode kernel printed something that is not JSON") from None


def _text(file: Path) -> str:
    return file.read_text("utf-8", errors="replace") if file.exists() else ""


def _last_line(file: Path) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in _text(file).splitlines() if line.strip()]
    return lines[-1] if lines else "it says nothing"
