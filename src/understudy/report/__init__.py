"""One HTML file that says what was run, what came out, and how sure that is. Imports neither torch nor a model."""

from understudy.report.html import render_report
from understudy.report.inputs import ReportInputs

__all__ = ["ReportInputs", "render_report"]
