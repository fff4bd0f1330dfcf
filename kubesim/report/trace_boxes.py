"""What the picture of a packet's way is made of: stops, headers and endings, each of a known height."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyBboxPatch, Rectangle
from matplotlib.textpath import TextToPath

from kubesim.report.groups import GROUPS, group_of
from kubesim.scenario.stops import StopKind
from kubesim.scenario.telling import address_text, clauses, time_and_share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from kubesim.kernel.packet import FlowTuple
    from kubesim.scenario.stops import Stop

POINTS_PER_INCH = 72
LINE = 0.135
"""Height of a line of small text, in inches, as all lengths here."""

SMALL, USUAL = 7.5, 9.0
"""Sizes of text, in points."""

INK, GREY, WAY, CHANGED, STOPPED = "#202020", "#5f5f5f", "#0072B2", "#D55E00", "#B00020"
_FACES = {
    StopKind.HOOK: "#eef6f2",
    StopKind.ROUTING: "#ffffff",
    StopKind.DEVICE: "#fdf6e6",
    StopKind.SOCKET: "#e8f1f8",
    StopKind.PROCESS: "#f5ecf2",
    StopKind.WIRE: "#ffffff",
}
_BAR = 0.075
_PADDING = 0.07
_BLANK = 0.06


class Part(Protocol):
    """Something in a column of the picture."""

    height: float

    def draw(self, ax: Axes, left: float, top: float, width: float) -> None:
        """Draw it with its upper left corner there."""


@dataclass
class StopBox:
    """A stop with its number on the packet's line, its time as a bar of operations' groups, and what happens there.

    ``line`` is how far the packet's line is from the left; None for a box that the line runs into from the side.
    """

    stop: Stop
    number: int
    total_ns: int
    dearest_ns: int
    width: float
    line: float
    height: float = field(init=False)

    def __post_init__(self) -> None:
        self._inset = self.line + 0.2
        self._lines = [
            line
            for clause in _joined(clauses(self.stop))
            for line in wrapped(clause, SMALL, self.width - self._inset - _PADDING, indent="   ")
        ]
        self.height = _PADDING * 2 + 0.17 + _BAR + 0.05 + LINE * len(self._lines)

    def draw(self, ax: Axes, left: float, top: float, width: float) -> None:
        """Draw it with its upper left corner there."""
        stop = self.stop
        box(ax, left, top, width, self.height, face=_FACES[stop.kind], edge="#9a9a9a")
        x, y = left + self._inset, top - _PADDING
        kind = "" if stop.kind.value == stop.name else stop.kind.value
        label = stop.between or ", ".join(word for word in (kind, stop.contexts) if word)
        when = time_and_share(stop.cost_ns, self.total_ns)
        room = width - self._inset - _PADDING - inches(when, SMALL, "bold") - 0.12
        name = shortened(stop.name, USUAL, room, "bold")
        after_name = inches(name, USUAL, "bold") + 0.08
        text(ax, x, y, name, USUAL, weight="bold")
        text(ax, x + after_name, y - 0.015, shortened(label, SMALL, room - after_name), SMALL, color=GREY)
        text(ax, left + width - _PADDING, y - 0.015, when, SMALL, weight="bold", ha="right")
        self._draw_bar(ax, x, y - 0.19, width - self._inset - _PADDING)
        for number, line in enumerate(self._lines):
            text(ax, x, y - 0.19 - _BAR - 0.05 - number * LINE, line, SMALL)
        draw_badge(ax, left + self.line, top - self.height / 2, self.number)

    def _draw_bar(self, ax: Axes, left: float, top: float, width: float) -> None:
        """The stop's time, as long as it is against the dearest stop's, in the colours of its operations' groups."""
        costs: dict[str, int] = {}
        for one in self.stop.hops:
            group = group_of(one.hop.operation)
            costs[group] = costs.get(group, 0) + one.cost_ns
        ax.add_patch(Rectangle((left, top - _BAR), width, _BAR, facecolor="#e9e9e9", edgecolor="none", zorder=3))
        for group in GROUPS:
            length = width * costs.get(group, 0) / max(1, self.dearest_ns)
            if length:
                bar = Rectangle(
                    (left, top - _BAR), length, _BAR, facecolor=GROUPS[group], edgecolor="white", linewidth=0.4
                )
                ax.add_patch(bar).set_zorder(4)
                left += length


@dataclass
class HeaderBox:
    """The packet's addresses, a tunnel's header around them; what has changed since the last one stands out."""

    headers: tuple[FlowTuple, ...]
    before: tuple[FlowTuple, ...]
    line: float
    height: float = field(init=False)

    def __post_init__(self) -> None:
        self.height = 0.06 + 0.19 * len(self.headers) + 0.04 * (len(self.headers) - 1)

    def draw(self, ax: Axes, left: float, top: float, width: float) -> None:
        """Draw it with its upper left corner there."""
        start, height = left + self.line - 0.12, self.height - 0.06
        added = len(self.headers) - len(self.before)
        known: list[FlowTuple | None] = [None] * added
        known += self.before[max(0, -added) :]
        longest = max(_flow_inches(flow) for flow in self.headers) + 0.2
        top -= 0.03
        for depth, (flow, was) in enumerate(zip(self.headers, known, strict=True)):
            inset = 0.05 * depth
            room = min(longest + 0.1 * (len(self.headers) - 1), width - self.line) - 2 * inset
            box(
                ax, start + inset, top - 0.21 * depth, room, height - 0.23 * depth,
                face="#ffffff" if depth == len(self.headers) - 1 else "#fbe3d5", edge=WAY if depth else INK, zorder=6,
            )  # fmt: skip
            _draw_flow(ax, start + inset + 0.08, top - 0.21 * depth - 0.045, flow, was if self.before else flow)


@dataclass
class HandOver:
    """A queue on the way, from which somebody else takes the packet."""

    words: str
    line: float
    height: float = 0.16

    def draw(self, ax: Axes, left: float, top: float, width: float) -> None:
        """Draw it with its upper left corner there."""
        middle = left + self.line
        for place in range(-2, 2):
            corner = (middle + 0.06 * place, top - self.height + 0.02)
            ax.add_patch(Rectangle(corner, 0.06, 0.12, facecolor="white", edgecolor=WAY, linewidth=0.9, zorder=6))
        words = shortened(self.words, SMALL, width - self.line - 0.2)
        text(ax, middle + 0.2, top - 0.015, words, SMALL, color=GREY, style="italic")


@dataclass
class EndBox:
    """How it ended: delivered, or why not."""

    words: str
    is_delivered: bool
    width: float
    line: float
    height: float = field(init=False)

    def __post_init__(self) -> None:
        self._lines = wrapped(self.words, USUAL, self.width - self.line - 0.3, weight="bold")
        self.height = 0.14 + 0.17 * len(self._lines)

    def draw(self, ax: Axes, left: float, top: float, width: float) -> None:
        """Draw it with its upper left corner there."""
        color = "#00674b" if self.is_delivered else STOPPED
        box(ax, left, top, width, self.height, face="#ffffff", edge=color, linewidth=1.6)
        sign = "o" if self.is_delivered else "X"
        ax.plot([left + self.line], [top - self.height / 2], sign, color=color, markersize=10, zorder=8)
        for number, line in enumerate(self._lines):
            text(ax, left + self.line + 0.2, top - 0.075 - 0.17 * number, line, USUAL, color=color, weight="bold")


def draw_badge(ax: Axes, x: float, y: float, number: int) -> None:
    """A number on the packet's line."""
    ax.plot([x], [y], "o", color=WAY, markersize=14, markeredgecolor="white", markeredgewidth=1.2, zorder=8)
    ax.text(x, y - 0.005, str(number), fontsize=SMALL, color="white", ha="center", va="center", weight="bold", zorder=9)


def text(ax: Axes, x: float, y: float, words: str, size: float, **look: Any) -> None:
    """Text whose upper left corner is there, unless said otherwise; dollar signs are no formulas."""
    ax.text(x, y, words, **{"fontsize": size, "color": INK, "va": "top", "zorder": 7, "parse_math": False, **look})


@lru_cache(maxsize=20_000)
def inches(words: str, size: float, weight: str = "normal") -> float:
    """How wide a text is."""
    font = FontProperties(family="DejaVu Sans", size=size, weight=weight)
    width, _, _ = TextToPath().get_text_width_height_descent(words, font, ismath=False)
    return float(width) / POINTS_PER_INCH


def wrapped(words: str, size: float, width: float, *, indent: str = "", weight: str = "normal") -> list[str]:
    """A text on lines that are no wider; those after the first are indented."""
    lines = [""]
    for word in words.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1].strip() else lines[-1] + word
        if inches(longer, size, weight) <= width:
            lines[-1] = longer
            continue
        rest = word
        if lines[-1].strip():
            lines.append(indent)
        while inches(lines[-1] + rest, size, weight) > width and len(rest) > 1:
            fitting = sum(inches(lines[-1] + rest[:end], size, weight) <= width for end in range(1, len(rest)))
            cut = max(1, fitting)
            lines[-1], rest = lines[-1] + rest[:cut], rest[cut:]
            lines.append(indent)
        lines[-1] += rest
    return lines


def shortened(words: str, size: float, width: float, weight: str = "normal") -> str:
    """A text cut with an ellipsis where there is no room for all of it."""
    if inches(words, size, weight) <= width:
        return words
    kept = next((end for end in range(len(words), 0, -1) if inches(words[:end] + "…", size, weight) <= width), 0)
    return words[:kept] + "…" if kept else ""


def box(
    ax: Axes, left: float, top: float, width: float, height: float, *, face: str, edge: str, zorder: float = 2,
    linewidth: float = 0.8, style: str = "-",
) -> None:  # fmt: skip
    """A box with round corners, the upper left one there."""
    ax.add_patch(
        FancyBboxPatch(
            (left, top - height), width, height, boxstyle="round,pad=0,rounding_size=0.05", facecolor=face,
            edgecolor=edge, linewidth=linewidth, linestyle=style, zorder=zorder,
        )
    )  # fmt: skip


def _joined(found: Sequence[str]) -> list[str]:
    """What tables say each by itself, and what is done between in one."""
    return ["; ".join(part) for _, part in groupby(found, key=lambda words: words if ": " in words else "")]


def _pieces(flow: FlowTuple) -> tuple[str, str, str, str]:
    source = address_text(flow.source, flow.source_port)
    return flow.protocol, source, "→", address_text(flow.destination, flow.destination_port)


def _flow_inches(flow: FlowTuple) -> float:
    return sum(inches(piece, SMALL, "bold") + _BLANK for piece in _pieces(flow))


def _draw_flow(ax: Axes, x: float, y: float, flow: FlowTuple, was: FlowTuple | None) -> None:
    """A header in one line; an end of the flow that has changed is in another colour and bold."""
    old = ("",) * 4 if was is None else _pieces(was)
    for piece, old_piece in zip(_pieces(flow), old, strict=True):
        is_new = piece not in (old_piece, "→")
        weight = "bold" if is_new else "normal"
        text(ax, x, y, piece, SMALL, color=CHANGED if is_new else INK, weight=weight)
        x += inches(piece, SMALL, weight) + _BLANK
