"""Commands that make a cluster real on this host, to measure it."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from kubesim.errors import InputError


class Kernel(StrEnum):
    """Whose kernel is measured."""

    HOST = "host"
    UML = "uml"


twin = typer.Typer(
    name="twin",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="The same cluster in network namespaces of this host's kernel, to see how far off the simulator is.",
)

_ScenarioFile = Annotated[Path, typer.Argument(metavar="SCENARIO.yaml", help="the scenario file", show_default=False)]
_Settings = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="change a field; repeatable")]
_Json = Annotated[bool, typer.Option("--json", help="print JSON for programs instead of a table for people")]


@twin.command("up")
def up(scenario: _ScenarioFile, settings: _Settings = None, as_json: _Json = False) -> None:
    """Build nodes and pods as network namespaces, wired and programmed as in the simulation, and leave them.

    Look around with `ip netns exec NAMESPACE …`; `kubesim twin down` removes them.
    """
    _need_pyroute2()
    from kubesim.cli import show  # noqa: PLC0415 - heavy imports wait until a command needs them
    from kubesim.cli.inputs import scenario_with  # noqa: PLC0415
    from kubesim.twin.run import bring_up  # noqa: PLC0415

    chosen = scenario_with(scenario, settings)
    with show.steps() as on_step:
        names = bring_up(chosen, on_step)
    if as_json:
        typer.echo(json.dumps({"namespaces": names}, indent=2))
    else:
        for name, namespace in names.items():
            typer.echo(f"{namespace}  {name}")


@twin.command("down")
def down(as_json: _Json = False) -> None:
    """Remove the twin that is up, and what killed runs have left behind."""
    _need_pyroute2()
    from kubesim.twin.realise import check_host  # noqa: PLC0415
    from kubesim.twin.run import take_down  # noqa: PLC0415

    check_host(["ip"])
    names = take_down()
    if as_json:
        typer.echo(json.dumps({"removed": names}, indent=2))
    else:
        typer.echo(f"{len(names)} namespaces removed")


@twin.command("run")
def run(
    scenario: _ScenarioFile,
    client: Annotated[str | None, typer.Option("--from", metavar="POD", help="who sends, by name or owner")] = None,
    services: Annotated[
        list[str] | None, typer.Option("--to", help="a Service, or `first`, `middle`, `last`; repeatable")
    ] = None,
    sizes: Annotated[list[int] | None, typer.Option("--bytes", min=1, max=65_000, help="payload; repeatable")] = None,
    settings: _Settings = None,
    as_json: _Json = False,
) -> None:
    """Build the twin, time packets through it, hold them against the simulation, and remove it.

    Times are those of one packet from socket to socket, of new connections and of established ones: the best decile,
    which is what a path takes when nothing disturbs it, and the median.
    """
    _need_pyroute2()
    from kubesim.cli import show  # noqa: PLC0415
    from kubesim.cli.inputs import scenario_with  # noqa: PLC0415
    from kubesim.twin.run import compare  # noqa: PLC0415

    chosen = scenario_with(scenario, settings)
    with show.steps() as on_step:
        found = compare(chosen, services or ["first", "middle", "last"], sizes or [64, 1372], client, on_step)
    if as_json:
        typer.echo(json.dumps({"cost_set": chosen.costs, "ways": [one.to_dict() for one in found]}, indent=2))
    else:
        show.compared(found, chosen.costs)


def calibrate(
    out: Annotated[Path, typer.Option("--out", metavar="COSTS.yaml", help="the cost set to write", show_default=False)],
    base: Annotated[str, typer.Option(help="the cost set that gives what is not measured")] = "published-x86-server",
    kernel: Annotated[Kernel, typer.Option(help="this host's, or Debian's user-mode-linux for IPVS")] = Kernel.HOST,
    quick: Annotated[bool, typer.Option("--quick", help="half a minute instead of one; less certain")] = False,
    grid: Annotated[
        bool, typer.Option("--grid", help="try the prices on each plugin, proxy and size: ten minutes")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Measure this machine's kernel, and write a cost set of it (root; Linux).

    Twins that differ in one thing each are built in network namespaces and timed in turn; the same ways are walked in
    the simulator; and the price of each operation is solved for. Name the file in a scenario: `costs: COSTS.yaml`.
    """
    _need_pyroute2()
    from kubesim.cli import show  # noqa: PLC0415
    from kubesim.twin.calibrate import calibrate as measure  # noqa: PLC0415
    from kubesim.twin.calibrate import write_cost_set  # noqa: PLC0415
    from kubesim.twin.designs import Extent  # noqa: PLC0415

    if out.suffix not in (".yaml", ".yml"):
        raise InputError(f"--out: {out} is to be a YAML file: a cost set is named by its file")
    if quick and grid:
        raise InputError("--quick and --grid: one of them")
    if kernel is Kernel.UML and grid:
        raise InputError("--grid: only of this host's kernel: a user-mode kernel times no single packets")
    if kernel is Kernel.UML:
        _calibrate_user_mode(out, base, quick=quick, as_json=as_json)
        return
    extent = Extent.QUICK if quick else Extent.GRID if grid else Extent.NORMAL
    with show.steps() as on_step:
        found = measure(base, extent, on_step)
    write_cost_set(found, out)
    if as_json:
        typer.echo(json.dumps(show.calibration_as_json(found, out), indent=2))
    else:
        show.calibration(found)
        show.written(out)


def _calibrate_user_mode(out: Path, base: str, *, quick: bool, as_json: bool) -> None:
    """Measure what only a user-mode kernel has."""
    from kubesim.cli import show  # noqa: PLC0415
    from kubesim.twin.calibrate_user_mode import calibrate_user_mode, write_user_mode_cost_set  # noqa: PLC0415

    with show.steps() as on_step:
        found = calibrate_user_mode(base, is_quick=quick, on_step=on_step)
    write_user_mode_cost_set(found, out)
    if as_json:
        typer.echo(json.dumps(show.user_mode_as_json(found, out), indent=2))
    else:
        show.user_mode_calibration(found)
        show.written(out)


def _need_pyroute2() -> None:
    try:
        import pyroute2  # noqa: F401, PLC0415
    except ImportError:
        raise InputError("not installed: pyroute2, of the extra 'twin': uv sync --frozen --extra twin") from None
