"""Figures of results, pages about them, and pictures of packets' ways."""

from __future__ import annotations

from kubesim.report.draw import draw_directory
from kubesim.report.html import write_report
from kubesim.report.page import CheckedExpectation
from kubesim.report.trace_picture import draw_trace

__all__ = ["CheckedExpectation", "draw_directory", "draw_trace", "write_report"]
