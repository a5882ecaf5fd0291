"""The page of a comparison in a real browser: nothing overflows, is clipped, empty, in error, or fetched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.embedded_answers import NAMES, embedded_answers
from understudy.evaluation.compare import compare
from understudy.evaluation.scoring import score_systems
from understudy.evaluation.systems import System
from understudy.metrics.significance import Resampling
from understudy.report.comparison_page import render_comparison

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
LOOKS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
}
LONG = "an-untrained-student-with-a-very-long-name-of-its-own-v0.1"

# Boxes of upright texts; those of slanted ones overlap where the letters do not.
FAULTS = """() => {
  const faults = [], box = element => element.getBoundingClientRect();
  const upright = text => !/rotate\\(-?(?!0[ ,)])/.test(text.getAttribute('transform') || '');
  if (document.documentElement.scrollWidth > innerWidth) faults.push('the page is wider than the window');
  document.querySelectorAll('svg').forEach((svg, number) => {
    const frame = box(svg), texts = [...svg.querySelectorAll('text')];
    if (!frame.width || !frame.height) faults.push(`plot ${number} is empty`);
    for (const text of texts) {
      const t = box(text);
      if (t.left < frame.left - 1 || t.right > frame.right + 1 || t.top < frame.top - 1 || t.bottom > frame.bottom + 1)
        faults.push(`plot ${number} cuts off: ${text.textContent.trim()}`);
    }
    const plain = texts.filter(upright).map(text => [text.textContent.trim(), box(text)]);
    plain.forEach(([one, p], i) => plain.slice(i + 1).forEach(([other, q]) => {
      const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (wide > 2 && high > 3) faults.push(`plot ${number}: ${one} lies over ${other}`);
    }));
  });
  for (const element of document.querySelectorAll('h1, h2, h3, p, li, dd, article')) {
    if (box(element).right > innerWidth + 1) faults.push(`runs out of the window: ${element.textContent.slice(0, 40)}`);
  }
  return faults;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of two systems, of many with long names and seeds, and of one item."""
    folder = tmp_path_factory.mktemp("pages")
    answers = embedded_answers()
    few = [System(name, answers[name], name) for name in NAMES[:2]]
    many = [System(name, answers[name], name, arm="sft", seed=0, family=name) for name in NAMES]
    many += [System(NAMES[0], answers[NAMES[0]][::-1], "again", arm="sft", seed=1, family=NAMES[0])]
    endless = [replace(row, prediction=f"{'W' * 300} <b>{row.prediction}") for row in answers[NAMES[2]]]
    many += [System(LONG, endless, "long"), System("перевод 学生 " + LONG, answers[NAMES[1]], "other")]
    one = [System(name, answers[name][:1], name) for name in NAMES[:2]]
    text = ("exact_match", "token_f1", "bleu", "rouge1", "rouge2", "rougeL", "meteor", "chrf", "faithfulness")
    for name, systems in {"two": few, "many": many, "one_item": one}.items():
        comparison = compare(score_systems(systems, text), resampling=Resampling(300))
        render_comparison(comparison.to_dict(), folder / f"{name}.html")
    return {path.stem: path for path in folder.glob("*.html")}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("name", ["two", "many", "one_item"])
def test_the_page_looks_as_it_should(browser: Any, pages: dict[str, Path], name: str, look: str) -> None:
    context = browser.new_context(**LOOKS[look])
    page = context.new_page()
    said: list[str] = []
    fetched: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(pages[name].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate(FAULTS) == []
    shot = page.screenshot(full_page=True, path=str(pages[name].with_name(f"{name}-{look}.png")))
    assert len(shot) > 20_000
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, background.removeprefix("rgb(").removesuffix(")").split(","))) / 3
    assert (light > 200) == (look != "dark")
    assert said == []
    assert fetched == [pages[name].as_uri()]
    context.close()


def test_it_prints_within_a_page(browser: Any, pages: dict[str, Path]) -> None:
    page = browser.new_page(viewport={"width": 760, "height": 1000})
    page.goto(pages["two"].as_uri())
    page.emulate_media(media="print")
    assert page.evaluate(FAULTS) == []
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert page.pdf(format="A4").startswith(b"%PDF")
