"""Experiments: one question, a scenario, and the factors that are varied to answer it."""

from __future__ import annotations

from kubesim.experiment.forecast import Forecast, forecast
from kubesim.experiment.merge import merge
from kubesim.experiment.places import Place
from kubesim.experiment.runner import Progress, SweepOutcome, sweep
from kubesim.experiment.shard import Shard, parse_shard
from kubesim.experiment.spec import Combination, Experiment, load_experiment, plan_experiment
from kubesim.experiment.store import read_experiment

__all__ = [
    "Combination",
    "Experiment",
    "Forecast",
    "Place",
    "Progress",
    "Shard",
    "SweepOutcome",
    "forecast",
    "load_experiment",
    "merge",
    "parse_shard",
    "plan_experiment",
    "read_experiment",
    "sweep",
]
