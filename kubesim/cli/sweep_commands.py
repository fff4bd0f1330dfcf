"""Commands that run experiments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kubesim.cli.options import CsvOption, JsonOption, print_json
from kubesim.errors import Interrupted

if TYPE_CHECKING:
    from kubesim.experiment import Combination, Experiment, Shard, SweepOutcome

OutOption = Annotated[Path | None, typer.Option(metavar="DIR", help="write results there; `results/NAME` if not given")]


def sweep(
    experiment: Annotated[
        Path, typer.Argument(metavar="EXPERIMENT.yaml", help="the experiment file", show_default=False)
    ],
    out: OutOption = None,
    workers: Annotated[int | None, typer.Option(min=1, max=1024, help="processes; one per core if not given")] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="run on a Dask cluster: `tcp://host:8786`, `tls://…`, or `local` for one of its own"
        ),
    ] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="run only part I of N; `kubesim merge` puts them together")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="run everything again, whatever is there")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would run and how long it may take")] = False,
    csv: CsvOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run an experiment: every combination of its factors' levels, in parallel; then print its tables and draw figures.

    Runs whose results are in the directory already are not run again, so a sweep that was stopped, however, goes on
    where it was. Results are the same whatever the number of workers, and wherever they are. Ctrl-C keeps what is
    finished.
    """
    from kubesim.cli import show, show_sweep  # noqa: PLC0415 - heavy imports wait until a command needs them
    from kubesim.experiment import load_experiment, parse_shard  # noqa: PLC0415
    from kubesim.experiment import sweep as run_sweep  # noqa: PLC0415
    from kubesim.experiment.environment import remember_experiment  # noqa: PLC0415

    part = None if shard is None else parse_shard(shard)
    description, combinations = load_experiment(experiment)
    directory = out or Path("results") / description.name
    show.notices(description.notices())
    if dry_run:
        _dry_run(description, combinations, directory, part, workers, is_fresh=fresh, as_json=as_json)
        return
    with show_sweep.progress(description.name) as advance:
        outcome = run_sweep(
            description, combinations, directory, workers, advance,
            dask=dask, shard=part, is_fresh=fresh, with_csv=csv,
        )  # fmt: skip
    remember_experiment(directory, experiment)
    _show(description, outcome, as_json=as_json)
    if outcome.is_interrupted:
        done = f"{outcome.finished} of {outcome.planned} runs {'is' if outcome.finished == 1 else 'are'} finished"
        raise Interrupted(f"{done} and kept in {directory}")


def merge(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR…", help="what `sweep --shard` wrote, all parts")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="write the whole there")],
    csv: CsvOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put the parts of a sweep together that were run with `--shard`: the outcome is that of the sweep in one."""
    from kubesim.experiment import merge as merge_parts  # noqa: PLC0415
    from kubesim.experiment import read_experiment  # noqa: PLC0415
    from kubesim.experiment.environment import remember_experiment, remembered_experiment  # noqa: PLC0415

    outcome = merge_parts(directories, out, with_csv=csv)
    file = remembered_experiment(directories)
    if file is not None:
        remember_experiment(out, file)
    _show(read_experiment(out), outcome, as_json=as_json)


def _show(experiment: Experiment, outcome: SweepOutcome, *, as_json: bool) -> None:
    """Draw the figures of a sweep, and print its tables."""
    from kubesim.cli import show, show_sweep  # noqa: PLC0415
    from kubesim.report import draw_directory  # noqa: PLC0415

    figures = draw_directory(outcome.directory, show.notice) if outcome.finished else []
    for name in outcome.damaged:
        show.notice(f"runs/{name} was damaged: its run was run again")
    show.notices(outcome.shortfalls)
    if as_json:
        print_json(
            {
                "directory": str(outcome.directory),
                "finished": outcome.finished,
                "planned": outcome.planned,
                "reused": outcome.reused,
                "shortfalls": list(outcome.shortfalls),
                "figures": [str(figure) for figure in figures],
            }
        )
    else:
        show_sweep.sweep(experiment, outcome)


def _dry_run(
    experiment: Experiment,
    combinations: list[Combination],
    directory: Path,
    shard: Shard | None,
    workers: int | None,
    *,
    is_fresh: bool,
    as_json: bool,
) -> None:
    from kubesim.cli import show_sweep  # noqa: PLC0415
    from kubesim.experiment import Place, forecast  # noqa: PLC0415

    found = forecast(experiment, combinations, directory, shard, is_fresh=is_fresh)
    processes = Place(workers).processes(found.runs)
    if as_json:
        runs: list[dict[str, Any]] = [
            {"levels": combinations[number].levels, "replications": count} for number, count in found.missing.items()
        ]
        seconds = found.lasting(processes)
        print_json({"runs": runs, "reused": found.reused, "seconds": seconds, "workers": processes})
    else:
        show_sweep.dry_run(experiment, combinations, found, processes)
