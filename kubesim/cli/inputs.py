"""Reading what commands are given."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kubesim.errors import InputError, did_you_mean
from kubesim.experiment.columns import results_schema
from kubesim.experiment.spec import Experiment
from kubesim.files import parse_yaml
from kubesim.scenario.fields import set_field
from kubesim.scenario.includes import read_document
from kubesim.scenario.spec import Scenario, scenario_from

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic import BaseModel

    from kubesim.files import YamlDocument

RESULTS = "results"
"""What the tables of a sweep are called where their schema is asked for."""


def scenario_with(path: Path, settings: Sequence[str] | None) -> Scenario:
    """A scenario from its file, with some fields changed.

    Raises
    ------
    InputError
        If the file or a change makes no sense.
    """
    return scenario_from(document_with(path, settings), path.parent)


def document_with(path: Path, settings: Sequence[str] | None) -> YamlDocument:
    """What a scenario's file says, with some fields changed.

    Parameters
    ----------
    path
        The file.
    settings
        Changes, each as ``FIELD=VALUE`` with a dotted field and a value in YAML.

    Raises
    ------
    InputError
        If the file or a change makes no sense.
    """
    document = read_document(path)
    if isinstance(document.data, dict):
        places = {_set(document.data, setting): f"--set {setting.partition('=')[0]}" for setting in settings or ()}
        document = replace(document, settings=places)
    return document


def _set(data: dict[str, Any], setting: str) -> str:
    """Change a field as ``FIELD=VALUE`` says; the field."""
    field, equals, value = setting.partition("=")
    if not equals or not field:
        raise InputError(f"--set {setting}: FIELD=VALUE is needed, such as proxy=nftables")
    try:
        parsed = parse_yaml(value, field).data
    except InputError:
        raise InputError(f"--set {field}: {value!r} is not YAML") from None
    try:
        set_field(data, field, parsed)
    except InputError as error:
        raise InputError(f"--set {error}") from None
    return field


def schema_of(of: str) -> dict[str, Any]:
    """The JSON Schema of a kind of file, or what the columns of results are.

    Raises
    ------
    InputError
        If there is no such kind.
    """
    if of == RESULTS:
        return results_schema()
    models: dict[str, type[BaseModel]] = {"scenario": Scenario, "experiment": Experiment}
    if of not in models:
        raise InputError(f"there is no schema of {of!r}: {did_you_mean(of, [*models, RESULTS])}")
    found = models[of].model_json_schema(by_alias=True)
    found["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return found
