"""The notebooks: each runs from a clean kernel, shows what it promises, and is alike as a notebook and as a program."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient
from traitlets.config import Config

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
NAMES = sorted(file.stem for file in NOTEBOOKS.glob("*.ipynb"))

LIMIT_S = 300
"""No cell takes so long, on however slow a machine: it hangs."""

SHOWN = {
    "first-steps": {"image/svg+xml": 1, "text/html": 6, "text/markdown": 1},
    "iptables-nftables-or-ipvs": {"image/svg+xml": 3, "text/html": 1, "text/markdown": 1},
    "overlay-or-l3": {"image/svg+xml": 2, "text/html": 1, "text/markdown": 2},
    "my-own-cluster": {"text/html": 5, "text/markdown": 1},
    "calibrate-on-my-machine": {"image/svg+xml": 1, "text/html": 2, "text/markdown": 1},
}
"""What the cells of each show: figures, tables and objects, and conclusions."""

TRACED = {"first-steps", "my-own-cluster"}
"""Those in which a packet's way is drawn."""


def read(name: str) -> Any:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]


def executed(name: str, directory: Path, sockets: str) -> list[dict[str, Any]]:
    """What the cells of a notebook show, each by its kind, in a copy of the directories that it needs."""
    for part in ("notebooks", "experiments"):
        shutil.copytree(NOTEBOOKS.parent / part, directory / part)
    client = NotebookClient(
        read(name),
        timeout=LIMIT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(directory / "notebooks")}},
        # No port, which another test might take; and by its full path, since the kernel starts in another directory.
        config=Config({"KernelManager": {"transport": "ipc", "ip": sockets}}),
    )
    found = client.execute()
    return [output for cell in found.cells if cell.cell_type == "code" for output in cell.outputs]


def test_there_are_as_many_as_are_described() -> None:
    assert set(SHOWN) == set(NAMES) == {file.stem for file in NOTEBOOKS.glob("*.py")}
    readme = (NOTEBOOKS / "README.md").read_text("utf-8")
    for name in NAMES:
        assert f"| `{name}` | {question(name)} |" in readme


def question(name: str) -> str:
    """The question a notebook begins with: what is bold in its first cell."""
    found = re.search(r"\*\*(.+?)\*\*", read(name).cells[0].source, re.DOTALL)
    assert found is not None, "the first cell asks a question"
    return " ".join(found[1].split())


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Where the kernel's sockets are: the path of one may have 107 characters, and a test's own directory has more."""
    with tempfile.TemporaryDirectory(prefix="nb-") as directory:
        monkeypatch.setenv("JUPYTER_RUNTIME_DIR", directory)
        yield f"{directory}/kernel"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_runs_from_a_clean_kernel(name: str, sockets: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")  # nothing is measured: other tests share the cores
    outputs = executed(name, tmp_path, sockets)
    assert not [one for one in outputs if one.get("name") == "stderr"], "nothing is said of warnings"
    shown = [kind for one in outputs for kind in one.get("data", {})]
    assert {kind: shown.count(kind) for kind in SHOWN[name]} == SHOWN[name]
    drawn = [one for one in outputs if "data:image/svg+xml;base64" in one.get("data", {}).get("text/html", "")]
    assert bool(drawn) == (name in TRACED)
    for one in outputs:
        conclusion = one.get("data", {}).get("text/markdown")
        if conclusion is not None:
            assert re.search(r"\*\*[^*]*\d[^*]*\*\*", conclusion), "a conclusion has numbers"
            assert "nan" not in conclusion


@pytest.mark.parametrize("name", NAMES)
def test_no_outputs_are_kept(name: str) -> None:
    for cell in read(name).cells:
        assert not cell.get("outputs"), cell.source
        assert cell.get("execution_count") is None, cell.source


@pytest.mark.parametrize("name", NAMES)
def test_both_of_a_pair_are_alike(name: str) -> None:
    program = jupytext.read(NOTEBOOKS / f"{name}.py")
    assert [(cell.cell_type, cell.source) for cell in read(name).cells] == [
        (cell.cell_type, cell.source) for cell in program.cells
    ], "jupytext --sync notebooks/*.py makes them alike"
    kernel = read(name).metadata.kernelspec
    assert (
        kernel == program.metadata.kernelspec == {"display_name": "Python 3", "language": "python", "name": "python3"}
    )
