"""Reading YAML with line numbers, and writing files so that a half-written one is never seen."""

from __future__ import annotations

import contextlib
import itertools
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
_TABLES = ("runs", "breakdown", "transactions", "utilisation", "packets", "hops", "targets")
_RESULTS = tuple(f"{table}.{ending}" for table in _TABLES for ending in ("parquet", "csv"))
_RESULTS += ("summary.json", "scenario.json", "validation.json", "report.html")
"""What a run, a sweep or a validation may have left in its directory, besides the manifest, which is written over."""

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
    """

    place: str
    data: Any
    _root: yaml.Node | None
    settings: Mapping[str, str] = field(default_factory=dict)

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
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
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


def prepare_directory(directory: Path) -> None:
    """Make a directory for results, and clear away what an earlier run or sweep left in it.

    Parameters
    ----------
    directory
        Where results go.

    Raises
    ------
    OutputError
        If it cannot be written, or holds files that are not results.
    """
    try:
        is_foreign = directory.exists() and any(directory.iterdir()) and not (directory / MANIFEST).exists()
        if not is_foreign:
            directory.mkdir(parents=True, exist_ok=True)
            for name in _DIRECTORIES:
                shutil.rmtree(directory / name, ignore_errors=True)
            for name in _RESULTS:
                (directory / name).unlink(missing_ok=True)
            handle, probe = tempfile.mkstemp(dir=directory)
            os.close(handle)
            Path(probe).unlink()
    except OSError as error:
        raise OutputError(f"cannot write to {directory}: {error.strerror}") from None
    if is_foreign:
        raise OutputError(f"{directory} holds files that are no results of kubesim: give another directory")


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
