"""Files that include others: ``include: other.yaml``, whose fields stand wherever a file has none of its own.

Mappings are merged field by field, but settings of another plugin or workload than the included one replace it, and so
does anything that is no mapping. Of several files later ones replace earlier ones. Paths in an included file are
relative to its own directory.
"""

from __future__ import annotations

import os
import typing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubesim.cni import cni_class, cni_names
from kubesim.cost import is_file_name
from kubesim.errors import InputError
from kubesim.files import YamlDocument, parse_yaml, read_text
from kubesim.proxy import proxy_class, proxy_names

if TYPE_CHECKING:
    from pydantic import BaseModel

_INCLUDE = "include"
_DISCRIMINATORS = {"cni": "name", "proxy": "name", "traffic": "workload"}
"""What tells one kind of settings from another: those of one make no sense for the other."""


def read_document(path: Path, section: str | None = None) -> YamlDocument:
    """Read a YAML file with all that it includes.

    Parameters
    ----------
    path
        The file of a scenario, or of something that has one.
    section
        The field that holds the scenario, which may include by itself; None where the whole file is the scenario.

    Raises
    ------
    InputError
        If a file cannot be read, is no YAML, or includes itself.
    """
    return _read(path, section, ())


def _read(path: Path, section: str | None, within: tuple[Path, ...]) -> YamlDocument:
    resolved = path.resolve()
    document = parse_yaml(read_text(path), str(path))
    chain = (*within, resolved)
    document = _with_included(document, (), path.parent, chain, section)
    if section is not None and isinstance(document.data, dict) and isinstance(document.data.get(section), dict):
        document = _with_included(document, (section,), path.parent, chain, None)
    return document


def _with_included(
    document: YamlDocument, at: tuple[str, ...], base: Path, chain: tuple[Path, ...], section: str | None
) -> YamlDocument:
    """The document with what the mapping at some place of it includes."""
    own = _at(document.data, at)
    if not isinstance(own, dict) or _INCLUDE not in own:
        return document
    merged: Any = {}
    included = []
    for name in _names(document, (*at, _INCLUDE), own.pop(_INCLUDE)):
        path = base / name
        if path.resolve() in chain:
            raise document.error((*at, _INCLUDE), f"{name} is included by itself")
        try:
            inner = _read(path, section, chain)
        except InputError as error:
            if path.exists():
                raise
            raise document.error((*at, _INCLUDE), str(error)) from None
        if not isinstance(inner.data, dict):
            raise document.error((*at, _INCLUDE), f"{name} is no mapping that could be included")
        rebase(inner.data if section is None else inner.data.get(section), _relative(path.parent, base))
        merged = _merged(merged, inner.data)
        included.append((at, inner))
    whole = _placed(document.data, at, _merged(merged, own))
    return replace(document, data=whole, included=(*document.included, *included))


def _names(document: YamlDocument, keys: tuple[str, ...], value: Any) -> list[str]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise document.error(keys, "the path of a file is needed, or a list of paths")
    return names


def _at(data: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        data = data[key]
    return data


def _placed(data: Any, at: tuple[str, ...], value: Any) -> Any:
    if not at:
        return value
    return {**data, at[0]: _placed(data[at[0]], at[1:], value)}


def _merged(included: Any, own: Any, field: str = "") -> Any:
    """What is included, with one's own put over it."""
    if not isinstance(included, dict) or not isinstance(own, dict):
        return own
    name = _DISCRIMINATORS.get(field)
    if name in own and included.get(name) != own[name]:
        return own
    return {**included, **{key: _merged(included.get(key), value, key) for key, value in own.items()}}


def rebase(scenario: Any, base: Path) -> None:
    """Let relative paths in a scenario's raw data start at ``base``, in place."""
    if not isinstance(scenario, dict):
        return
    cluster = scenario.get("cluster")
    if isinstance(cluster, dict) and "manifests" in cluster:
        cluster["manifests"] = _rebased(cluster["manifests"], base)
    if isinstance(scenario.get("costs"), str) and is_file_name(scenario["costs"]):
        scenario["costs"] = _rebased(scenario["costs"], base)
    for field, names, of in (("cni", cni_names(), cni_class), ("proxy", proxy_names(), proxy_class)):
        settings = scenario.get(field)
        if isinstance(settings, dict) and settings.get("name") in names:
            for name in _path_fields(of(settings["name"]).settings_model):
                if name in settings:
                    settings[name] = _rebased(settings[name], base)


def _path_fields(model: type[BaseModel]) -> list[str]:
    """Fields of a plugin's settings that are paths, or lists of them."""
    return [name for name, field in model.model_fields.items() if _mentions_path(field.annotation)]


def _mentions_path(annotation: Any) -> bool:
    return annotation is Path or any(_mentions_path(argument) for argument in typing.get_args(annotation))


def _rebased(value: Any, base: Path) -> Any:
    if isinstance(value, list):
        return [_rebased(one, base) for one in value]
    return str(base / value) if isinstance(value, str) else value


def _relative(directory: Path, base: Path) -> Path:
    return Path(os.path.relpath(directory, base))
