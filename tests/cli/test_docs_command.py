"""The documentation without the clone: pages and sections by name, and every text of the package points there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from support.house import Outcome

ROOT = Path(__file__).resolve().parents[2]
PAGES = {path.stem: path for path in (ROOT / "docs").glob("*.md")}
SOURCE = ROOT / "src" / "understudy"

Command = Callable[..., Outcome]


def test_it_lists_every_page_with_its_title(command: Command) -> None:
    lines = command("docs").out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(PAGES)
    assert all(len(line.split()) > 1 for line in lines)


@pytest.mark.parametrize("topic", ["data", "data.md", "docs/data.md"])
def test_a_page_is_printed_as_it_is(topic: str, command: Command) -> None:
    assert command("docs", topic).out == PAGES["data"].read_text(encoding="utf-8")


def test_a_section_ends_where_the_next_of_its_rank_begins(command: Command) -> None:
    printed = command("docs", "data#splits").out
    page = PAGES["data"].read_text(encoding="utf-8")
    assert printed.startswith("## Splits\n")
    assert printed.strip() in page
    assert re.findall(r"^## ", printed, re.MULTILINE) == ["## "]
    assert page.split(printed.strip())[1].lstrip().startswith("## ")


def test_a_comment_in_a_block_of_code_is_no_heading(command: Command) -> None:
    section = command("docs", "explanations#evaluating-explanations").out
    assert "\n# eight items: " in section
    assert section.count("```") % 2 == 0


def test_a_mistyped_topic_or_heading_names_the_nearest(command: Command) -> None:
    page, heading = command("docs", "extendin"), command("docs", "data#split")
    assert (page.code, heading.code) == (1, 1)
    assert page.err.startswith("error: there is no page 'extendin'\n  hint: did you mean `extending`?")
    assert heading.err == "error: data has no heading #split\n  hint: did you mean `splits`?\n"


def test_texts_of_the_package_point_to_pages_that_everybody_has() -> None:
    """Not to files of the clone: whoever installed a wheel has no folder docs/."""
    for path in [*SOURCE.rglob("*.py"), *SOURCE.rglob("*.yaml"), *SOURCE.rglob("*.jinja")]:
        text = path.read_text(encoding="utf-8")
        if path.name != "docs.py":
            assert not re.search(r"\bdocs/[a-z-]+\.md", text), path
        for topic in re.findall(r"understudy docs ([a-z-]+)", text):
            assert topic in PAGES, f"{path}: {topic}"
