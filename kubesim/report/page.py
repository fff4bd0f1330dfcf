"""A page about results: one HTML file that needs nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kubesim.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from kubesim.report.data_table import DataTable

_BREAKS = re.compile(r"[._](?=\w)|[^\s._]{40}(?=\S)")
"""Behind what words may be broken: the joints of names of fields and operations, and 40 letters of what has none."""

_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | end) for plane in range(17) for end in (0xFFFE, 0xFFFF))
    + "]"
)
"""Characters that HTML does not allow, half characters included."""

Verdict = Literal["holds", "fails", "cannot tell"]


@dataclass(frozen=True)
class CheckedExpectation:
    """An expectation that was held against results.

    Parameters
    ----------
    text
        What was expected.
    estimate, interval
        What came out, with its unit, and between what the truth lies.
    verdict
        How it ended.
    note
        What else there is to say, such as for which levels it is worst.
    """

    text: str
    estimate: str
    interval: str
    verdict: Verdict
    note: str = ""


@dataclass(frozen=True)
class PageFigure:
    """A figure on a page.

    Parameters
    ----------
    name, title
        What it is called, and what it says.
    svg
        The picture, as an element of HTML that is safe as it is.
    numbers
        What it shows, as a table.
    """

    name: str
    title: str
    svg: str
    numbers: DataTable | None = None


@dataclass(frozen=True)
class Page:
    """What a page says; parts that are empty are left out.

    Parameters
    ----------
    title, subtitle
        Its name, and what it is about.
    is_sweep
        Whether it is about many runs.
    question, expectation
        What was asked, and what was expected, as it was written.
    alarms
        What makes the results less than they should be: said before all else.
    expectations
        What was expected and how it ended; None if nothing was checked.
    figures, tables
        What came out.
    varied, held_fixed
        What differs between the runs, and what does not.
    evidence, evidence_notes
        What the costs rest on, the weakest first, and what could not be found out of that.
    time
        Where the CPU time goes.
    notices
        What the simulator says of the runs.
    provenance
        Names and values of what made the results.
    runs
        Every run.
    command, source_name, source
        How to make the results again: what to type, and the file that it reads, in YAML.
    """

    title: str
    subtitle: str
    is_sweep: bool = True
    question: str = ""
    expectation: str = ""
    alarms: tuple[str, ...] = ()
    expectations: tuple[CheckedExpectation, ...] | None = None
    figures: tuple[PageFigure, ...] = ()
    tables: tuple[DataTable, ...] = ()
    varied: tuple[DataTable, ...] = ()
    held_fixed: tuple[DataTable, ...] = ()
    evidence: tuple[DataTable, ...] = ()
    evidence_notes: tuple[str, ...] = ()
    time: tuple[DataTable, ...] = ()
    notices: tuple[str, ...] = ()
    provenance: tuple[tuple[str, str], ...] = ()
    runs: DataTable | None = None
    command: str = ""
    source_name: str = ""
    source: str = ""

    def verdicts(self) -> dict[Verdict, int]:
        """How many expectations ended in each way, those that occur, the best first."""
        kinds: tuple[Verdict, ...] = ("holds", "fails", "cannot tell")
        counts = {kind: sum(one.verdict == kind for one in self.expectations or ()) for kind in kinds}
        return {kind: count for kind, count in counts.items() if count}


def render(page: Page) -> str:
    """The text of a page in HTML; all that comes from results is escaped, but for figures."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - figures do without it
    from markupsafe import Markup  # noqa: PLC0415

    def breakable(text: str) -> Markup:
        """A text whose long words may be broken."""
        return Markup("<wbr>").join(_BREAKS.sub("\\g<0>\0", text).split("\0"))

    environment = Environment(
        loader=PackageLoader("kubesim.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = breakable
    drawn = [Markup(one.svg) for one in page.figures]  # noqa: S704 - written by matplotlib, which escapes
    return _UNPRINTABLE.sub("\ufffd", environment.get_template("report.html.jinja").render(page=page, drawn=drawn))


def write_page(page: Page, path: Path) -> None:
    """Write a page.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    write_text(path, render(page))
