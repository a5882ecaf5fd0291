"""A plot as part of the page: text stays text, colours follow the theme, the same input gives the same bytes."""

from __future__ import annotations

import html
import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from understudy.report.labels import Label

NARROW = 4.1
"""Inches that a telephone can show without scrolling."""
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


def log_scale(axes: Axes) -> None:
    """Give the horizontal axis a scale of powers of ten whose numbers can be read: matplotlib's own are formulas."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: power_text(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())


def power_text(value: float) -> str:
    """A power of ten: plain from 0.001 to 1,000, beyond as 10 with its exponent raised."""
    exponent = round(math.log10(value))
    return f"{value:g}" if abs(exponent) <= 3 else f"10{str(exponent).translate(_RAISED)}"


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def svg(figure: Figure, title: str) -> str:
    """The figure as an `<svg>` element: no header, no metadata, no links, numbers of its parts taken off.

    The page shrinks it to four fifths of its own width, below which its letters could not be read; a plot that is to
    fit on a telephone is at most `NARROW` wide.

    Args:
        figure: what was drawn.
        title: for those who do not see it; empty for what only decorates a text.
    """
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
    attributes = f'role="img" aria-label="{html.escape(title)}"' if title else 'aria-hidden="true"'
    head = f'<svg viewBox="0 0 {width} {height}" {attributes} style="--wide:{pixels}">'
    # By a function: a name may hold what a pattern would take for its own.
    text = re.sub(r"<svg[^>]*>", lambda _: head, text, count=1)
    for stand_in, themed in _THEME.items():
        text = text.replace(stand_in, themed)
    return text


def panels(plots: Sequence[str]) -> str:
    """Several plots side by side, or below each other where there is less room."""
    return plots[0] if len(plots) == 1 else f'<div class="panels">{"".join(plots)}</div>'


def legend(labels: Mapping[str, Label], plot: str) -> str:
    """A line of marks with their names, which breaks where there is little room.

    Args:
        labels: name in print → its colour and marker.
        plot: of which plot, for ids that no other legend of the page has.
    """
    marks = {name: _mark(ink, f"{plot} {name}") for name, ink in labels.items()}
    entries = "".join(f"<span>{mark}{html.escape(name)}</span>" for name, mark in marks.items())
    return f'<p class="legend">{entries}</p>'


def _mark(ink: Label, salt: str) -> str:
    with style(f"mark of {salt}"):
        figure = Figure(figsize=(0.34, 0.14))
        axis = figure.add_axes((0, 0, 1, 1))
        axis.axis("off")
        axis.plot([0, 1, 2], [0, 0, 0], color=ink.colour, marker=ink.marker, markevery=[1], linewidth=1.7, markersize=6)
        return svg(figure, "")
