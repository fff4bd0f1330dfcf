"""Figures that show themselves in Jupyter, with no file and no drawing library in sight."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubesim.errors import InputError
from kubesim.figure import FigureSpec
from kubesim.files import YamlDocument
from kubesim.report import style
from kubesim.report.draw import draw_table
from kubesim.report.trace_picture import check_picture, trace_figure
from kubesim.validation import validate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from matplotlib.figure import Figure

    from kubesim.scenario import TraceResult

_PLACE = "draw_frame"


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure: it shows itself in Jupyter, and can be saved.

    Parameters
    ----------
    figure
        To change, or to draw more into, with Matplotlib.
    provenance
        What files made of it say about where it comes from.
    """

    figure: Figure
    provenance: Mapping[str, str]

    def svg(self) -> str:
        """The figure as SVG: the same data give the same text."""
        return style.svg_text(self.figure, self.provenance)

    def save(self, path: Path | str) -> Path:
        """Write it to a file, ``.svg`` or ``.png``.

        Raises
        ------
        InputError
            If the file is of another kind.
        OutputError
            If it cannot be written.
        """
        check_picture(path := Path(path))
        return style.save_file(self.figure, path, self.provenance)

    def _repr_svg_(self) -> str:
        return self.svg()


def picture_of_trace(found: TraceResult, kinds: Sequence[str] = ("first",)) -> Picture:
    """The picture of packets' ways that :func:`kubesim.draw_trace` writes to a file.

    Parameters
    ----------
    found
        What :func:`kubesim.trace` gave.
    kinds
        The packets, side by side: ``first``, ``first_reply``, ``established``, ``reply``.

    Raises
    ------
    InputError
        If there is no such packet.
    """
    return Picture(trace_figure(found, kinds), found.provenance)


def draw_frame(frame: pd.DataFrame, x: str, y: str, **shown: Any) -> Picture:
    """Draw a table as figures of experiments are drawn.

    Parameters
    ----------
    frame
        One row per run: columns of what was varied, and measures as :attr:`Result.summary` names them, by whose ends
        units are told.
    x, y
        The column along the axis, and the measure.
    **shown
        More of what the figures of an experiment file take: ``kind`` (``lines``, if not given, or ``bars``), ``by``,
        ``panel``, ``title``, ``x_label``, ``y_label``, ``band``, ``where``, ``relative_to``.

    Returns
    -------
    Picture

    Raises
    ------
    InputError
        If there is no such column, or nothing to draw.
    """
    spec = validate(FigureSpec, YamlDocument(_PLACE, {"name": "frame", "x": x, "y": y, **shown}, None))
    if spec.kind == "breakdown":
        raise InputError(f"{_PLACE}: kind: lines and bars can be drawn of a table, not a breakdown")
    figure = draw_table(spec, frame, _PLACE)
    return Picture(figure, {"kubesim_version": metadata.version("kubesim")})
