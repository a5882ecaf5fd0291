"""`understudy docs`: the pages of docs/, for whoever has the package and not the clone."""

from __future__ import annotations

import re
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer

from understudy.errors import ConfigError, did_you_mean, unknown

_HEADING = re.compile(r"^(#+) (.+)$")


def docs(
    topic: Annotated[
        str, typer.Argument(help="A page (`data`), or a heading of one (`data#splits`).", show_default=False)
    ] = "",
) -> None:
    """Show a page of the documentation; without a topic, list the pages."""
    if not topic:
        for name, path in pages().items():
            typer.echo(f"{name:<18} {title(path)}")
        return
    show(text_of(topic))


def pages() -> dict[str, Path]:
    """Name to file of every page. The folder is a link to docs/ in the clone, and a copy of it in a wheel."""
    folder = Path(str(resources.files("understudy") / "docs"))
    return {path.stem: path for path in sorted(folder.glob("*.md"), key=lambda path: path.stem)}


def title(page: Path) -> str:
    """The first heading of a page."""
    first = page.read_text(encoding="utf-8").splitlines()[0]
    return first.lstrip("# ")


def text_of(topic: str) -> str:
    """The text of a page, or of the section under one of its headings.

    Args:
        topic: a name as in `data`, `data.md` or `docs/data.md`, a heading's anchor behind `#`.

    Raises:
        ConfigError: no such page or heading; the nearest is named.
    """
    name, _, anchor = topic.partition("#")
    name = name.removeprefix("docs/").removesuffix(".md")
    known = pages()
    if name not in known:
        raise unknown("page", name, known)
    text = known[name].read_text(encoding="utf-8")
    return section(text, anchor, name) if anchor else text


def section(text: str, anchor: str, page: str) -> str:
    """The part of a page from a heading to the next one of its rank.

    Args:
        text: of the page.
        anchor: of the heading, as the usual hosts make it.
        page: its name, for the message.

    Raises:
        ConfigError: the page has no such heading.
    """
    lines = text.splitlines()
    headings = [(number, len(marks), anchor_of(words)) for number, marks, words in _headings(lines)]
    at = next((place for place, (_, _, name) in enumerate(headings) if name == anchor), None)
    if at is None:
        anchors = [name for _, _, name in headings]
        raise ConfigError(f"{page} has no heading #{anchor}", hint=did_you_mean(anchor, anchors))
    start, rank, _ = headings[at]
    end = next((number for number, other, _ in headings[at + 1 :] if other <= rank), len(lines))
    return "\n".join(lines[start:end]).rstrip() + "\n"


def _headings(lines: list[str]) -> list[tuple[int, str, str]]:
    """Line number, marks and words of every heading; a `#` within a fenced block is none."""
    headings, fenced = [], False
    for number, line in enumerate(lines):
        fenced ^= line.startswith("```")
        match = _HEADING.match(line)
        if match and not fenced:
            headings.append((number, match[1], match[2]))
    return headings


def anchor_of(heading: str) -> str:
    """A heading's anchor."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def show(text: str) -> None:
    """Set for a terminal; as it is where the output is read by something else."""
    if not sys.stdout.isatty():
        typer.echo(text, nl=False)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console().print(Markdown(text))
