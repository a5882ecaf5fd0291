"""Every block of code in README and docs runs, unless a comment before it says why it cannot.

The blocks of a page run one after the other in one empty folder: shell blocks as a person would type them, Python
blocks in one namespace. `<!-- file: NAME -->` writes the next block to a file; `, read as: FORMAT` behind the name also
reads it as data and expects that format, `, format: FORMAT` reads it by that format. `<!-- not run: REASON -->` passes
the next block over.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?:<!-- (?P<mark>[^>]*?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)\n```", re.DOTALL)
RUN = ("python", "bash")


@dataclass(frozen=True)
class Block:
    """A fenced block, what stands in the comment before it, and its line."""

    language: str
    text: str
    mark: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(match["language"], match["text"], match["mark"] or "", text.count("\n", 0, match.start()) + 1)
        for match in BLOCK.finditer(text)
    ]


@pytest.fixture(autouse=True)
def registries_stay() -> Iterator[None]:
    """A page that registers a divergence, a metric, a layout … leaves the registries to other tests as they were."""
    from understudy.data.formats import FORMATS
    from understudy.losses import DIVERGENCES
    from understudy.metrics import METRICS

    before = [(registry, dict(registry)) for registry in (DIVERGENCES, METRICS, FORMATS)]
    yield
    for registry, entries in before:
        registry.clear()
        registry.update(entries)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        where = f"{page.name}:{block.line}"
        if block.mark.startswith("file: "):
            _write_and_read(block, tmp_path)
        elif block.language in RUN and not block.mark.startswith("not run: "):
            _run(block, namespace, where)


def _run(block: Block, namespace: dict[str, object], where: str) -> None:
    if block.language == "python":
        exec(compile(block.text, where, "exec"), namespace)
        return
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", block.text], env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, f"{where}: {done.stderr}"


def _write_and_read(block: Block, folder: Path) -> None:
    from understudy.data.load import read_examples
    from understudy.recipe import DataConfig, is_grid, load_grid, load_recipe, load_yaml

    name, _, rest = block.mark.removeprefix("file: ").partition(", ")
    path = folder / name
    path.write_text(block.text + "\n", encoding="utf-8")
    if rest:
        how, _, form = rest.partition(": ")
        assert how in ("read as", "format")
        reading = read_examples(DataConfig(format=form if how == "format" else "auto"), str(path))
        assert reading.format == form
        assert not reading.faults
        assert all(example.answers for example in reading.examples)
    elif name.endswith(".yaml"):
        (load_grid if is_grid(load_yaml(path)) else load_recipe)(path)


def test_marks_are_ones_that_are_known() -> None:
    for page in PAGES:
        for block in blocks(page):
            known = not block.mark or block.mark.startswith(("file: ", "not run: ", "fields: "))
            assert known, f"{page.name}:{block.line}: {block.mark}"


def test_every_fence_is_closed_and_names_its_language() -> None:
    for page in PAGES:
        fences = re.findall(r"^```(.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) % 2 == 0, page
        assert all(fences[::2]), f"{page}: a block without a language"
        assert not any(fences[1::2]), page
