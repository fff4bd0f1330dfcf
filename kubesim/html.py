"""Pieces of HTML, for objects that show themselves in Jupyter: built as elements, so that all text is escaped."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, tostring

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

_CELL = "vertical-align:top;overflow-wrap:anywhere;"
_LEFT = f"text-align:left;max-width:40em;{_CELL}"
_RIGHT = f"text-align:right;white-space:nowrap;{_CELL}"


def shown(*pieces: Element | None) -> str:
    """The pieces one below the other, as text for ``_repr_html_``; None is left out."""
    box = Element("div")
    box.extend([piece for piece in pieces if piece is not None])
    return tostring(box, encoding="unicode", method="html")


def title(name: str, rest: str = "") -> Element:
    """What the object is called, and more of it behind."""
    line = Element("p")
    SubElement(line, "strong").text = name
    line[0].tail = f" {rest}" if rest else ""
    return line


def line(text: str) -> Element | None:
    """A line of text; nothing where there is none."""
    if not text:
        return None
    found = Element("p")
    found.text = text
    return found


def notes(texts: Iterable[str]) -> Element | None:
    """What a person should know; nothing where there is nothing to say."""
    found = Element("ul")
    for text in texts:
        item = SubElement(found, "li")
        SubElement(item, "strong").text = "note:"
        item[0].tail = f" {text}"
    return found if len(found) else None


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[str] = ()) -> Element:
    """A table of texts.

    Parameters
    ----------
    columns
        Their names.
    rows
        A text for each column.
    numbers
        The columns whose texts are numbers, and are put at the right.
    """
    box = Element("div", style="overflow-x:auto")
    found = SubElement(box, "table")
    styles = [_RIGHT if column in numbers else _LEFT for column in columns]
    head = SubElement(SubElement(found, "thead"), "tr")
    for column, style in zip(columns, styles, strict=True):
        SubElement(head, "th", scope="col", style=style).text = column
    body = SubElement(found, "tbody")
    for row in rows:
        cells = SubElement(body, "tr")
        for cell, style in zip(row, styles, strict=True):
            SubElement(cells, "td", style=style).text = cell
    return box


def preformatted(text: str) -> Element:
    """A text whose lines are kept as they are."""
    found = Element("pre")
    found.text = text
    return found


def folded(summary: str, *pieces: Element) -> Element:
    """Pieces that are seen after a click on their summary."""
    found = Element("details")
    SubElement(found, "summary").text = summary
    found.extend(pieces)
    return found


def image(svg: str, description: str) -> Element:
    """A picture as a page of its own, so that names in it and in others do not meet."""
    encoded = base64.b64encode(svg.encode()).decode("ascii")
    return Element("img", src=f"data:image/svg+xml;base64,{encoded}", alt=description, style="max-width:100%")
