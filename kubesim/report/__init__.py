"""Figures of results, and pictures of packets' ways."""

from __future__ import annotations

from kubesim.report.draw import draw_directory
from kubesim.report.trace_picture import draw_trace

__all__ = ["draw_directory", "draw_trace"]
