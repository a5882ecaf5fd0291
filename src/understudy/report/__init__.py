"""One HTML file that says what was run, what came out, and how sure that is. Imports neither torch nor a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from understudy.report.inputs import ReportInputs

if TYPE_CHECKING:
    from understudy.report.run_page import render_report

__all__ = ["ReportInputs", "render_report"]


def __getattr__(name: str) -> Any:
    """`render_report` once it is asked for: words and tables are read without the half second that plots take."""
    if name == "render_report":
        from understudy.report.run_page import render_report

        return render_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
