"""A kernel as a user program: finding it, starting it, and what can go wrong."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import ClassVar

import pytest

from kubesim.errors import InputError
from kubesim.twin import bursts
from kubesim.twin.guest import ERRORS, OUTPUT, STARTED, STATUS, load_order
from kubesim.twin.uml import UserModeLinux, answer, find_user_mode_linux, run_in_user_mode
from tests.netns import needs_kernel

DEPENDENCIES = """\
kernel/net/ipv4/ipip.ko: kernel/net/ipv4/tunnel4.ko kernel/net/ipv4/ip_tunnel.ko
kernel/net/ipv4/ip_tunnel.ko:
kernel/net/ipv4/tunnel4.ko:
kernel/net/netfilter/nf_conntrack.ko: kernel/net/ipv4/netfilter/nf_defrag_ipv4.ko
kernel/net/ipv4/netfilter/nf_defrag_ipv4.ko:
kernel/net/netfilter/ipvs/ip_vs.ko: kernel/net/netfilter/nf_conntrack.ko kernel/net/ipv4/netfilter/nf_defrag_ipv4.ko
"""


def test_modules_are_loaded_after_what_they_need() -> None:
    order = [Path(file).stem for file in load_order(DEPENDENCIES, ["ip_vs", "ipip", "nf-conntrack"])]
    assert order == ["nf_defrag_ipv4", "nf_conntrack", "ip_vs", "ip_tunnel", "tunnel4", "ipip"]


def test_modules_that_are_not_there_are_left_out() -> None:
    assert load_order(DEPENDENCIES, ["built_in"]) == []


def test_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"linux\.uml.*install Debian's user-mode-linux"):
        find_user_mode_linux()


def test_modules_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "linux").write_text("#!/bin/sh\n")
    (tmp_path / "linux").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"no modules.*install Debian's user-mode-linux"):
        find_user_mode_linux(tmp_path)


def pretender(folder: Path, script: str) -> UserModeLinux:
    """A program in a kernel's place."""
    binary = folder / "linux"
    binary.write_text(f"#!/bin/sh\n{script}\n")
    binary.chmod(0o700)
    return UserModeLinux(binary, folder)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no shell")
def test_one_that_does_not_boot(tmp_path: Path) -> None:
    kernel = pretender(tmp_path, "echo Checking that ptrace works; echo no ptrace here; exit 1")
    with pytest.raises(InputError, match=r"^the user-mode kernel does not boot here: no ptrace here$"):
        run_in_user_mode(["-c", "1"], kernel=kernel, limit_s=20)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no shell")
def test_one_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    kernel = pretender(tmp_path, f"sleep 600 & echo $! > {tmp_path}/child; wait")
    with pytest.raises(InputError, match="does not boot here: it says nothing"):
        run_in_user_mode(["-c", "1"], kernel=kernel, limit_s=1)
    state = Path("/proc") / (tmp_path / "child").read_text().strip() / "stat"
    assert not state.exists() or state.read_text().split()[2] == "Z"


def guest(folder: Path, **files: str) -> Path:
    """What a guest left."""
    names = {"started": STARTED, "status": STATUS, "output": OUTPUT, "errors": ERRORS}
    for name, text in files.items():
        (folder / names[name]).write_text(text)
    return folder


def test_an_answer(tmp_path: Path) -> None:
    assert answer(guest(tmp_path, started="", status="0", output='{"a": 1}'), 10, is_in_time=True) == {"a": 1}


@pytest.mark.parametrize(
    ("files", "is_in_time", "message"),
    [
        ({"started": ""}, False, "was not done after 10 s and was killed"),
        ({"started": "", "status": "1", "errors": "Traceback\nKeyError: 1\n"}, True, "failed: KeyError: 1"),
        ({"started": ""}, True, "failed: it says nothing"),
        ({"started": "", "status": "0", "output": "{"}, True, "not JSON"),
    ],
)
def test_no_answer(tmp_path: Path, files: dict[str, str], is_in_time: bool, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        answer(guest(tmp_path, **files), 10, is_in_time=is_in_time)
    assert "\n" not in str(raised.value)


@pytest.fixture(scope="module")
def kernel() -> UserModeLinux:
    """A user-mode kernel that boots."""
    try:
        found = find_user_mode_linux()
        run_in_user_mode(["-c", "print(1)"], kernel=found, limit_s=60)
    except InputError as error:
        pytest.skip(str(error))
    return found


def processes_in(folder: Path) -> set[str]:
    """Processes of user-mode kernels whose files are below a folder."""
    return {
        entry.parent.name
        for entry in Path("/proc").glob("[0-9]*/cmdline")
        if entry.exists() and str(folder / "kubesim-uml-").encode() in entry.read_bytes()
    }


class TestInAUserModeKernel:
    """What a kernel does that boots."""

    pytestmark: ClassVar = [*needs_kernel, pytest.mark.slow]

    def test_python_runs_in_another_kernel(self, kernel: UserModeLinux) -> None:
        script = "import json, os; print(json.dumps([os.uname().release, os.geteuid()]))"
        release, user = run_in_user_mode(["-c", script], kernel=kernel, limit_s=60)
        assert (kernel.modules / release).is_dir()
        assert release != os.uname().release
        assert user == 0

    def test_the_host_cannot_be_written_to(self, kernel: UserModeLinux, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="Read-only file system"):
            run_in_user_mode(["-c", f"open({str(tmp_path / 'x')!r}, 'w')"], kernel=kernel, limit_s=60)

    def test_modules_with_options(self, kernel: UserModeLinux) -> None:
        script = "print(open('/sys/module/ip_vs/parameters/conn_tab_bits').read())"
        modules = ["ip_vs conn_tab_bits=9"]
        assert run_in_user_mode(["-c", script], kernel=kernel, modules=modules, limit_s=60) == 9

    def test_time_runs_out(self, kernel: UserModeLinux, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        found: set[str] = set()
        watch = threading.Timer(3, lambda: found.update(processes_in(tmp_path)))
        watch.start()
        with pytest.raises(InputError, match="was not done after 6 s"):
            run_in_user_mode(["-c", "import time; time.sleep(600)"], kernel=kernel, limit_s=6)
        watch.join()
        assert found, "it was there"
        assert not processes_in(tmp_path)

    @pytest.mark.usefixtures("kernel")
    def test_a_full_table_refuses_and_evicts(self) -> None:
        """The run itself checks that tables stay as full as they were."""
        result = bursts.measure_in_user_mode(["--full-table", "--rounds", "3", "--frames", "1024"], limit_s=120)
        ns = {
            way: {int(number): timing["best_decile_ns"] for number, timing in timings.items()}
            for way, timings in result["ns_per_packet_by_entries"].items()
        }
        assert set(ns) == {"dropped by a rule", "refused", "new", "evicting"}
        assert ns["refused"][262_144] > ns["refused"][256], "8 buckets are searched"

    @pytest.mark.usefixtures("kernel")
    def test_ways_are_timed(self) -> None:
        """That IPVS is there, and delivers."""
        arguments = ["--rounds", "3", "--frames", "1024", "--only", "ipvs miss"]
        result = bursts.measure_in_user_mode(arguments, limit_s=120)
        ns = {name: timing["best_decile_ns"] for name, timing in result["ns_per_packet"].items()}
        assert result["missing"] == {}
        assert {"ipvs miss, 0 in bucket", "ipvs miss, 256 in bucket"} <= set(ns)
        assert min(ns.values()) > 0
