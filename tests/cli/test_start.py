"""The command line is quick to start: what it need not load it does not. No timing, only names of modules."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "asyncio", "dask", "distributed", "html5lib", "jinja2", "joblib", "junitparser", "lark", "matplotlib", "multiprocessing",
    "numpy", "pandas", "pyarrow", "pydantic", "pyroute2", "scipy", "simpy", "sqlite3", "yaml",
}  # fmt: skip
"""Packages that only commands need."""

OF_TYPER = {"pydantic"}
"""What Typer itself loads, where it is installed, once options of a command are looked at."""

OF_HELP = {"rich"}
"""What draws the page of help, and no other."""


def loaded(program: str) -> tuple[set[str], str]:
    """Packages that a program has loaded at its end, and what it printed."""
    told = "import sys; sys.stderr.write(' '.join(sorted({name.partition('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", f"{program}\n{told}"], capture_output=True, text=True, check=True)
    return set(done.stderr.split()), done.stdout


def test_all_commands_are_there_without_anything_they_need() -> None:
    found, _ = loaded("import kubesim.cli.entry")
    assert "typer" in found
    assert not found & (HEAVY | OF_HELP)


@pytest.mark.parametrize("arguments", [["--help"], ["search", "--help"], ["--version"]])
def test_help_loads_nothing_that_commands_need(arguments: list[str]) -> None:
    found, printed = loaded(
        f"import sys; sys.argv = ['kubesim', *{arguments!r}]\n"
        "from kubesim.cli import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code"
    )
    assert "kubesim" in printed
    assert not found & (HEAVY - OF_TYPER)


def test_the_names_are_those_of_packages_that_commands_do_need() -> None:
    found, _ = loaded("import kubesim.cli.inputs, kubesim.cli.show, kubesim.experiment")
    assert found >= {"numpy", "pandas", "pyarrow", "pydantic", "rich", "scipy", "simpy", "yaml", "joblib"}
