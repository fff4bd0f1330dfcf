"""The simulator against published measurements."""

from __future__ import annotations

from kubesim.validate.comparison import Comparison, Fit, Validation, compare
from kubesim.validate.records import Published, Target, load_published
from kubesim.validate.store import save_validation

__all__ = ["Comparison", "Fit", "Published", "Target", "Validation", "compare", "load_published", "save_validation"]
