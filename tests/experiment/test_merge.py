"""Parts of a sweep, put together, are the sweep."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kubesim.errors import InputError
from kubesim.experiment import Shard, load_experiment, merge, parse_shard, sweep
from tests.experiment.small import SMALL, contents, experiment_file


def run_parts(tmp_path: Path, text: str, parts: int) -> list[Path]:
    """Run a sweep in one, and in so many parts."""
    file = experiment_file(tmp_path, text)
    sweep(*load_experiment(file), tmp_path / "whole", workers=1)
    directories = [tmp_path / f"part-{number}" for number in range(1, parts + 1)]
    for number, directory in enumerate(directories, start=1):
        sweep(*load_experiment(file), directory, workers=1, shard=Shard(number, parts))
    return directories


@pytest.mark.parametrize("more", ["replications: 2\n", "precision: {within: 5 %, replications_at_most: 4}\n"])
def test_four_parts_are_the_whole_to_the_byte(more: str, tmp_path: Path) -> None:
    parts = run_parts(tmp_path, SMALL + more, 4)
    assert all(json.loads((part / "manifest.json").read_text())["finished_runs"] for part in parts)
    outcome = merge(parts[::-1], tmp_path / "merged")
    assert outcome.finished == outcome.planned
    assert contents(tmp_path / "merged") == contents(tmp_path / "whole")


def test_more_parts_than_runs(tmp_path: Path) -> None:
    parts = run_parts(tmp_path, SMALL.replace("[1, 20]", "[1]"), 3)
    merge(parts, tmp_path / "merged")
    assert contents(tmp_path / "merged") == contents(tmp_path / "whole")


def test_parts_that_do_not_fit(tmp_path: Path) -> None:
    parts = run_parts(tmp_path, SMALL, 2)
    out = tmp_path / "merged"
    with pytest.raises(InputError, match="part 2/2 of the sweep is missing: give its directory, too"):
        merge(parts[:1], out)
    with pytest.raises(InputError, match="are both part 1/2 of the sweep"):
        merge([parts[0], parts[0]], out)
    with pytest.raises(InputError, match="is one of the parts: the whole needs a directory of its own"):
        merge(parts, parts[0])
    with pytest.raises(InputError, match="holds no results of kubesim"):
        merge([tmp_path / "nowhere"], out)
    other = tmp_path / "other"
    file = experiment_file(tmp_path, SMALL.replace("Does it", "Would it"))
    sweep(*load_experiment(file), other, workers=1, shard=Shard(2, 2))
    with pytest.raises(InputError, match="are not of one sweep: their experiment differs"):
        merge([parts[0], other], out)
    with pytest.raises(InputError, match=r"one is part 1/1, the other 1/2|are not of one sweep"):
        merge([parts[0], tmp_path / "whole"], out)
    assert not out.exists(), "nothing is written before it is known that it fits"


@pytest.mark.parametrize("name", ["manifest.json", "plan.json"])
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"kind": "sweep"}', '{"runs": [[9, 0, "x"]], "combinations": []}']
)
def test_parts_that_are_damaged(name: str, text: str, tmp_path: Path) -> None:
    parts = run_parts(tmp_path, SMALL.replace("[1, 20]", "[1]"), 2)
    (parts[1] / name).write_text(text)
    with pytest.raises(InputError) as caught:
        merge(parts, tmp_path / "merged")
    assert str(parts[1]) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parts_that_are_not_finished_or_have_lost_a_run(tmp_path: Path) -> None:
    parts = run_parts(tmp_path, SMALL, 2)
    next((parts[0] / "runs").iterdir()).write_text("{}")
    with pytest.raises(InputError, match="is damaged"):
        merge(parts, tmp_path / "merged")
    manifest = json.loads((parts[0] / "manifest.json").read_text())
    (parts[0] / "manifest.json").write_text(json.dumps({**manifest, "is_complete": False, "finished_runs": 1}))
    with pytest.raises(InputError, match=r"is not finished \(1 of 2 runs\): run its sweep again, it goes on"):
        merge(parts, tmp_path / "merged")


def test_shards_as_they_are_written() -> None:
    assert parse_shard("2/4") == Shard(2, 4)
    assert str(Shard(2, 4)) == "2/4"
    assert [Shard(2, 4).has(position) for position in range(6)] == [False, True, False, False, False, True]
    for text in ("0/4", "5/4", "2", "2/4/1", "-1/4", "a/b", "", "1/0"):
        with pytest.raises(InputError, match="I/N is needed, such as 2/4"):
            parse_shard(text)
