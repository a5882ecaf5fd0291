"""A page on which somebody looks at what was harvested, before anything is learned from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from understudy.monitor.rendering import rendered, static


def review_page(rows: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> str:
    """One HTML file that asks nobody for anything and saves the decisions as a file.

    Args:
        rows: candidates, with their provenance.
        summary: of the harvest.
    """
    style, script = Markup(static("style.css")), Markup(static("review.js"))
    return rendered("review", rows=rows, summary=summary, style=style, script=script)
