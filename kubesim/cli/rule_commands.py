"""Commands about rules: what kube-proxy writes, and what a dump of rules does to a packet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kubesim.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def rules(
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[MANIFEST.yaml]...", help="more manifests", show_default=False)
    ] = None,
    *,
    manifests: Annotated[
        list[Path] | None,
        typer.Option("-f", "--filename", metavar="MANIFEST.yaml", help="Services, endpoints or pods, nodes"),
    ] = None,
    node: Annotated[str | None, typer.Option(metavar="NAME", help="the node; the first one if not given")] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="KUBEPROXY.yaml", help="a KubeProxyConfiguration, or its ConfigMap")
    ] = None,
    mode: Annotated[str | None, typer.Option(help="`iptables`, `nftables` or `ipvs`")] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format", help="`restore` or `save`; `nft`; `ipvsadm`, `ipset`, `addresses`, `restore` or `save`"
        ),
    ] = None,
    family: Annotated[
        Literal["ipv4", "ipv6"] | None, typer.Option(help="that of the node's main address if not given")
    ] = None,
    before: Annotated[
        list[Path] | None,
        typer.Option(metavar="MANIFEST.yaml", help="as it was: print what the sync after the change writes"),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="with --before: a full sync, not a partial one")] = False,
) -> None:
    """Print the rules that kube-proxy (v1.30) would program into a node, to the character.

    They are in the form that the kernel's tools take or print: `iptables-restore` and `iptables-save`, `nft`,
    `ipvsadm -Sn`, `ipset save`.
    """
    from kubesim.cli import show  # noqa: PLC0415 - heavy imports wait until a command needs them
    from kubesim.scenario.node_rules import node_rules  # noqa: PLC0415

    files = [*(manifests or ()), *(more or ())]
    if not files:
        raise InputError("-f: a manifest is needed")
    if full and not before:
        raise InputError("--full is of no use without --before, which says how things were")
    found = node_rules(
        files, node, config=config, mode=mode, form=form, family=family, before=before or (), is_full_sync=full
    )
    show.notices(found.notices)
    typer.echo(found.text, nl=False)


_ONLY: Mapping[str, Mapping[str, str]] = {
    "--rules": {
        "src": "--src", "dst": "--dst", "dport": "--dport", "hook": "--hook", "in_interface": "--in-interface",
        "out_interface": "--out-interface", "local": "--local",
    },
    "a scenario": {
        "scenario": "SCENARIO.yaml", "source": "--from", "target": "--to", "size": "--bytes", "settings": "--set",
        "picture": "--picture", "kinds": "--packet", "as_text": "--text",
    },
}  # fmt: skip
"""What goes with only one of the two things that ``trace`` follows packets through."""


def refuse_other_options(context: typer.Context, chosen: str) -> None:
    """Refuse what goes only with what was not chosen."""
    for other, options in _ONLY.items():
        for parameter, option in options.items():
            source = context.get_parameter_source(parameter)
            if (
                other != chosen
                and source is not None
                and source.name == "COMMANDLINE"
                and context.params[parameter] is not None
            ):
                raise InputError(f"{option} goes with {other}, not with {chosen}")


def trace_dump(
    dumps: Sequence[Path],
    *,
    source: str | None,
    destination: str | None,
    protocol: str,
    port: int | None,
    hook: str,
    devices: tuple[str, str],
    local: Sequence[str] | None,
    as_json: bool,
) -> None:
    """Walk one packet through the rules of dumps, and print every outcome."""
    from kubesim.cli import show  # noqa: PLC0415
    from kubesim.kernel.netfilter.hooks import Hook  # noqa: PLC0415
    from kubesim.kernel.rule_dumps import read_dumps  # noqa: PLC0415
    from kubesim.kernel.rule_trace import Flow, trace_rules  # noqa: PLC0415

    if source is None or destination is None or port is None:
        raise InputError("--rules needs --src, --dst and --dport too")
    if hook not in ("PREROUTING", "OUTPUT"):
        raise InputError(f"--hook: there is no {hook!r}: {did_you_mean(hook, ('PREROUTING', 'OUTPUT'))}")
    for address in local or ():
        if (":" in address) is not (":" in source):
            raise InputError(f"--local: {address} is of another family than --src {source}")
    read = read_dumps(dumps, is_ipv6=":" in source)
    flow = Flow(source, destination, protocol, port, Hook(hook), *devices)
    found = trace_rules(flow, read.install, local)
    notices = [*read.notices]
    if found.is_assumed_local:
        notices.append(f"{destination} is taken for the node's own address: rules for such addresses say where it goes")
    if as_json:
        outcomes = [one.to_dict() for one in found.outcomes]
        typer.echo(json.dumps({"outcomes": outcomes, "notices": notices}, indent=2, allow_nan=False))
    else:
        show.notices(notices)
        show.outcomes(found.outcomes)
