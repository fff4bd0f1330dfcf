"""What made a result: version, scenario, seed and cost set, and a name for all of it together."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubesim.cost import is_file_name
from kubesim.files import read_text

if TYPE_CHECKING:
    from kubesim.scenario.spec import Scenario

_PACKAGE = Path(__file__).parent.parent
_DATA = (".py", ".yaml", ".json", ".lark")
_NOT_SIMULATION = ("cli", "report", "twin", "validate")
_ID_LETTERS = 20


def provenance(scenario: Scenario) -> dict[str, str]:
    """What every file made of a run says about itself: the same wherever its input files lie."""
    data = scenario.model_dump(mode="json", by_alias=True)
    for field in ("cluster", "cni", "proxy"):
        for name, value in getattr(scenario, field):
            data[field][name] = _with_contents(value, data[field].get(name))
    if is_file_name(scenario.costs):
        data["costs"] = _content_name(Path(scenario.costs))
    text = json.dumps(data, sort_keys=True)
    return {
        "kubesim_version": metadata.version("kubesim"),
        "scenario": text,
        "scenario_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "seed": str(scenario.seed),
        "replication": str(scenario.replication),
        "cost_set": data["costs"],
    }


def run_id(scenario: Scenario) -> str:
    """A name for what a run gives: the same scenario, input files, cost set, seed, version and code have the same.

    Raises
    ------
    InputError
        If a file that the scenario names cannot be read.
    """
    made_by = provenance(scenario)
    text = "\n".join((made_by["kubesim_version"], code_sha256(), made_by["scenario_sha256"]))
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_LETTERS]


@cache
def code_sha256() -> str:
    """The digest of all code and data that results come from: a change between two versions is another one."""
    digest = hashlib.sha256()
    for file in sorted(_PACKAGE.rglob("*"), key=lambda path: path.relative_to(_PACKAGE).as_posix()):
        inner = file.relative_to(_PACKAGE)
        if file.suffix in _DATA and inner.parts[0] not in _NOT_SIMULATION:
            digest.update(inner.as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _with_contents(value: Any, written: Any) -> Any:
    """A setting as it is written, but files by what is in them."""
    if isinstance(value, Path):
        return _content_name(value)
    if isinstance(value, list) and value and isinstance(value[0], Path):
        return [_content_name(path) for path in value]
    return written


def _content_name(path: Path) -> str:
    """A file by its name and what is in it."""
    digest = hashlib.sha256(read_text(path).encode()).hexdigest()
    return f"{path.name} (sha256 {digest})"
