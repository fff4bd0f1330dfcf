"""How figures look: readable in a talk, in grey, and for people who see colours differently."""

from __future__ import annotations

import io
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.text import Text

from kubesim.figure import level_text
from kubesim.files import write_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes

    from kubesim.units import Unit

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
"""Okabe and Ito's palette (jfly.uni-koeln.de/color), ordered so that neighbours differ in grey too."""

DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 2)),
    (0, (1, 1.4)),
    (0, (6, 2, 1, 2)),
    (0, (3, 1)),
    (0, (2, 3)),
    "-",
    (0, (8, 3)),
)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

FILE_ENDINGS = ("png", "svg")
"""The kinds of files that figures are written as."""

STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "axes.edgecolor": "#707070",
    "axes.labelcolor": "#303030",
    "xtick.color": "#505050",
    "ytick.color": "#505050",
    "svg.hashsalt": "kubesim",
    "svg.fonttype": "path",
    "figure.dpi": 100,
}
"""What figures are drawn and written with."""

_LABEL_WIDTH = 46
"""Characters on one line of an axis label, at the most."""

_TITLE: Any = {"fontsize": 13, "fontweight": "bold", "color": "#202020", "linespacing": 1.15}
_TITLE_INCHES_PER_LETTER = 0.118
_NOTE: Any = {"fontsize": 8, "color": "#606060"}
_NOTE_INCHES_PER_LETTER = 0.062

LABEL_INCHES_PER_LETTER = 0.088
"""Room that one letter of a label at the end of a line takes."""


def axis_label(name: str, unit: Unit) -> str:
    """A name with its unit, on lines that fit beside a panel and are about as long as each other."""
    text = f"{name}\N{NO-BREAK SPACE}({unit.name})" if unit.name else name
    lines = textwrap.wrap(text, _LABEL_WIDTH)
    shorter = (textwrap.wrap(text, width) for width in range(-(-len(text) // max(1, len(lines))), _LABEL_WIDTH))
    return "\n".join(next((one for one in shorter if len(one) == len(lines)), lines))


def panels_of(table: pd.DataFrame, factor: str | None) -> list[tuple[str, pd.DataFrame]]:
    """The panels of a figure, each with its title and its rows; one without a title if no factor tells them apart."""
    if factor is None:
        return [("", table)]
    return [(level_text(level), table[table[factor] == level]) for level in dict.fromkeys(table[factor])]


def means_of(table: pd.DataFrame, factors: Sequence[str | None], columns: Sequence[str]) -> pd.DataFrame:
    """The mean over all runs at each place of a figure, in their order; names may be there twice."""
    keys = list(dict.fromkeys(name for name in factors if name))
    return table.groupby(keys, sort=False, as_index=False)[list(dict.fromkeys(columns))].mean()


def series_of(table: pd.DataFrame, factor: str | None) -> list[Any]:
    """The levels of the factor that has a line or bar for each; a nameless one if there is no such factor."""
    return [""] if factor is None else list(dict.fromkeys(table[factor]))


def rows_of(table: pd.DataFrame, factor: str | None, level: Any) -> pd.DataFrame:
    """The rows of a level of such a factor."""
    return table if factor is None else table[table[factor] == level]


@dataclass(frozen=True)
class Margins:
    """Room around the panels of a figure, in inches."""

    left: float = 1.05
    right: float = 1.35
    bottom: float = 0.75
    top: float = 0.85
    between: float = 0.3


def new_figure(
    panels: Sequence[str], title: str, panel_inches: tuple[float, float], margins: Margins | None = None
) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side that share the vertical axis, and a title at its left.

    Parameters
    ----------
    panels
        Their titles.
    title
        What the figure says.
    panel_inches
        Width and height of each panel.
    margins
        Room around them.
    """
    around = margins or Margins()
    width = around.left + len(panels) * (panel_inches[0] + around.between) - around.between + around.right
    height = around.bottom + panel_inches[1] + around.top
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(
            1,
            len(panels),
            sharey=True,
            squeeze=False,
            gridspec_kw={
                "left": around.left / width,
                "right": 1 - around.right / width,
                "bottom": around.bottom / height,
                "top": 1 - around.top / height,
                "wspace": around.between / panel_inches[0],
            },
        )[0]
        if title:
            lines = textwrap.fill(title, max(20, int((width - 0.36) / _TITLE_INCHES_PER_LETTER)))
            figure.text(0.18 / width, 1 - 0.14 / height, lines, va="top", **_TITLE)
        for ax, panel in zip(axes, panels, strict=True):
            ax.set_title(panel, loc="left", color="#404040")
    return figure, list(axes)


def add_note(figure: Figure, text: str) -> None:
    """Write what one has to know to read a figure below it, small."""
    width, height = figure.get_size_inches()
    letters = max(20, int((width - 0.36) / _NOTE_INCHES_PER_LETTER))
    figure.text(0.18 / width, 0.08 / height, textwrap.fill(text, letters), va="bottom", **_NOTE)


def save(figure: Figure, stem: Path, provenance: Mapping[str, str]) -> list[Path]:
    """Write ``STEM.png`` and ``STEM.svg`` with where they come from.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    return [save_file(figure, stem.with_suffix(f".{ending}"), provenance) for ending in FILE_ENDINGS]


def save_file(figure: Figure, path: Path, provenance: Mapping[str, str]) -> Path:
    """Write one file with where it comes from, and no date: the same data give the same bytes.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    metadata = _metadata(provenance, is_svg=path.suffix == ".svg")

    take_literally(figure)

    def draw(aside: Path) -> None:
        figure.savefig(aside, dpi=160, metadata=metadata)

    with mpl.rc_context(STYLE):
        write_file(path, draw)
    return path


def svg_text(figure: Figure, provenance: Mapping[str, str]) -> str:
    """The same as text, for pages: the same bytes as in a file."""
    text = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(text, format="svg", metadata=_metadata(provenance, is_svg=True))
    return text.getvalue()


def _metadata(provenance: Mapping[str, str], *, is_svg: bool) -> dict[str, Any]:
    """Where a figure comes from, as its file says it."""
    software = f"kubesim {provenance.get('kubesim_version', '')}".strip()
    description = "; ".join(f"{key}: {value}" for key, value in provenance.items())
    own = {"Creator": software, "Date": None} if is_svg else {"Software": software}
    return {"Description": description, **own}


def take_literally(figure: Figure) -> None:
    """Draw dollar signs in names and titles as they are: they begin no formula."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)


def spread_labels(positions: Sequence[float], smallest_gap: float) -> list[float]:
    """Move labels apart so that none hides another, as little as possible and without changing their order.

    Parameters
    ----------
    positions
        Where the labels would be, in any order, along one axis.
    smallest_gap
        Least distance between two.
    """
    order = sorted(range(len(positions)), key=lambda index: positions[index])
    blocks: list[tuple[float, int]] = []  # middle and size of groups of labels that touch
    for index in order:
        middle, size = positions[index], 1
        while blocks and _gap(blocks[-1], (middle, size), smallest_gap) < smallest_gap:
            before_middle, before_size = blocks.pop()
            middle = (middle * size + before_middle * before_size) / (size + before_size)
            size += before_size
        blocks.append((middle, size))
    spread = [middle + (place - (size - 1) / 2) * smallest_gap for middle, size in blocks for place in range(size)]
    placed = [0.0] * len(positions)
    for index, position in zip(order, spread, strict=True):
        placed[index] = position
    return placed


def _gap(lower: tuple[float, int], upper: tuple[float, int], step: float) -> float:
    """Distance between the last label of one block and the first of the next."""
    return upper[0] - (upper[1] - 1) / 2 * step - (lower[0] + (lower[1] - 1) / 2 * step)
