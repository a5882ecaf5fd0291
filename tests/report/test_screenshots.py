"""The page of a comparison in a real browser: nothing overflows, is clipped, empty, in error, or fetched."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.arms import compare_arms
from support.calibrations import calibration_report
from support.embedded_answers import NAMES, embedded_answers
from support.pilots import pilot_inputs
from support.studies import write_texts
from understudy.evaluation.compare import compare
from understudy.evaluation.scoring import score_systems
from understudy.evaluation.systems import System
from understudy.files import parse_json
from understudy.metrics.significance import Resampling
from understudy.records import ModelSpeed
from understudy.report import ReportInputs, render_report
from understudy.report.calibration_page import render_calibration
from understudy.report.comparison_page import render_comparison
from understudy.report.grid_page import render_grid
from understudy.report.grid_reading import grid_analysis
from understudy.report.pilot_page import render_pilot
from understudy.study.analysis import analyse
from understudy.study.answers import SIMULATED, read_answers
from understudy.study.findings import StudyAnalysis
from understudy.study.folder import create_study
from understudy.study.options import AnalysisOptions
from understudy.study.page import render_study
from understudy.study.simulated import Bias, parse_effects, simulate
from understudy.study.sources import read_methods

RESULTS = Path(__file__).parents[2] / "docs" / "results"

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
LOOKS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "tablet": {"viewport": {"width": 768, "height": 1024}, "color_scheme": "light"},
    "phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "light"},
    "dark phone": {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"},
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
    const shrunk = frame.width / svg.viewBox.baseVal.width;
    for (const text of texts) {
      const size = parseFloat(getComputedStyle(text).fontSize) * shrunk;
      if (size < 8) faults.push(`plot ${number} has letters of ${size} px: ${text.textContent.trim()}`);
    }
    const plain = texts.filter(upright).map(text => [text.textContent.trim(), box(text)]);
    plain.forEach(([one, p], i) => plain.slice(i + 1).forEach(([other, q]) => {
      const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (wide > 2 && high > 3) faults.push(`plot ${number}: ${one} lies over ${other}`);
    }));
  });
  // What is cut off can be scrolled to, and says so: by a bar and by a shade at the edge.
  for (const element of document.querySelectorAll('.scroll, figure')) {
    const style = getComputedStyle(element);
    if (!element.checkVisibility({contentVisibilityAuto: true}) || element.scrollWidth <= element.clientWidth) continue;
    if (style.overflowX !== 'auto') faults.push(`cannot be scrolled: ${element.textContent.trim().slice(0, 40)}`);
    if (!style.backgroundAttachment.includes('scroll')) faults.push('a wide part does not say that it scrolls');
  }
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
    study = parse_json((RESULTS / "telecom_study.json").read_bytes())
    render_grid(grid_analysis(study), folder / "grid.html")
    render_report(run_inputs(), folder / "run.html")
    render_calibration(calibration_report(), folder / "calibration.html")
    render_pilot(pilot_inputs(), folder / "pilot.html")
    render_pilot(pilot_inputs("cannot tell", few=True), folder / "small_pilot.html")
    render_study(study_of_people(folder), folder / "study.html")
    return {path.stem: path for path in folder.glob("*.html")}


def study_of_people(folder: Path) -> StudyAnalysis:
    """A study of four methods, one of a long name, rated by simulated raters, some of whom do not attend."""
    texts = write_texts(folder / "texts.jsonl", 12, methods=("CF", "MT", "MT+CF revised", LONG[:40]))
    settings = {"items": 12, "raters": 12, "per_rater": 8, "simulation": True, "selection": "disagreement"}
    study = create_study(folder / "people", read_methods([str(texts)]), settings)
    simulate(study, Bias(parse_effects(["MT+CF revised=0.8"], study), inattentive=0.2), 1, study.folder / SIMULATED)
    return analyse(read_answers(study.folder, simulated=True), AnalysisOptions(draws=200, resamples=100))


def run_inputs() -> ReportInputs:
    """A run of all arms, with curves, sizes and speeds."""
    shares = {"teacher": 6, "distilled": 5, "seqkd": 5, "kd_gold": 4, "sft": 3, "base_student": 1, "majority": 2}
    arms = {arm: [row(k, right=k % 7 < share) for k in range(42)] for arm, share in shares.items()}
    curves = {f"train:{arm}": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}] for arm in ("distilled", "sft")}
    models = {"teacher": ModelSpeed(2_000_000, 8e6, 40.0, 2000.0), "student": ModelSpeed(500_000, 2e6, 10.0, 5000.0)}
    comparison = compare_arms(arms, resampling=Resampling(200)).to_dict()
    return ReportInputs(name="telecom-qa", comparison=comparison, curves=curves, models=models)


def row(number: int, *, right: bool) -> dict[str, Any]:
    text = f"function {number} of the core"
    facts = {"kind": ("phrasing", "two_step")[number % 2], "gold_fact": number % 3 == 0, "group": f"fact{number}"}
    return {"id": f"q{number}", "references": [text], "prediction": text if right else "no idea", **facts}


def test_a_best_cell_lies_inside_the_box_of_a_telephone(browser: Any, pages: dict[str, Path]) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(pages["grid"].as_uri())
    plot, box = page.locator("figure svg").bounding_box(), page.locator("figure").bounding_box()
    assert plot["x"] + plot["width"] <= box["x"] + box["width"]


# The widest and the narrowest window, one light and one dark; what lies between them is looked at with the slow tests.
@pytest.mark.parametrize(
    "look",
    [pytest.param(look, marks=() if look in ("desktop", "dark phone") else pytest.mark.slow) for look in LOOKS],
)
@pytest.mark.parametrize(
    "name", ["two", "many", "one_item", "run", "grid", "study", "calibration", "pilot", "small_pilot"]
)
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
    shot = screenshot(page, pages[name].with_name(f"{name}-{look}.png"))
    assert len(shot) > 20_000
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(map(int, background.removeprefix("rgb(").removesuffix(")").split(","))) / 3
    assert (light > 200) == ("dark" not in look)
    assert said == []
    assert fetched == [pages[name].as_uri()]
    context.close()


def screenshot(page: Any, path: Path) -> bytes:
    """The whole page as a picture.

    Chromium now and then refuses a capture, whatever the page, and takes the very same one when asked again.
    """
    from playwright.sync_api import Error

    refusals = 0
    while True:
        try:
            return page.screenshot(full_page=True, path=str(path))
        except Error as error:
            refusals += 1
            if "Unable to capture screenshot" not in str(error) or refusals == 5:
                raise


def test_it_prints_within_a_page(browser: Any, pages: dict[str, Path]) -> None:
    page = browser.new_page(viewport={"width": 760, "height": 1000})
    page.goto(pages["two"].as_uri())
    page.emulate_media(media="print")
    assert page.evaluate(FAULTS) == []
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert page.pdf(format="A4").startswith(b"%PDF")
