"""Puts together what parts of a sweep have given; the outcome is that of the sweep in one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kubesim.errors import InputError
from kubesim.experiment.record import Record, read_record
from kubesim.experiment.runner import SweepOutcome, finished_runs, shortfalls
from kubesim.experiment.shard import Shard, parse_shard
from kubesim.experiment.spec import Experiment
from kubesim.experiment.store import ENVIRONMENT, PLAN, RUNS, Store, read_sweep_manifest
from kubesim.files import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kubesim.figure import Level

_SAME = ("experiment", "kubesim_version", "code_sha256")


@dataclass(frozen=True)
class _Part:
    """What a directory holds."""

    directory: Path
    manifest: dict[str, Any]
    levels: list[dict[str, Level]]
    runs: dict[tuple[int, int], str]

    @property
    def shard(self) -> Shard:
        """Which part of the sweep it is; all of it if it is none."""
        text = self.manifest["shard"]
        return Shard(1, 1) if text is None else parse_shard(text)


def merge(directories: Sequence[Path], out: Path, *, with_csv: bool = False) -> SweepOutcome:
    """Write the results of a sweep whose parts were run by themselves, as if it had been run in one.

    Parameters
    ----------
    directories
        Where the parts are, in any order.
    out
        Where the whole is to be.
    with_csv
        Write tables as CSV, too.

    Raises
    ------
    InputError
        If parts are missing or not finished, are damaged, or are not of one sweep.
    OutputError
        If the whole cannot be written.
    """
    parts = [_read_part(directory) for directory in directories]
    if any(part.directory.resolve() == out.resolve() for part in parts):
        raise InputError(f"{out} is one of the parts: the whole needs a directory of its own")
    _check(parts)
    experiment = Experiment.model_validate(parts[0].manifest["experiment"])
    planned = {key: run_id for part in parts for key, run_id in part.runs.items()}
    records = {key: _record(part, run_id) for part in parts for key, run_id in part.runs.items()}
    levels = parts[0].levels
    missed = shortfalls(experiment, levels, records)
    store = Store(out, experiment, levels, with_csv=with_csv)
    with store.opened():
        for record in records.values():
            store.keep(record)
        store.write_plan(planned)
        store.write_tables(finished_runs(levels, sorted(planned), records), len(planned), missed, is_complete=True)
        store.write_environment({"merged": [_environment(part.directory) for part in parts]})
    return SweepOutcome(out, len(records), len(planned), len(records), is_interrupted=False, shortfalls=missed)


def _read_part(directory: Path) -> _Part:
    manifest, _ = read_sweep_manifest(directory)
    plan = read_json(directory / PLAN)
    try:
        runs = {(int(number), int(replication)): str(run_id) for number, replication, run_id in plan["runs"]}
        levels = [dict(one) for one in plan["combinations"]]
        part = _Part(directory, manifest, levels, runs)
        is_consistent = all(0 <= number < len(levels) for number, _ in runs)
    except (KeyError, TypeError, ValueError):
        is_consistent = False
    if not is_consistent:
        raise InputError(f"{directory / PLAN} is damaged, or of another version")
    if not manifest.get("is_complete"):
        done, wanted = manifest.get("finished_runs"), manifest.get("planned_runs")
        raise InputError(f"{directory} is not finished ({done} of {wanted} runs): run its sweep again, it goes on")
    return part


def _check(parts: list[_Part]) -> None:
    """See that parts are of one sweep, each once and all there."""
    first = parts[0]
    for part in parts[1:]:
        for field in _SAME:
            if part.manifest.get(field) != first.manifest.get(field):
                raise InputError(f"{part.directory} and {first.directory} are not of one sweep: their {field} differs")
        if part.shard.of != first.shard.of or part.levels != first.levels:
            raise InputError(f"{part.directory} and {first.directory} are not of one sweep: {_parts(part, first)}")
    seen: dict[int, Path] = {}
    for part in parts:
        if part.shard.number in seen:
            earlier = seen[part.shard.number]
            raise InputError(f"{part.directory} and {earlier} are both part {part.shard} of the sweep")
        seen[part.shard.number] = part.directory
    missing = [str(Shard(number, first.shard.of)) for number in range(1, first.shard.of + 1) if number not in seen]
    if missing:
        what = f"part {missing[0]} of the sweep is" if len(missing) == 1 else f"parts {', '.join(missing)} of it are"
        raise InputError(f"{what} missing: give {'its directory' if len(missing) == 1 else 'their directories'}, too")


def _parts(part: _Part, other: _Part) -> str:
    return f"one is part {part.shard}, the other {other.shard}"


def _record(part: _Part, run_id: str) -> Record:
    return read_record(part.directory / RUNS / f"{run_id}.json")


def _environment(directory: Path) -> Any:
    try:
        return read_json(directory / ENVIRONMENT)
    except InputError:
        return None
