"""Templates of this room; everything that is printed is escaped."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

ENVIRONMENT = Environment(
    loader=PackageLoader("understudy.study.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(template: str, status: int = 200, **view: Any) -> HTMLResponse:
    """A page as a response.

    Args:
        template: its name without the ending.
        status: of HTTP.
        view: what it prints.
    """
    return HTMLResponse(ENVIRONMENT.get_template(f"{template}.html.jinja").render(view), status)
