"""A plot as part of the page: text stays text, colours follow the theme, the same input gives the same bytes."""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from understudy.report.formatting import arm_label
from understudy.report.labels import label_of

INK, GRID = "#010203", "#040506"  # stand-ins, replaced by the page's own colours
_THEME = {INK: "currentColor", GRID: "var(--grid)"}


@contextmanager
def style(salt: str) -> Iterator[None]:
    """Matplotlib settings for everything drawn inside; `salt` keeps the ids of several plots on a page apart."""
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "text.parse_math": False,
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": GRID,
        "axes.labelcolor": INK,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "text.color": INK,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "legend.frameon": False,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # whatever the reader's own matplotlibrc says
        matplotlib.rcParams.update(cast(Any, settings))
        warnings.simplefilter("ignore", UserWarning)  # a letter the metrics of the font lack; the browser has it
        yield


def svg(figure: Figure, title: str) -> str:
    """The figure as an `<svg>` element: no header, no metadata, no links, numbers of its parts taken off."""
    FigureCanvasSVG(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", pad_inches=0.05, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.S)
    text = re.sub(r'<(g|path) id="[\w.]+_\d+"', r"<\1", text)
    width, height = re.findall(r'(?:width|height)="([\d.]+)pt"', text)[:2]
    pixels = f"{float(width) * 4 / 3:.0f}px"
    attributes = f'role="img" aria-label="{html.escape(title)}"'
    head = f'<svg viewBox="0 0 {width} {height}" {attributes} style="max-width:{pixels}">'
    text = re.sub(r"<svg[^>]*>", head, text, count=1)
    for stand_in, themed in _THEME.items():
        text = text.replace(stand_in, themed)
    return text


def legend(
    figure: Figure,
    names: Sequence[str],
    *,
    arm_of: Callable[[str], str] = str,
    label: Callable[[str], str] = arm_label,
) -> None:
    """One legend above the whole figure."""
    handles = [
        Line2D([], [], color=appearance.colour, marker=appearance.marker, linewidth=1.7, label=label(name))
        for name, appearance in ((name, label_of(arm_of(name))) for name in names)
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(handles), 7), handlelength=1.6)
