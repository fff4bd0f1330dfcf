"""What an experiment looks like in Jupyter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kubesim import html
from kubesim.figure import level_text
from kubesim.units import counted

if TYPE_CHECKING:
    from kubesim.experiment.spec import Experiment
    from kubesim.figure import Level

_LEVELS_SHOWN = 20


def experiment_html(experiment: Experiment) -> str:
    """Its question, and what it varies."""
    rows = (
        (str(number), factor, _listed(block.levels_of(factor)))
        for number, block in enumerate(experiment.factors, 1)
        for factor in block.factor_names()
    )
    return html.shown(
        html.title(experiment.name, "(experiment)"),
        html.line(experiment.question.strip()),
        html.line(experiment.expectation.strip()),
        html.table(("block", "factor", "levels"), rows),
        html.line(f"{counted(experiment.replications, 'replication')} of each combination"),
    )


def _listed(levels: list[Level]) -> str:
    """Levels for people; of very many the first."""
    more = f" and {len(levels) - _LEVELS_SHOWN} more" if len(levels) > _LEVELS_SHOWN else ""
    return ", ".join(level_text(level) for level in levels[:_LEVELS_SHOWN]) + more
