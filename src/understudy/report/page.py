"""From a template of this package to an HTML file; the one place that decides what is escaped: everything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from understudy.files import atomic


def write_page(template: str, view: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Fill a template and write it, whole or not at all; the same view gives the same bytes.

    Args:
        template: its name in `report/templates`.
        view: all that it prints; text is escaped unless it is `Markup`.
        path: where the HTML file goes.

    Raises:
        RunError: the file cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("understudy.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(view)
    with atomic(path) as handle:
        handle.write(page)
