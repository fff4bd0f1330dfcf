"""What each command takes, and what it prints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kubesim.cli.check_command import check
from kubesim.cli.options import CsvOption, JsonOption, print_json
from kubesim.cli.report_command import report
from kubesim.cli.rule_commands import refuse_other_options, rules, trace_dump
from kubesim.cli.search_command import search
from kubesim.cli.sweep_commands import merge, sweep
from kubesim.cli.twin_commands import calibrate, twin
from kubesim.cli.validate_command import validate
from kubesim.errors import InputError

app = typer.Typer(
    name="kubesim",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "What a Kubernetes network costs, before it is built.\n\n"
        "A **scenario** is one YAML file: cluster, CNI, service proxy, traffic. `kubesim run` plays it, `kubesim "
        "trace` follows one packet through it, `kubesim costs` says what its numbers rest on. An **experiment** is a "
        "scenario with factors to vary: `kubesim sweep` runs it and draws its figures. The directory `experiments/` "
        "has some to start from."
    ),
)

ScenarioFile = Annotated[Path, typer.Argument(metavar="SCENARIO.yaml", help="the scenario file", show_default=False)]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="change a field of the scenario, as `proxy=nftables` or `cluster.services=1000`; may be repeated",
    ),
]


@app.command()
def run(
    scenario: ScenarioFile,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="write tables and figures there")] = None,
    settings: SetOption = None,
    packets: Annotated[
        bool,
        typer.Option("--packets", help="with --out: write a row per packet and visit, and per packet and hop, too"),
    ] = False,
    csv: CsvOption = False,
    as_json: JsonOption = False,
) -> None:
    """Simulate a scenario and print its latency, throughput, losses and costs.

    With `--out DIR` the tables of transactions, operations and stations are written as Parquet, and two
    figures: how latency is spread, and where the CPU time goes.
    """
    from kubesim.cli import show  # noqa: PLC0415 - heavy imports wait until a command needs them
    from kubesim.cli.inputs import scenario_with  # noqa: PLC0415
    from kubesim.scenario import Summarised, summarise  # noqa: PLC0415
    from kubesim.scenario import run as simulate  # noqa: PLC0415
    from kubesim.scenario.store import save_result, summary_as_json  # noqa: PLC0415

    wanted = scenario_with(scenario, settings)
    if out is None:
        with show.messages() as advance:
            result: Summarised = summarise(wanted, advance)
    else:
        from kubesim.report import draw_directory  # noqa: PLC0415

        result = whole = simulate(wanted)
        save_result(whole, out, with_packets=packets, with_csv=csv)
        draw_directory(out, show.notice)
    if as_json:
        found = {"refusals": result.refusals, "drops": result.drops.to_dict("records")}
        print_json({"summary": summary_as_json(result), **found, **result.provenance})
    else:
        show.notices(result.notices)
        show.run(result)
        if out is not None:
            show.written(out)


app.command()(rules)
app.command()(calibrate)
app.add_typer(twin)
app.command()(validate)
app.command()(check)
app.command()(report)

_DUMP = "With --rules"


@app.command()
def trace(
    context: typer.Context,
    scenario: Annotated[
        Path | None, typer.Argument(metavar="SCENARIO.yaml", help="the scenario file", show_default=False)
    ] = None,
    *,
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="POD|NODE", help="the sender: a pod, or a process on a node", show_default=False
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--to", metavar="SERVICE|POD|NODE|IP[:PORT]", help="whom it calls", show_default=False)
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", "--proto", help="`tcp` or `udp`; that of the Service if not given")
    ] = None,
    size: Annotated[int, typer.Option("--bytes", min=0, max=65_000, help="payload of each packet")] = 64,
    settings: SetOption = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.svg|png", help="draw the way of the first packet, or of `--packet`")
    ] = None,
    as_text: Annotated[bool, typer.Option("--text", help="tell the ways in words instead of tables")] = False,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--packet",
            metavar="KIND",
            help="with --picture or --text: `first`, `first_reply`, `established` or `reply`; may be repeated",
        ),
    ] = None,
    dumps: Annotated[
        list[Path] | None,
        typer.Option(
            "--rules",
            metavar="DUMP",
            help="what `iptables-save`, `nft list ruleset`, `ipvsadm -Sn` or `ipset save` printed; may be repeated",
            rich_help_panel=_DUMP,
        ),
    ] = None,
    src: Annotated[str | None, typer.Option(metavar="IP", help="source address", rich_help_panel=_DUMP)] = None,
    dst: Annotated[str | None, typer.Option(metavar="IP", help="destination address", rich_help_panel=_DUMP)] = None,
    dport: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="destination port", rich_help_panel=_DUMP)
    ] = None,
    hook: Annotated[
        str,
        typer.Option(
            metavar="PREROUTING|OUTPUT", help="from outside or a pod, or from the node itself", rich_help_panel=_DUMP
        ),
    ] = "PREROUTING",
    in_interface: Annotated[
        str, typer.Option(metavar="IF", help="device it comes in by", rich_help_panel=_DUMP)
    ] = "eth0",
    out_interface: Annotated[
        str, typer.Option(metavar="IF", help="device it would leave through", rich_help_panel=_DUMP)
    ] = "eth0",
    local: Annotated[
        list[str] | None,
        typer.Option("--local", metavar="IP", help="an address of the node; may be repeated", rich_help_panel=_DUMP),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Follow a new connection hop by hop: its first packet, an established one, and the replies.

    Each line is an operation of the kernel or the card: where it is done, how often (rules tested, frames …), and what
    it costs. `--text` tells the ways in words and `--picture` draws them, with addresses before and after each change.
    JSON: `packets[]` with `kind`, `hops[]`, `rules_tested`, `delivered_to`, `total_ns`.

    With `--rules DUMP` no scenario is needed: one packet is walked through a real node's rules, with every outcome.
    JSON: `outcomes[]` with `to`, `verdict`, `probability`, `masquerade`, `rules_tested`.
    """
    refuse_other_options(context, "--rules" if dumps else "a scenario")
    if dumps:
        trace_dump(
            dumps,
            source=src,
            destination=dst,
            protocol=protocol or "tcp",
            port=dport,
            hook=hook,
            devices=(in_interface, out_interface),
            local=local,
            as_json=as_json,
        )
        return
    if scenario is None or source is None or target is None:
        raise InputError("trace needs a scenario with --from and --to, or --rules with --src, --dst and --dport")
    if kinds and picture is None and not as_text:
        raise InputError("--packet goes with --picture or --text")
    if as_json and as_text:
        raise InputError("--text and --json are two forms of the same: give one of them")
    from kubesim.cli import show  # noqa: PLC0415
    from kubesim.cli.inputs import scenario_with  # noqa: PLC0415
    from kubesim.scenario import trace as follow  # noqa: PLC0415

    if picture is not None:
        from kubesim.report.trace_picture import check_picture, draw_trace  # noqa: PLC0415

        check_picture(picture)
    found = follow(scenario_with(scenario, settings), source, target, protocol=protocol, payload_bytes=size)
    if picture is not None:
        draw_trace(found, picture, kinds or ("first",))
    if as_json:
        print_json(found.to_dict())
        return
    show.notices(found.notices)
    if as_text:
        typer.echo(found.text(kinds or ()))
    else:
        show.trace(found)
    if picture is not None:
        show.written(picture)


app.command()(sweep)
app.command()(merge)
app.command()(search)


@app.command()
def plot(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="what `run --out` or `sweep` wrote")],
    as_json: JsonOption = False,
) -> None:
    """Draw the figures of a directory of results again, from nothing but the data in it."""
    from kubesim.cli import show  # noqa: PLC0415
    from kubesim.report import draw_directory  # noqa: PLC0415

    figures = draw_directory(directory, show.notice)
    if as_json:
        print_json({"figures": [str(figure) for figure in figures]})
    else:
        for figure in figures:
            typer.echo(figure)


@app.command()
def costs(scenario: ScenarioFile, settings: SetOption = None, as_json: JsonOption = False) -> None:
    """List the numbers that a scenario rests on, the weakest evidence first, with their sources.

    A number is *assumed* (nobody has said), *derived* from figures that somebody printed, *published* for an operation
    like this one, *measured* on the machine of the cost set, or *given* by the scenario.
    """
    from kubesim.cli import show  # noqa: PLC0415
    from kubesim.cli.inputs import scenario_with  # noqa: PLC0415
    from kubesim.scenario import evidence  # noqa: PLC0415

    chosen = scenario_with(scenario, settings)
    found = evidence(chosen)
    if as_json:
        print_json({"cost_set": chosen.costs, "numbers": [one.to_dict() for one in found]})
    else:
        show.costs(found, chosen.costs)


@app.command()
def schema(
    of: Annotated[str, typer.Argument(metavar="[scenario|experiment|results]", help="schema of what")] = "scenario",
) -> None:
    """Print the JSON Schema of scenario or experiment files, for editors that check and complete YAML.

    Of `results` it prints unit and description of each column of a sweep's tables; `<factor>` stands for the factors'
    columns. The Parquet files have the same in the metadata of their fields.
    """
    from kubesim.cli.inputs import schema_of  # noqa: PLC0415

    print_json(schema_of(of))


def _version(wanted: bool) -> None:
    if wanted:
        from importlib import metadata  # noqa: PLC0415

        typer.echo(f"kubesim {metadata.version('kubesim')}")
        raise typer.Exit


@app.callback()
def _options(
    _version_wanted: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version and leave")
    ] = False,
) -> None:
    """Take what stands before a command."""
