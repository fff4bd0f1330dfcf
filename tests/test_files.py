"""Files: YAML with lines, and nothing half-written."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubesim.errors import InputError, OutputError
from kubesim.files import MANIFEST, parse_yaml, parse_yaml_stream, prepare_directory, read_text, write_file, write_text

SCALARS = st.none() | st.booleans() | st.integers(-100, 100) | st.text("abcxyz", max_size=5)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc"), inner))


@given(data=st.dictionaries(st.text("abcdef", min_size=1), VALUES, min_size=1))
def test_every_part_has_its_line(data: dict[str, object]) -> None:
    text = yaml.safe_dump(data, sort_keys=False)
    document = parse_yaml(text, "x.yaml")
    assert document.data == data
    lines = text.splitlines()
    for key in data:
        line = document.line_of((key,))
        assert line is not None
        assert yaml.safe_load(lines[line - 1].split(":")[0].removeprefix("? ")) == yaml.safe_load(key)


def test_lines_of_inner_parts() -> None:
    document = parse_yaml("a:\n  b:\n    - 1\n    - c: 2\n", "x.yaml")
    assert document.line_of(("a", "b", 1, "c")) == 4
    assert document.line_of(("a", "b", 1, "missing")) == 4, "as much of the way as there is"
    assert document.line_of(("nothing",)) is None
    assert str(document.error(("a", "b"), "is wrong")) == "x.yaml, line 2: a.b: is wrong"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "x.yaml, line 2, column 1: did not find expected ',' or ']'"),
        ("a: 1\nb: 2\na: 3", "x.yaml, line 3: 'a' is there already, on line 1"),
        ("x:\n  - {a: 1, a: 2}", "x.yaml, line 2: 'a' is there already, on line 2"),
        ("a: *b", "line 1, column 4: found undefined alias"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: 2020-13-45", "month must be in 1..12"),
        ("a: !!bool x", "not what its form or tag says"),
        ("\0", "control characters are not allowed"),
    ],
)
def test_what_is_no_yaml(text: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_yaml(text, "x.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_yaml_that_goes_in_circles_or_grows_without_end_is_read() -> None:
    assert parse_yaml("a: &a [*a]", "x.yaml").data["a"][0][0]
    bomb = "a0: &a0 [x]\n" + "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 40))
    assert len(parse_yaml(bomb, "x.yaml").data) == 40


def test_a_stream_names_its_documents() -> None:
    assert list(parse_yaml_stream("a: 1\n---\nb: 2\n", "x.yaml")) == [
        ("x.yaml, document 1", {"a": 1}),
        ("x.yaml, document 2", {"b": 2}),
    ]
    found = parse_yaml_stream("a: 1\n---\nb: [\n", "x.yaml")
    next(found)
    with pytest.raises(InputError, match=r"x\.yaml, line 4"):
        next(found)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_text(tmp_path / "none.yaml")
    with pytest.raises(InputError, match="Is a directory"):
        read_text(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"\xe9t\xe9")
    with pytest.raises(InputError, match="not UTF-8"):
        read_text(tmp_path / "latin.yaml")


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    write_text(target, "first")
    assert target.read_text() == "first"
    assert stat.S_IMODE(target.stat().st_mode) & stat.S_IRUSR

    def fail(aside: Path) -> None:
        aside.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left on device"):
        write_file(target, fail)
    assert target.read_text() == "first"
    assert [file.name for file in target.parent.iterdir()] == ["file.txt"], "nothing is left beside it"


def test_directories_of_results_are_cleared_and_others_left_alone(tmp_path: Path) -> None:
    results = tmp_path / "deep" / "results"
    prepare_directory(results, "sweep")
    write_text(results / MANIFEST, "{}")
    write_text(results / "figures" / "old.png", "")
    write_text(results / "notes.txt", "mine")
    prepare_directory(results, "sweep")
    assert sorted(file.name for file in results.iterdir()) == [MANIFEST, "notes.txt"]
    foreign = tmp_path / "home"
    write_text(foreign / "letter.txt", "dear")
    with pytest.raises(OutputError, match="no results of kubesim"):
        prepare_directory(foreign, "run")
    with pytest.raises(OutputError, match=r"Not a directory|File exists"):
        prepare_directory(foreign / "letter.txt" / "x", "run")


def test_results_of_another_kind_are_left_alone(tmp_path: Path) -> None:
    write_text(tmp_path / MANIFEST, '{"kind": "sweep"}')
    write_text(tmp_path / "runs" / "1.json", "hours of work")
    with pytest.raises(OutputError, match="holds the results of a sweep: give another directory for those of a run"):
        prepare_directory(tmp_path, "run")
    assert (tmp_path / "runs" / "1.json").exists()
    prepare_directory(tmp_path, "sweep", keep=("runs",))
    assert (tmp_path / "runs" / "1.json").exists()


def test_what_was_only_begun_to_be_written_is_removed(tmp_path: Path) -> None:
    results = tmp_path / "results"
    halves = [results / ".kubesim-manifest-x.json", results / "runs" / ".kubesim-1-y.json"]
    results.mkdir()
    halves[0].write_text('{"kind"')
    prepare_directory(results, "sweep", keep=("runs",))
    assert not halves[0].exists(), "a sweep that was killed before its manifest was there is no foreign directory"
    write_text(results / MANIFEST, '{"kind": "sweep"}')
    halves[1].parent.mkdir()
    halves[1].write_text("{")
    prepare_directory(results, "sweep", keep=("runs",))
    assert not halves[1].exists()
