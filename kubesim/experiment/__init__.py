"""Experiments: one question, a scenario, the factors that are varied to answer it, and what is expected."""

from __future__ import annotations

from kubesim.experiment.evaluation import check
from kubesim.experiment.runner import SweepOutcome, sweep
from kubesim.experiment.spec import Experiment, load_experiment
from kubesim.experiment.verdicts import CheckReport, Verdict

__all__ = ["CheckReport", "Experiment", "SweepOutcome", "Verdict", "check", "load_experiment", "sweep"]
