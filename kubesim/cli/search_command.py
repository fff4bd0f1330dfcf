"""The command that answers questions of capacity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kubesim.cli.exit_codes import CANNOT_TELL
from kubesim.cli.options import JsonOption, print_json
from kubesim.errors import InputError

if TYPE_CHECKING:
    from kubesim.experiment.search import Found, Tried


def search(
    scenario: Annotated[Path, typer.Argument(metavar="SCENARIO.yaml", help="the scenario file", show_default=False)],
    vary: Annotated[str, typer.Option(metavar="FIELD", help="the field to vary, such as `traffic.rate_per_s`")],
    until: Annotated[
        str,
        typer.Option(
            metavar="EXPECTATION",
            help="what is to hold: `p99 < 1 ms`, or `ratio(cpu, proxy=iptables, proxy=nftables) < 1.1`",
        ),
    ],
    low: Annotated[float | None, typer.Option("--from", help="the lowest level; found by halving if not given")] = None,
    high: Annotated[
        float | None, typer.Option("--to", help="the highest level; found by doubling if not given")
    ] = None,
    *,
    within: Annotated[
        str, typer.Option(metavar="SHARE", help="how close the two sides of the border are to be")
    ] = "1 %",
    replications: Annotated[int, typer.Option(min=3, max=10_000, help="replications of one level, at most")] = 48,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="change a field of the scenario; may be repeated"),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, max=1024, help="processes; one per core if not given")] = None,
    dask: Annotated[str | None, typer.Option(metavar="ADDRESS", help="run on a Dask cluster")] = None,
    as_json: JsonOption = False,
) -> None:
    """Find up to which level of a field an expectation holds: the highest rate, the number of Services.

    The search is a bisection. At each level replications are run until the 95 % confidence interval of the measure
    lies on one side of what is expected; where it never does, the data cannot tell, and both ends of that stretch are
    found. A latency that grows without end is above every limit.

    Without `--from` and `--to` it begins at what the scenario says, and doubles and halves. Exit code 3: there is no
    border in the range, or the data cannot tell where.
    """
    from kubesim.cli import show, show_search  # noqa: PLC0415 - heavy imports wait until a command needs them
    from kubesim.cli.inputs import document_with  # noqa: PLC0415
    from kubesim.experiment.places import Place  # noqa: PLC0415
    from kubesim.experiment.precision import parse_ratio  # noqa: PLC0415
    from kubesim.experiment.search import range_of  # noqa: PLC0415
    from kubesim.experiment.search import search as find  # noqa: PLC0415

    share = parse_ratio(within)
    if share is None:
        raise InputError(f"--within {within}: a share is needed, such as 1 %")
    document = document_with(scenario, settings)
    where = range_of(document, scenario.parent, vary, low, high, share)
    with show_search.progress(vary) as tell:
        found = find(
            document.data, scenario.parent, vary, until, where,
            place=Place(workers, dask), replications_at_most=replications, on_tried=tell,
        )  # fmt: skip
    if as_json:
        print_json(_as_json(found))
    else:
        show_search.search(found)
    if found.holds_at is None or found.fails_at is None:
        show.notices(show_search.what_may_help(found))
        raise typer.Exit(CANNOT_TELL)


def _as_json(found: Found) -> dict[str, Any]:
    return {
        "field": found.field,
        "expectation": str(found.expectation),
        "holds_at": found.holds_at,
        "fails_at": found.fails_at,
        "runs": found.runs,
        "refused": list(found.refused),
        "tried": [_tried_as_json(one) for one in found.tried],
    }


def _tried_as_json(one: Tried) -> dict[str, Any]:
    from math import isfinite  # noqa: PLC0415

    interval = one.interval
    numbers = {"estimate": interval.estimate, "low": interval.low, "high": interval.high}
    return {
        "level": one.level,
        "verdict": one.verdict.value,
        **{name: number if isfinite(number) else None for name, number in numbers.items()},
        "replications": interval.replications,
        "reason": one.reason,
    }
