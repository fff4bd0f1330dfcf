"""Figures as SVG that stands inside a page: small, and without names that clash with those of other figures."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import matplotlib as mpl

from kubesim.report import style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SVG = "{http://www.w3.org/2000/svg}"
_LINK = "{http://www.w3.org/1999/xlink}href"
_DROPPED = ("metadata", "style")
"""Elements that a page has no use for; a style of a figure would hold for all of the page."""

_FONT = re.compile(r"font: (?P<weight>\d+ )?(?P<size>[\d.]+px) [^;]*")
_FAMILY = re.compile(r"font-family: [^;]*;? ?")
_NO_ROTATION = re.compile(r"rotate\(-?0 [^)]*\)")
_REFERENCE = re.compile(r"url\(#([\w.-]+)\)")
_LONG_NUMBER = re.compile(r"(\d+\.\d\d)\d+")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML does not allow."""

_PX_PER_UNIT = 4 / 3
_SMALLEST_SCALE = 0.68
"""Of the size that figures are drawn in: with less, their text is smaller than 7 px."""


def inline_svg(figure: Figure, prefix: str, title: str) -> str:
    """A figure as one ``svg`` element of HTML.

    Parameters
    ----------
    figure
        The figure, drawn.
    prefix
        What names in it begin with; no two figures of a page may have the same.
    title
        What it says, for those who cannot see it.

    Returns
    -------
    str
        The element. Its text is text; the page has to give it a font. The same figure gives the same text.
    """
    root = ET.fromstring(_UNPRINTABLE.sub("\ufffd", _written(figure)))  # noqa: S314 - we have written it ourselves
    _drop(root)
    _rename(root, prefix)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        element.text, element.tail = _stripped(element.text), _stripped(element.tail)
        shortened = {name: _shortened(name, value) for name, value in element.items()}
        element.attrib = {name: value for name, value in shortened.items() if value}
    width, height = (float(number) for number in root.get("viewBox", "").split()[2:])
    root.attrib = {
        "viewBox": root.get("viewBox", ""),
        "width": f"{width * _PX_PER_UNIT:.0f}",
        "height": f"{height * _PX_PER_UNIT:.0f}",
        "style": f"min-width:{width * _PX_PER_UNIT * _SMALLEST_SCALE:.0f}px",
        "role": "img",
        "aria-label": title,
    }
    return ET.tostring(root, encoding="unicode")


def _written(figure: Figure) -> str:
    """What matplotlib writes, cut to what is drawn."""
    buffer = io.StringIO()
    style.take_literally(figure)
    with mpl.rc_context({**style.STYLE, "svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the reader's fonts write it, not matplotlib's
        figure.savefig(
            buffer, format="svg", bbox_inches="tight", pad_inches=0.1, transparent=True, metadata={"Date": None}
        )
    return buffer.getvalue()


def _drop(root: ET.Element) -> None:
    """Take out what a page has no use for."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.removeprefix(_SVG) in _DROPPED:
                parent.remove(child)


def _rename(root: ET.Element, prefix: str) -> None:
    """Keep only names that something refers to, and make them the figure's own."""
    used: dict[str, str] = {}

    def new(old: str) -> str:
        return used.setdefault(old, f"{prefix}-{len(used)}")

    for element in root.iter():
        for name, value in element.items():
            element.set(name, _REFERENCE.sub(lambda found: f"url(#{new(found[1])})", value))
        link = element.attrib.pop(_LINK, None)
        if link is not None:
            element.set("href", f"#{new(link.removeprefix('#'))}")
    for element in root.iter():
        own = element.attrib.pop("id", None)
        if own in used:
            element.set("id", used[own])


def _shortened(name: str, value: str) -> str:
    """An attribute without digits that nobody sees, and without fonts that a reader may not have."""
    if name == "style":
        value = _FONT.sub(lambda found: _font(found["weight"], found["size"]), _FAMILY.sub("", value))
        value = value.replace(": ", ":").replace("; ", ";")
    if name in ("style", "d", "x", "y", "transform", "width", "height"):
        value = _LONG_NUMBER.sub(r"\1", " ".join(_NO_ROTATION.sub("", value).split()))
    return value


def _font(weight: str | None, size: str) -> str:
    return f"font-size:{size}" + (f";font-weight:{weight.strip()}" if weight else "")


def _stripped(text: str | None) -> str | None:
    """No text between elements that is but white space."""
    return text if text is not None and text.strip() else None
