"""Write the annotated tree of the source into README.md, from the first sentence of each module.

    python scripts/document_tree.py            # between the two markers of the page; the rest stays as it is

A test checks that the page is up to date.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import shorten

from understudy.files import atomic

ROOT = Path(__file__).resolve().parents[1]
PAGE, SOURCE = ROOT / "README.md", ROOT / "src" / "understudy"
BEGIN, END = "<!-- tree: begin (python scripts/document_tree.py) -->", "<!-- tree: end -->"
COLUMN, WIDEST = 36, 130


def updated(page: str) -> str:
    """The page with the tree of today between its markers."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    lines = "\n".join(["src/understudy/", *tree(SOURCE, 1)])
    return f"{before}{BEGIN}\n\n```text\n{lines}\n```\n\n{END}{after}"


def tree(folder: Path, depth: int) -> Iterator[str]:
    """A line for each module of a folder, folders behind files."""
    files = sorted(path for path in folder.glob("*.py") if path.stem not in ("__init__", "__main__"))
    for path in files:
        yield line(path.name, path, depth)
    for inner in sorted(path.parent for path in folder.glob("*/__init__.py")):
        yield line(f"{inner.name}/", inner / "__init__.py", depth)
        yield from tree(inner, depth + 1)


def line(name: str, module: Path, depth: int) -> str:
    """A name and what is inside."""
    start = f"{'  ' * depth}{name}"
    return f"{start:<{COLUMN}}{shorten(sentence(module), WIDEST - COLUMN, placeholder=' …')}".rstrip()


def sentence(module: Path) -> str:
    """What a module is, in the first words of its docstring."""
    text = " ".join((ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split())
    first = re.split(r"(?<=[a-z`)])\. |(?<=[a-z`)])\.$|; ", text)[0]
    return first.rstrip(".")


if __name__ == "__main__":
    page = updated(PAGE.read_text(encoding="utf-8"))
    with atomic(PAGE) as handle:
        handle.write(page)
