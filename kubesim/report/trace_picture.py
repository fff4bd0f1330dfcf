"""The picture of a packet's way: machines, their namespaces, and in these the sockets, devices and hooks it passes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kubesim.errors import InputError
from kubesim.report import style
from kubesim.report.groups import GROUPS, group_of
from kubesim.report.trace_boxes import (
    GREY,
    INK,
    SMALL,
    WAY,
    EndBox,
    HandOver,
    HeaderBox,
    StopBox,
    box,
    inches,
    shortened,
    text,
    wrapped,
)
from kubesim.scenario.stops import StopKind
from kubesim.scenario.telling import ending, handed_over, heading, namespace_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from matplotlib.axes import Axes

    from kubesim.report.trace_boxes import Part
    from kubesim.scenario import TracedPacket, TraceResult
    from kubesim.scenario.stops import Stop

_COLUMN, _BETWEEN, _MARGIN = 4.9, 0.55, 0.3
_LINE = 0.25
"""How far the packet's line is from the left of the boxes on it."""

_GAP = 0.1
_AROUND = 0.1
_LABEL = 0.27
_TITLE, _SUBTITLE = 12.0, 9.0
_WIRE_WIDTH, _WIRE_DISTANCE = 4.0, 0.22
_INSIDE = _COLUMN - 4 * _AROUND
"""Width of a stop's box: what machine and namespace leave."""


@dataclass
class _Frame:
    """A machine or a namespace, and what is in it from top to bottom."""

    label: str
    is_machine: bool
    inside: Sequence[_Frame | Part]

    @property
    def height(self) -> float:
        return _LABEL + sum(one.height + _GAP for one in self.inside)

    def draw(self, ax: Axes, left: float, top: float, width: float) -> None:
        face, edge = ("#f1f1f1", INK) if self.is_machine else ("#fafafa", GREY)
        box(ax, left, top, width, self.height, zorder=0.5, face=face, edge=edge)
        weight, size = ("bold", 11.0) if self.is_machine else ("normal", 8.5)
        x = left + (2 if self.is_machine else 1) * _AROUND + _LINE + 0.2  # beside the packet's line
        label = shortened(self.label, size, left + width - x, weight)
        text(ax, x, top - 0.065, label, size, weight=weight, color=edge)
        y = top - _LABEL
        for one in self.inside:
            one.draw(ax, left + _AROUND, y, width - 2 * _AROUND)
            y -= one.height + _GAP

    def spans(self, top: float) -> Iterable[tuple[float, float]]:
        """Upper and lower ends of the parts in it, from top to bottom."""
        y = top - _LABEL
        for one in self.inside:
            if isinstance(one, _Frame):
                yield from one.spans(y)
            else:
                yield y, y - one.height
            y -= one.height + _GAP


@dataclass
class _Column:
    """What is passed between two wires, from top to bottom; in every second column the way goes up."""

    frames: list[_Frame]
    is_upward: bool

    @property
    def height(self) -> float:
        return sum(frame.height + _GAP for frame in self.frames) - _GAP


class _Panel:
    """The way of one packet: columns side by side, joined by wires in turn below and above them."""

    def __init__(self, packet: TracedPacket) -> None:
        self._packet = packet
        self._dearest_ns = max((stop.cost_ns for stop in packet.stops), default=1)
        self._columns: list[_Column] = []
        self._wires: list[StopBox] = []
        numbered = list(enumerate(packet.stops, 1))
        for is_wire, group in groupby(numbered, key=lambda entry: self._joins(*entry)):
            boxes = [self._box(stop, number, _WIRE_WIDTH if is_wire else _INSIDE) for number, stop in group]
            if is_wire:
                self._wires += boxes
            else:
                self._columns.append(_column(boxes, is_upward=len(self._columns) % 2 == 1))
        self._end()
        self.width = len(self._columns) * (_COLUMN + _BETWEEN) - _BETWEEN
        self._title = wrapped(heading(packet), _TITLE, self.width, weight="bold")
        self._summary = wrapped(_summary(packet), _SUBTITLE, self.width)
        self._title_height = 0.16 + 0.22 * len(self._title) + 0.17 * len(self._summary)
        self._machines_height = max(column.height for column in self._columns)
        self._above = self._room_for_wires(self._wires[1::2])
        below = self._room_for_wires(self._wires[::2])
        self.height = self._title_height + self._above + self._machines_height + below

    def draw(self, ax: Axes, left: float, top: float) -> None:
        for number, line in enumerate(self._title):
            text(ax, left, top - 0.22 * number, line, _TITLE, weight="bold")
        for number, line in enumerate(self._summary):
            text(ax, left, top - 0.04 - 0.22 * len(self._title) - 0.17 * number, line, _SUBTITLE, color=GREY)
        ceiling = top - self._title_height - self._above
        floor = ceiling - self._machines_height
        before: tuple[float, float] | None = None
        for number, column in enumerate(self._columns):
            x = left + number * (_COLUMN + _BETWEEN)
            ends = self._draw_column(ax, column, x, ceiling, floor, is_last=number == len(self._columns) - 1)
            if before is not None:
                wire = self._wires[number - 1]
                reach = _WIRE_DISTANCE + wire.height / 2
                y = floor - reach if number % 2 else ceiling + reach
                ax.plot([before[0], before[0], ends[0], ends[0]], [before[1], y, y, ends[1]], **_LINE_LOOK, zorder=1.5)
                middle = (before[0] + ends[0]) / 2
                wire.draw(ax, middle - _WIRE_WIDTH / 2, y + wire.height / 2, _WIRE_WIDTH)
            before = (ends[0], ends[2])

    def _draw_column(
        self, ax: Axes, column: _Column, left: float, ceiling: float, floor: float, *, is_last: bool
    ) -> tuple[float, float, float]:
        """Draw a column; where its line is, and at which heights the packet comes and goes."""
        is_at_floor = column.is_upward or (len(self._columns) > 1 and not is_last)
        top = floor + column.height if is_at_floor else ceiling
        x = left + 2 * _AROUND + _LINE
        spans: list[tuple[float, float]] = []
        for frame in column.frames:
            frame.draw(ax, left, top, _COLUMN)
            spans += frame.spans(top)
            top -= frame.height + _GAP
        highest, lowest = sum(spans[0]) / 2, sum(spans[-1]) / 2
        ax.plot([x, x], [highest, lowest], **_LINE_LOOK, zorder=5)
        for (_, above), (below, _) in pairwise(spans):
            y = above - _GAP / 2 if column.is_upward else below + _GAP / 2
            ax.plot([x], [y], "^" if column.is_upward else "v", color=WAY, markersize=6, zorder=7)
        return (x, lowest, highest) if column.is_upward else (x, highest, lowest)

    def _joins(self, number: int, stop: Stop) -> bool:
        """Whether a stop is a wire between two columns; one on which the way ends is in the column of who sent."""
        return stop.kind is StopKind.WIRE and 1 < number < len(self._packet.stops)

    def _box(self, stop: Stop, number: int, width: float) -> StopBox:
        return StopBox(stop, number, self._packet.total_ns, self._dearest_ns, width, _LINE)

    def _end(self) -> None:
        """Put the end of the way behind the last stop."""
        packet = self._packet
        arrived = packet.delivered_to is not None
        words = f"delivered to {packet.delivered_to}" if arrived else f"got nowhere: {packet.path.reason}"
        end = EndBox(words, arrived, _INSIDE, _LINE)
        column = self._columns[-1]
        machine = column.frames[0 if column.is_upward else -1]
        namespace = machine.inside[0 if column.is_upward else -1]
        if isinstance(namespace, _Frame):
            inside = [*namespace.inside]
            namespace.inside = [end, *inside] if column.is_upward else [*inside, end]

    @staticmethod
    def _room_for_wires(wires: Sequence[StopBox]) -> float:
        return max((2 * _WIRE_DISTANCE + wire.height for wire in wires), default=0.0)


_LINE_LOOK: Any = {"color": WAY, "linewidth": 2.4, "solid_capstyle": "round"}


def draw_trace(found: TraceResult, path: Path | str, kinds: Sequence[str] = ("first",)) -> Path:
    """Draw the ways of packets that were followed.

    Parameters
    ----------
    found
        What :func:`kubesim.trace` gave.
    path
        The file, ``.svg`` or ``.png``.
    kinds
        The packets, side by side: ``first``, ``first_reply``, ``established``, ``reply``.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the file is of another kind, or there is no such packet.
    OutputError
        If the file cannot be written.
    """
    check_picture(path := Path(path))
    return style.save_file(trace_figure(found, kinds), path, found.provenance)


def trace_figure(found: TraceResult, kinds: Sequence[str] = ("first",)) -> Figure:
    """The same as a figure that is not in a file yet, as for a notebook.

    Parameters
    ----------
    found, kinds
        As :func:`draw_trace` takes them.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        If there is no such packet.
    """
    panels = [_Panel(found.packet(kind)) for kind in kinds]
    groups = _groups_used(stop for kind in kinds for stop in found.packet(kind).stops)
    width = 2 * _MARGIN + sum(panel.width + _BETWEEN for panel in panels) - _BETWEEN
    legend = _legend_rows(groups, width - 2 * _MARGIN)
    notes = wrapped(_notes(found), SMALL, width - 2 * _MARGIN)
    below = 0.3 + 0.22 * len(legend) + 0.15 * len(notes)
    height = 2 * _MARGIN + max(panel.height for panel in panels) + below
    with mpl.rc_context(style.STYLE):
        figure = Figure(figsize=(width, height))
        ax = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
        ax.set_axis_off()
        x = _MARGIN
        for panel in panels:
            panel.draw(ax, x, height - _MARGIN)
            x += panel.width + _BETWEEN
        y = _MARGIN + below - 0.2
        for row in legend:
            _draw_legend(ax, row, y)
            y -= 0.22
        for number, line in enumerate(notes):
            text(ax, _MARGIN, y - 0.05 - 0.15 * number, line, SMALL, color=GREY)
    return figure


def check_picture(path: Path) -> None:
    """Refuse a file of a kind that pictures are not written as.

    Raises
    ------
    InputError
        If it is one.
    """
    if path.suffix[1:] not in style.FILE_ENDINGS:
        known = " or ".join(f".{ending}" for ending in style.FILE_ENDINGS)
        raise InputError(f"picture: {path}: a picture is a {known} file")


def _column(boxes: Sequence[StopBox], *, is_upward: bool) -> _Column:
    """Frames around stops, and headers where they have changed; upside down where the way goes up."""
    shown = boxes[0].stop.before if boxes[0].number > 1 else ()
    machines: list[_Frame] = []
    is_first = True
    for host, of_host in groupby(boxes, key=lambda one: one.stop.host):
        namespaces: list[_Frame | Part] = []
        for namespace, of_namespace in groupby(of_host, key=lambda one: one.stop.namespace):
            parts: list[Part] = []
            for one in of_namespace:
                if is_first or one.stop.before != shown:
                    parts.append(HeaderBox(one.stop.before, shown, _LINE))
                shown, is_first = one.stop.before, False
                handed = handed_over(one.stop)
                parts += [HandOver(handed, _LINE), one] if handed else [one]
            label = namespace_text(host, namespace)
            namespaces.append(_Frame(label, False, parts[::-1] if is_upward else parts))
        machines.append(_Frame(host, True, namespaces[::-1] if is_upward else namespaces))
    return _Column(machines[::-1] if is_upward else machines, is_upward)


def _summary(packet: TracedPacket) -> str:
    """Where it came to, as a sentence."""
    said = ending(packet)
    return said[0].upper() + said[1:]


def _notes(found: TraceResult) -> str:
    """What the reader of the page has to know."""
    provenance = found.provenance
    return (
        f"From {found.source} to {found.target}. Each time is the mean of its operations by cost set "
        f"{provenance['cost_set']}, all cores awake, nobody waiting; the percentage is its share of the whole way; "
        "bars are as long as times, and their colours say what the time goes to. "
        f"kubesim {provenance['kubesim_version']}, scenario {provenance['scenario_sha256'][:12]}."
    )


def _groups_used(stops: Iterable[Stop]) -> list[str]:
    """The groups of the operations done, in the order of figures."""
    used = {group_of(one.hop.operation) for stop in stops for one in stop.hops}
    return [group for group in GROUPS if group in used]


def _legend_rows(groups: Sequence[str], width: float) -> list[list[str]]:
    """The groups on as many lines as they need."""
    rows: list[list[str]] = [[]]
    room = width
    for group in groups:
        needed = inches(group, 8.5) + 0.45
        if needed > room and rows[-1]:
            rows.append([])
            room = width
        rows[-1].append(group)
        room -= needed
    return rows


def _draw_legend(ax: Axes, groups: Sequence[str], y: float) -> None:
    x = _MARGIN
    for group in groups:
        ax.add_patch(Rectangle((x, y - 0.12), 0.2, 0.11, facecolor=GROUPS[group], edgecolor="none"))
        text(ax, x + 0.26, y, group, 8.5)
        x += inches(group, 8.5) + 0.45
