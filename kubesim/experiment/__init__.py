"""Experiments: one question, a scenario, and the factors that are varied to answer it."""

from __future__ import annotations

from kubesim.experiment.runner import SweepOutcome, sweep
from kubesim.experiment.spec import Experiment, load_experiment

__all__ = ["Experiment", "SweepOutcome", "load_experiment", "sweep"]
