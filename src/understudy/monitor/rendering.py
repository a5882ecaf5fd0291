"""Templates of this room; everything that is printed is escaped."""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

ENVIRONMENT = Environment(
    loader=PackageLoader("understudy.monitor.web"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def rendered(template: str, **view: Any) -> str:
    """A page as text."""
    return ENVIRONMENT.get_template(f"{template}.html.jinja").render(view)


def static(name: str) -> str:
    """A file that pages bring along."""
    return (resources.files("understudy.monitor.web") / "static" / name).read_text(encoding="utf-8")
