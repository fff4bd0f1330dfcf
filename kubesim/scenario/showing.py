"""What scenarios, results, traces and evidence look like in Jupyter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from kubesim import html
from kubesim.scenario.fields import leaves
from kubesim.scenario.telling import ending, heading, told
from kubesim.units import counted, format_measure, format_ns, measure_label

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from xml.etree.ElementTree import Element

    from kubesim.scenario.spec import Scenario
    from kubesim.scenario.summary import Summarised
    from kubesim.scenario.tracing import TracedPacket, TraceResult
    from kubesim.scenario.used_costs import Evidence

_FIRST_SEEN = (
    "transactions",
    "loss_ratio",
    "throughput_per_s",
    "goodput_bit_per_s",
    "latency_p50_ns",
    "latency_p99_ns",
    "first_packet_ns",
    "first_packet_rules",
    "established_packet_ns",
    "established_packet_rules",
    "cpu_ns_per_transaction",
    "busiest_core_utilisation",
    "dropped_packets",
)
"""Measures that are seen without a click."""

_OPERATIONS_SHOWN, _NUMBERS_SHOWN = 12, 12


def scenario_html(scenario: Scenario) -> str:
    """The fields that were given, and behind a click those that were not."""
    given = dict(leaves(scenario.model_dump(mode="json", by_alias=True, exclude_unset=True)))
    every = leaves(scenario.model_dump(mode="json", by_alias=True))
    own = [(path, value) for path, value in given.items() if path not in ("name", "description")]
    others = [(path, value) for path, value in every if path not in given and path not in ("name", "description")]
    return html.shown(
        html.title(scenario.name, "(scenario)"),
        html.line(scenario.description),
        _fields(own),
        html.folded(f"{counted(len(others), 'other field')}, as by default", _fields(others)),
    )


def titled(scenario: Scenario) -> str:
    """A scenario by its name and by what decides most."""
    return f"{scenario.name} ({scenario.traffic.workload}, {scenario.cni.name}, {scenario.proxy.name})"


def result_html(result: Summarised) -> str:
    """The summary with units, what a person should know, and where the CPU time goes."""
    scenario, summary = result.scenario, result.summary
    first = [name for name in _FIRST_SEEN if name in summary]
    others = [name for name in summary if name not in first]
    refusals = (f"{counted(flows, 'connection')} got nowhere: {why}" for why, flows in result.refusals.items())
    return html.shown(
        html.title(titled(scenario), "(result)"),
        html.notes([*result.notices, *refusals]),
        _measures(summary, first),
        html.folded(f"{len(others)} more measures", _measures(summary, others)),
        html.folded("where the CPU time goes", _operations(result)),
        html.line(_origin(result.provenance)),
    )


def trace_pieces(found: TraceResult) -> list[Element | None]:
    """What became of each packet, and behind a click its way in words and its hops."""
    rows = [
        (
            packet.kind.replace("_", " "),
            packet.sent,
            packet.delivered_to or f"nobody: {packet.path.reason}",
            format_ns(packet.total_ns),
            format_ns(packet.cpu_ns),
            f"{packet.rules_tested:,}",
        )
        for packet in found.packets
    ]
    columns = ("packet", "sent", "delivered to", "time", "CPU time", "rules tested")
    return [
        html.notes(found.notices),
        html.table(columns, rows, numbers=columns[3:]),
        *(html.folded(f"{_name(one)}, hop by hop", html.preformatted(told(one)), _hops(one)) for one in found.packets),
        html.line(_origin(found.provenance)),
    ]


def trace_title(found: TraceResult) -> Element:
    """From whom to whom."""
    return html.title(f"{found.source} → {found.target}", "(trace)")


def packet_html(packet: TracedPacket) -> str:
    """One packet's hops, and where it came to."""
    return html.shown(html.title(heading(packet)), _hops(packet), html.line(ending(packet)))


def evidence_html(found: Sequence[Evidence]) -> str:
    """Every number with its source, in the order of the list; those behind the first are seen after a click."""
    columns = ("kind", "operation", "number", "value", "share of time", "source")
    rows = [
        (
            one.kind.value,
            one.operation,
            one.number,
            f"{one.value:g}",
            "" if one.operation == "(all)" else f"{one.share:.1%}",
            one.source,
        )
        for one in found
    ]
    first, others = (
        html.table(columns, part, numbers=("value", "share of time"))
        for part in (rows[:_NUMBERS_SHOWN], rows[_NUMBERS_SHOWN:])
    )
    return html.shown(
        html.title(counted(len(found), "number"), "(evidence), the weakest first"),
        first,
        html.folded(f"{len(rows) - _NUMBERS_SHOWN} more", others) if len(rows) > _NUMBERS_SHOWN else None,
    )


def _name(packet: TracedPacket) -> str:
    return f"{packet.kind.replace('_', ' ')} packet" if "reply" not in packet.kind else packet.kind.replace("_", " ")


def _fields(fields: Iterable[tuple[str, Any]]) -> Element:
    return html.table(("field", "value"), ((path, _setting(value)) for path, value in fields))


def _setting(value: Any) -> str:
    """A setting as it is written in YAML."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _measures(summary: dict[str, Any], names: Sequence[str]) -> Element:
    rows = ((measure_label(name), format_measure(name, float(summary[name])), name) for name in names)
    return html.table(("measure", "value", "in summary as"), rows, numbers=("value",))


def _operations(result: Summarised) -> Element:
    cpu = result.breakdown[result.breakdown["is_cpu"]].head(_OPERATIONS_SHOWN)
    rows = (
        (str(operation), format_ns(float(spent)), f"{float(share):.1%}")
        for operation, spent, share in zip(cpu["operation"], cpu["ns_per_transaction"], cpu["share"], strict=True)
    )
    columns = ("operation", "CPU time per transaction", "share")
    return html.table(columns, rows, numbers=columns[1:])


def _hops(packet: TracedPacket) -> Element:
    rows = (
        (one.hop.host, one.hop.operation, f"{one.hop.total_items:,}", one.hop.at, format_ns(one.cost_ns))
        for one in packet.hops
    )
    return html.table(("node", "operation", "count", "at", "cost"), rows, numbers=("count", "cost"))


def _origin(provenance: dict[str, str]) -> str:
    """What made it."""
    return (
        f"kubesim {provenance['kubesim_version']}, cost set {provenance['cost_set']}, seed {provenance['seed']}, "
        f"scenario {provenance['scenario_sha256'][:12]}"
    )
