"""What an experiment looks like in Jupyter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim import html
from kubesim.figure import level_label, level_text
from kubesim.units import counted

if TYPE_CHECKING:
    from kubesim.experiment.spec import Experiment


def experiment_html(experiment: Experiment) -> str:
    """Its question, and what it varies."""
    rows = (
        (str(number), factor, ", ".join(level_text(level_label(level)) for level in levels))
        for number, grid in enumerate(experiment.factors, 1)
        for factor, levels in grid.items()
    )
    return html.shown(
        html.title(experiment.name, "(experiment)"),
        html.line(experiment.question.strip()),
        html.line(experiment.expectation.strip()),
        html.table(("grid", "factor", "levels"), rows),
        html.line(f"{counted(experiment.replications, 'replication')} of each combination"),
    )
