"""The first process of a user-mode kernel: loads modules, runs one program, hands its output over, switches off.

Started by :mod:`kubesim.twin.uml`; needs nothing but Python.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_FINIT_MODULE = {"x86_64": 313, "aarch64": 273}
_EXISTS = 17
_POWER_OFF = 0x4321FEDC

STARTED, OUTPUT, ERRORS, STATUS = "started", "output.json", "errors.txt", "status"
"""Files that the guest leaves for the host."""


def load_order(dependencies: str, wanted: list[str]) -> list[str]:
    r"""Files of modules in the order in which they can be loaded, by the text of ``modules.dep``.

    >>> load_order("a/nat.ko: a/core.ko\na/core.ko:\n", ["nat"])
    ['a/core.ko', 'a/nat.ko']
    """
    needs: dict[str, list[str]] = {}
    files: dict[str, str] = {}
    for line in dependencies.splitlines():
        file, _, others = line.partition(":")
        needs[file] = others.split()
        files[_module_name(file)] = file
    order: dict[str, None] = {}
    for name in wanted:
        found = files.get(_module_name(name))
        if found is not None:  # else it is built in, or not there, which those who need it will notice
            order.update(dict.fromkeys([*reversed(needs[found]), found]))
    return list(order)


def _module_name(file: str) -> str:
    return file.rpartition("/")[2].partition(".")[0].replace("-", "_")


def load_modules(folder: Path, wanted: list[str]) -> None:
    """Load modules and what they need, as ``modprobe`` would, which may not be installed; options follow the name."""
    options = {_module_name(one.partition(" ")[0]): one.partition(" ")[2] for one in wanted}
    dependencies = (folder / "modules.dep").read_text("ascii")
    for file in load_order(dependencies, [one.partition(" ")[0] for one in wanted]):
        with (folder / file).open("rb") as module:
            option = options.get(_module_name(file), "").encode()
            number = _FINIT_MODULE[platform.machine()]
            if _LIBC.syscall(number, module.fileno(), option, 0) and ctypes.get_errno() != _EXISTS:
                sys.stderr.write(f"{file}: {os.strerror(ctypes.get_errno())}\n")


def main() -> None:
    """Do what the request in the shared directory says."""
    shared = Path(sys.argv[1])
    request = json.loads((shared / "request.json").read_text("utf-8"))
    (shared / STARTED).touch()
    with (shared / OUTPUT).open("wb") as output, (shared / ERRORS).open("wb") as errors:
        os.dup2(errors.fileno(), 2)
        load_modules(Path(request["modules_folder"]) / platform.release(), request["modules"])
        done = subprocess.run(request["command"], check=False, stdout=output, stderr=errors, stdin=subprocess.DEVNULL)  # noqa: S603
    (shared / STATUS).write_text(str(done.returncode), "ascii")


if __name__ == "__main__":
    with contextlib.suppress(Exception):
        main()
    os.sync()
    _LIBC.reboot(_POWER_OFF)
