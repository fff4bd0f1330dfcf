"""Figures of results."""

from __future__ import annotations

from kubesim.report.draw import draw_directory

__all__ = ["draw_directory"]
