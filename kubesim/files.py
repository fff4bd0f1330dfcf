"""Reading YAML with line numbers, and writing files so that a half-written one is never seen."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from kubesim.errors import InputError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

MANIFEST = "manifest.json"
"""The file that tells a directory of results from any other."""

_DIRECTORIES = ("figures", "runs")
_OF_SWEEPS = ("runs", "estimates", "breakdown", "latencies", "targets")
_OF_RUNS = ("transactions", "utilisation", "conntrack", "snat_ports", "drops", "packets", "hops")
_RESULTS = tuple(f"{table}.{ending}" for table in _OF_SWEEPS + _OF_RUNS for ending in ("parquet", "csv"))
_RESULTS += ("summary.json", "scenario.json", "validation.json", "plan.json", "report.html")
"""What a run, a sweep or a validation may have left in its directory, besides the manifest, which is written over."""

_ASIDE = ".kubesim-"
"""How the names of files begin that are only being written."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_END = object()


def read_text(path: Path) -> str:
    """The text of a file.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"cannot read {path}: it is not UTF-8 text") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def read_json(path: Path) -> Any:
    """What is in a JSON file.

    Raises
    ------
    InputError
        If it cannot be read, or is damaged.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: it is damaged, or no JSON: {error.msg}") from None
    except RecursionError:
        raise InputError(f"{path}: it is nested too deeply") from None


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a directory of results.

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    if not (directory / MANIFEST).exists():
        known = f"there is no {MANIFEST}" if directory.is_dir() else "there is no such directory"
        raise InputError(f"{directory} holds no results of kubesim: {'it is a file' if directory.is_file() else known}")
    manifest = read_json(directory / MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("kind") not in ("run", "sweep", "validation"):
        raise InputError(f"{directory / MANIFEST} is not a manifest of kubesim")
    return manifest


@dataclass(frozen=True)
class YamlDocument:
    """A YAML document and where its parts stand.

    Parameters
    ----------
    place
        What to call it in messages, such as its path.
    data
        What is in it.
    settings
        Dotted fields that were set over it from outside, and what to call each.
    included
        Documents whose fields stand where this has none of its own, each with the keys of the mapping that includes
        it; later ones come first.
    """

    place: str
    data: Any
    _root: yaml.Node | None
    settings: Mapping[str, str] = field(default_factory=dict)
    included: tuple[tuple[tuple[str, ...], YamlDocument], ...] = ()

    def _home_of(self, keys: tuple[str | int, ...]) -> tuple[YamlDocument, tuple[str | int, ...]]:
        """The document that a part comes from, and its keys there: this one where no included one has it."""
        if not self._has(keys):
            for at, document in reversed(self.included):
                if keys[: len(at)] == at:
                    home, inner = document._home_of(keys[len(at) :])  # noqa: SLF001 - of its own kind
                    if home._has(inner):  # noqa: SLF001
                        return home, inner
        return self, keys

    def _has(self, keys: Sequence[str | int]) -> bool:
        """Whether the file itself has a part."""
        node = self._root
        for key in keys:
            following = _child(node, key)
            if following is None:
                return False
            _, node = following
        return True

    def line_of(self, keys: Sequence[str | int]) -> int | None:
        """The line, from 1, of the part that a path of keys and positions leads to; of as much of it as there is."""
        node = self._root
        line: int | None = None
        for key in keys:
            following = _child(node, key)
            if following is None:
                break
            line, node = following
        return line

    def error(self, keys: Sequence[str | int], message: str) -> InputError:
        """An error that names file, line and field, or the setting that put the field's value over the file's."""
        name = ".".join(str(key) for key in keys)
        for setting, place in reversed(list(self.settings.items())):
            if f"{name}.".startswith(f"{setting}."):
                inner = name.removeprefix(setting).removeprefix(".")
                return InputError(f"{place}: {inner}: {message}" if inner else f"{place}: {message}")
        document, inner_keys = self._home_of(tuple(keys))
        if document is not self:
            return InputError(f"{document.error(inner_keys, message)} (included by {self.place})")
        line = self.line_of(keys)
        where = self.place if line is None else f"{self.place}, line {line}"
        within = [place for setting, place in self.settings.items() if f"{setting}.".startswith(f"{name}.")]
        if within:
            where = f"{where} (with {', '.join(within)})"
        return InputError(f"{where}: {name}: {message}" if name else f"{where}: {message}")


def parse_yaml(text: str, place: str) -> YamlDocument:
    """Parse one YAML document.

    Raises
    ------
    InputError
        If it is not YAML, with the line.
    """
    with _parsing(place):
        root = yaml.compose(text, Loader=_LOADER)
        data = yaml.load(text, Loader=_LOADER)  # noqa: S506 - the C twin of SafeLoader
    _refuse_repeated_keys(root, place)
    return YamlDocument(place, data, root)


def parse_yaml_stream(text: str, place: str) -> Iterator[tuple[str, Any]]:
    """Parse all documents of a YAML stream, each with what to call it.

    Raises
    ------
    InputError
        If it is not YAML, with the line.
    """
    documents = iter(yaml.load_all(text, Loader=_LOADER))
    for number in itertools.count(1):
        with _parsing(place):
            data = next(documents, _END)
        if data is _END:
            return
        yield f"{place}, document {number}", data


@contextlib.contextmanager
def _parsing(place: str) -> Iterator[None]:
    """Say what is wrong with YAML in one line."""
    try:
        yield
    except yaml.YAMLError as error:
        raise InputError(f"{place}{_yaml_problem(error)}") from None
    except RecursionError:
        raise InputError(f"{place}: it is nested too deeply") from None
    except (ValueError, KeyError, AttributeError, TypeError, OverflowError) as error:
        # PyYAML's constructors let through what Python says of a date such as 2020-13-45 or a tag such as !!bool x.
        raise InputError(f"{place}: a value is not what its form or tag says: {error}") from None


def _yaml_problem(error: yaml.YAMLError) -> str:
    """On which line YAML went wrong, and how: the end of a message that begins with the file."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it is not YAML"
    return f": {problem}" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}: {problem}"


def write_file(path: Path, write: Callable[[Path], None]) -> None:
    """Have a file written under another name beside it, then renamed, so that readers see all of it or nothing.

    Parameters
    ----------
    path
        The file to be.
    write
        Writes the file at the path it is given.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f"{_ASIDE}{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None
    aside = Path(name)
    try:
        write(aside)
        aside.chmod(0o666 & ~_umask())
        aside.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def prepare_directory(directory: Path, kind: str, keep: Sequence[str] = ()) -> None:
    """Make a directory for results, and clear away what an earlier run or sweep left in it.

    Parameters
    ----------
    directory
        Where results go.
    kind
        What they are: ``run``, ``sweep`` or ``validation``. Results of another kind are left alone.
    keep
        Directories in it that are not cleared away.

    Raises
    ------
    OutputError
        If it cannot be written, or holds files that are not results, or results of another kind.
    """
    try:
        is_foreign = directory.exists() and _has_files(directory) and not (directory / MANIFEST).exists()
        found = kind if is_foreign else _kind_of(directory) or kind
        if not is_foreign and found == kind:
            directory.mkdir(parents=True, exist_ok=True)
            for name in _DIRECTORIES:
                if name not in keep:
                    shutil.rmtree(directory / name, ignore_errors=True)
            for name in _RESULTS:
                (directory / name).unlink(missing_ok=True)
            remove_half_written(directory)
            handle, probe = tempfile.mkstemp(prefix=_ASIDE, dir=directory)
            os.close(handle)
            Path(probe).unlink()
    except OSError as error:
        raise OutputError(f"cannot write to {directory}: {error.strerror}") from None
    if is_foreign:
        raise OutputError(f"{directory} holds files that are no results of kubesim: give another directory")
    if found != kind:
        raise OutputError(f"{directory} holds the results of a {found}: give another directory for those of a {kind}")


def remove_half_written(directory: Path) -> None:
    """Remove what a process that was killed had only begun to write, in a directory of results."""
    for inner in (directory, *(directory / name for name in _DIRECTORIES)):
        for aside in inner.glob(f"{_ASIDE}*"):
            aside.unlink(missing_ok=True)


def _has_files(directory: Path) -> bool:
    """Whether a directory holds more than what was only begun to be written."""
    return any(not file.name.startswith(_ASIDE) for file in directory.iterdir())


def _kind_of(directory: Path) -> str | None:
    """What results a directory holds, by its manifest; None if that cannot be told."""
    try:
        found = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found.get("kind") if isinstance(found, dict) and isinstance(found.get("kind"), str) else None


def write_text(path: Path, text: str) -> None:
    """Write a text file as :func:`write_file` does."""

    def write(aside: Path) -> None:
        aside.write_text(text, encoding="utf-8")

    write_file(path, write)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _refuse_repeated_keys(root: yaml.Node | None, place: str) -> None:
    """YAML lets a later key silently replace an earlier one of the same name, which nobody means."""
    waiting = [root]
    visited: set[int] = set()  # an alias may lead to where we have been, even to a part of itself
    while waiting:
        node = waiting.pop()
        if id(node) in visited:
            continue
        visited.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            waiting.extend(node.value)
        if isinstance(node, yaml.MappingNode):
            _refuse_repeats(node, place)
            waiting.extend(value for _, value in node.value)


def _refuse_repeats(mapping: yaml.MappingNode, place: str) -> None:
    seen: dict[str, int] = {}
    for key, _ in mapping.value:
        if isinstance(key, yaml.ScalarNode):
            line = key.start_mark.line + 1
            if key.value in seen:
                raise InputError(f"{place}, line {line}: {key.value!r} is there already, on line {seen[key.value]}")
            seen[key.value] = line


def _child(node: yaml.Node | None, key: str | int) -> tuple[int, yaml.Node] | None:
    """The line and node of a mapping's key, or of a list's position."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if name.value == str(key):
                return name.start_mark.line + 1, value
    if isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
        return node.value[key].start_mark.line + 1, node.value[key]
    return None
