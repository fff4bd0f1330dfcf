"""Experiments: one question, a scenario, the factors that are varied to answer it, and what is expected."""

from __future__ import annotations

from kubesim.experiment.evaluation import check
from kubesim.experiment.forecast import Forecast, forecast
from kubesim.experiment.merge import merge
from kubesim.experiment.places import Place
from kubesim.experiment.runner import Progress, SweepOutcome, sweep
from kubesim.experiment.shard import Shard, parse_shard
from kubesim.experiment.spec import Combination, Experiment, load_experiment, plan_experiment
from kubesim.experiment.store import read_experiment
from kubesim.experiment.verdicts import CheckReport, Verdict

__all__ = [
    "CheckReport",
    "Combination",
    "Experiment",
    "Forecast",
    "Place",
    "Progress",
    "Shard",
    "SweepOutcome",
    "Verdict",
    "check",
    "forecast",
    "load_experiment",
    "merge",
    "parse_shard",
    "plan_experiment",
    "read_experiment",
    "sweep",
]
