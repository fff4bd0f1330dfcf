"""A figure that is drawn, with what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from kubesim.figure import FigureSpec


@dataclass(frozen=True)
class DrawnFigure:
    """A figure, not yet written anywhere.

    Parameters
    ----------
    name
        Of its files, without ending.
    title
        What it says.
    figure
        The picture.
    spec, table
        What it was asked to show, and the rows that it shows, of a figure of a sweep.
    """

    name: str
    title: str
    figure: Figure
    spec: FigureSpec | None = None
    table: pd.DataFrame | None = None
