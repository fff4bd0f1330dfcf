"""How far off what figures show may be: 95 % confidence intervals over replications, as error bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.transforms import ScaledTranslation

from kubesim.report import style
from kubesim.stats.intervals import CONFIDENCE
from kubesim.stats.replications import interval_of_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Transform

    from kubesim.stats.intervals import Interval
    from kubesim.stats.latencies import Latencies

LOW, HIGH, REPLICATIONS = "interval_low", "interval_high", "interval_replications"
"""Columns of the ends of a place's interval, NaN where there is none to draw, and of how many replications it is."""

_NARROWEST = 0.005
"""Half of the narrowest interval, as a share of the estimate, that can be seen behind a marker, or at a bar's end."""

_MOST_ROOM = 1.5
"""How far beyond the largest estimate an axis reaches for the sake of error bars, at most."""

_LINE: Any = {"linewidth": 1.1, "zorder": 3}
_CAP: Any = {"s": 22, "linewidths": 1.1, "zorder": 3}
ARROW_POINTS = 16
"""The length of an arrow."""

NOTE_INCHES = 0.22
"""Room that the note on error bars takes below a figure."""


class Look(NamedTuple):
    """How error bars lie.

    Parameters
    ----------
    is_lying
        Whether the measure is along the horizontal axis.
    shift_points
        How far they stand beside their places, so that those of several lines do not hide each other.
    """

    is_lying: bool = False
    shift_points: float = 0.0


def with_intervals(
    table: pd.DataFrame, keys: Sequence[str], measure: str, latencies: Mapping[int, Latencies]
) -> pd.DataFrame:
    """Rows with the estimate of their place in a figure in place of the measure, and the ends of its interval.

    Parameters
    ----------
    table
        One row per run.
    keys
        What tells places apart.
    measure
        What is shown.
    latencies
        What is kept of the latencies of runs, by their numbers.
    """
    if "replication" not in table.columns or table.empty:
        return table
    shown = table.reset_index(drop=True)
    shown[[LOW, HIGH, REPLICATIONS]] = np.nan
    shown[measure] = shown[measure].astype(float)
    for _, rows in shown.groupby(list(keys), sort=False):
        interval = interval_of_rows(measure, rows, latencies)
        if np.isfinite(interval.estimate):
            shown.loc[rows.index, measure] = interval.estimate
        if _is_worth_drawing(interval):
            shown.loc[rows.index, [LOW, HIGH]] = interval.low, interval.high
            shown.loc[rows.index, REPLICATIONS] = interval.replications
    return shown


def _is_worth_drawing(interval: Interval) -> bool:
    if interval.replications < 2 or not np.isfinite(interval.estimate):
        return False
    return interval.is_open or interval.relative_half_width >= _NARROWEST


def columns_of(table: pd.DataFrame) -> list[str]:
    """The columns of intervals, if any place has one."""
    return [LOW, HIGH] if has_any(table) else []


def has_any(table: pd.DataFrame) -> bool:
    """Whether any place of a figure has an interval to draw."""
    return LOW in table.columns and bool(table[LOW].notna().any())


def ends_of(table: pd.DataFrame, measure: str) -> npt.NDArray[np.float64]:
    """What an axis has to reach: estimates, and the ends of their intervals that are not far off."""
    values = table[measure].to_numpy(dtype=float)
    if LOW not in table.columns:
        return values
    most, least = np.nanmax(values) * _MOST_ROOM, np.nanmin(values) / _MOST_ROOM
    low, high = table[LOW].to_numpy(dtype=float), table[HIGH].to_numpy(dtype=float)
    return np.concatenate([values, np.clip(low, least, None), np.clip(high, None, most)])


def tops_of(table: pd.DataFrame, measure: str) -> npt.NDArray[np.float64]:
    """Where the drawing of each place ends: at its estimate, or at the upper end of its interval."""
    values = table[measure].to_numpy(dtype=float)
    if LOW not in table.columns:
        return values
    high = table[HIGH].to_numpy(dtype=float)
    return np.where(np.isfinite(high), np.fmax(values, high), values)


def arrows_of(table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Whether an arrow leads upwards from each place."""
    return np.isposinf(table[HIGH].to_numpy(dtype=float)) if LOW in table.columns else np.zeros(len(table), dtype=bool)


def draw(ax: Axes, places: Any, rows: pd.DataFrame, measure: str, factor: float, colour: str, look: Look) -> None:
    """Draw the intervals of some places; an arrow leads to an end that lies beyond all that was seen.

    Parameters
    ----------
    ax
        Where.
    places
        Where each row stands along the axis of levels.
    rows
        One row per place, with the measure and its interval.
    measure
        Its column.
    factor
        Of the unit that the axis has.
    colour
        Of the bars.
    look
        How they lie.
    """
    if LOW not in rows.columns:
        return
    where = ax.transData + ScaledTranslation(look.shift_points / 72, 0, ax.figure.dpi_scale_trans)
    for place, (value, low, high) in zip(places, rows[[measure, LOW, HIGH]].to_numpy(float) / factor, strict=True):
        if np.isnan([value, low, high]).any():
            continue
        ends = [end if np.isfinite(end) else value for end in (low, high)]
        (ax.hlines if look.is_lying else ax.vlines)(place, ends[0], ends[1], colors=colour, transform=where, **_LINE)
        for end, direction in ((low, -1), (high, 1)):
            if np.isinf(end):
                _point(ax, (value, place) if look.is_lying else (place, value), where, direction, colour, look)
            else:
                at = (end, place) if look.is_lying else (place, end)
                ax.scatter(*at, marker="|" if look.is_lying else "_", color=colour, transform=where, **_CAP)


def _point(ax: Axes, at: tuple[float, float], where: Transform, direction: int, colour: str, look: Look) -> None:
    """An arrow from a place towards an end that is not known."""
    away = (direction * ARROW_POINTS, 0) if look.is_lying else (0, direction * ARROW_POINTS)
    arrow = {"arrowstyle": "<-", "color": colour, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", at, away, xycoords=where, textcoords="offset points", arrowprops=arrow)


def add_note(figure: Figure, table: pd.DataFrame) -> None:
    """Say below a figure what its error bars are, if it has any."""
    if not has_any(table):
        return
    counts = sorted({int(count) for count in table[REPLICATIONS].dropna()})
    over = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    text = f"Error bars: {CONFIDENCE:.0%} confidence intervals over {over} replications".replace("%", " %")
    if np.isinf(table[[LOW, HIGH]].to_numpy(dtype=float)).any():
        text += "; arrows: ends beyond all that was seen"
    style.add_note(figure, text)
