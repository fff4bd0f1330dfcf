"""Figures of results, pages about them, and pictures of packets' ways."""

from __future__ import annotations

from kubesim.report.draw import draw_directory
from kubesim.report.html import write_report
from kubesim.report.page import CheckedExpectation
from kubesim.report.picture import Picture, draw_frame, picture_of_trace
from kubesim.report.trace_picture import draw_trace

__all__ = [
    "CheckedExpectation",
    "Picture",
    "draw_directory",
    "draw_frame",
    "draw_trace",
    "picture_of_trace",
    "write_report",
]
