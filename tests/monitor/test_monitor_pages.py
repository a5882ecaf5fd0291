"""Dashboard and review page in a real browser: three widths, light and dark; readable, nothing from elsewhere."""

from __future__ import annotations

import json
import random
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.exchanges import exchange
from understudy.monitor.config import AlertConfig, MonitorConfig, ShadowConfig
from understudy.monitor.harvest import HarvestRules, harvest, write_harvest
from understudy.monitor.observer import Monitor
from understudy.monitor.reference import Reference
from understudy.monitor.serving import page_beside
from understudy.monitor.signals import Observation
from understudy.monitor.store import MonitorStore
from understudy.serve.exchange import Exchange, Thumb
from understudy.web.listening import listen

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
LOOKS = [(width, scheme) for width in (390, 900, 1400) for scheme in ("light", "dark")]
HOSTILE = "<img src=x onerror=alert(1)><script>document.title='owned'</script>"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")

# What is cut off, empty, too small to read or lies over something else.
FAULTS = """() => {
  const faults = [], box = element => element.getBoundingClientRect();
  if (document.documentElement.scrollWidth > innerWidth) faults.push('the page is wider than the window');
  for (const element of document.querySelectorAll('h1, h2, p, td, dd, button, select, .tile, .card')) {
    const at = box(element);
    if (at.width && !element.closest('.scroll') && at.right > innerWidth + 1)
      faults.push(`runs out of the window: ${element.textContent.slice(0, 40)}`);
  }
  document.querySelectorAll('svg').forEach((svg, number) => {
    const frame = box(svg), texts = [...svg.querySelectorAll('text')];
    if (!frame.width || !frame.height) faults.push(`chart ${number} is empty`);
    for (const text of texts) {
      const t = box(text), words = text.textContent;
      const size = parseFloat(getComputedStyle(text).fontSize) * frame.width / svg.viewBox.baseVal.width;
      if (t.left < frame.left - 1 || t.right > frame.right + 1) faults.push(`chart ${number} cuts off ${words}`);
      if (size < 9) faults.push(`chart ${number} has letters of ${size} px: ${words}`);
    }
    const boxes = texts.map(text => [text.textContent, box(text)]);
    boxes.forEach(([one, p], i) => boxes.slice(i + 1).forEach(([other, q]) => {
      const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
      const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (wide > 1 && high > 3) faults.push(`${one} lies over ${other}`);
    }));
  });
  for (const element of document.querySelectorAll('.scroll, .bar')) {
    if (element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).overflowX !== 'auto')
      faults.push(`cannot be scrolled: ${element.textContent.slice(0, 40)}`);
  }
  return faults;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@contextmanager
def looked_at(browser: Any, url: str, width: int, scheme: str) -> Iterator[Any]:
    """A page whose errors and requests to elsewhere fail the test."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, faults = context.new_page(), []
    own = url.split("/", 3)[2] if url.startswith("http") else None
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: said.type in ("error", "warning") and faults.append(said.text))
    page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))

    def requested(request: Any) -> None:
        scheme, _, rest = request.url.partition(":")
        if scheme not in ("data", "blob") and not (scheme == "file" if own is None else rest.startswith(f"//{own}/")):
            faults.append(f"a request to {request.url}")

    page.on("request", requested)
    page.goto(url)
    yield page
    faults += page.evaluate(FAULTS)
    context.close()
    assert not faults


def usual(rng: random.Random) -> tuple[str, str]:
    kind = rng.choice(("duplex mode", "uplink range", "widest channel", "region", "downlink range"))
    band = rng.choice(("n78", "n41", "n1", "n28"))
    return f"What is the {kind} of NR band {band}?", f"It is {rng.choice(('TDD', 'FDD'))}."


def a_day(rng: random.Random, count: int = 600) -> Iterator[Exchange]:
    """Requests of the last day, the last of them about something else, a few failed, a few answered by the teacher."""
    now = time.time()
    for number in range(count):
        question, answer = usual(rng)
        if number > count - 80:
            question, answer = f"Which recipe for bread needs {number} grams of rye flour?", "I do not know."
        asked, status = number % 23 == 0, 503 if number % 40 == 7 else 200
        yield exchange(
            f"r{number}",
            question,
            answer if status == 200 else None,
            time=now - 86_000 * (1 - number / count),
            status=status,
            seconds=rng.uniform(0.2, 1.4),
            first_seconds=rng.uniform(0.05, 0.3),
            confidence=min(1.0, rng.betavariate(8, 2)),
            key=f"k{number % 12}",
            decision="asked" if asked else "kept",
            student_answer="TDD" if asked else None,
        )


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitorStore]:
    """A monitor's database after a day with drift, a candidate, thumbs and alerts."""
    rng = random.Random(1)
    config = MonitorConfig(shadow=ShadowConfig(share=1.0, waiting=10_000), alerts=AlertConfig(min_agreement=0.9))
    store = MonitorStore(tmp_path_factory.mktemp("pages") / "monitor.db", config)
    reference = Reference([Observation(*usual(rng)) for _ in range(300)])
    said = {"student": lambda told: told.answer or "", "candidate": lambda told: "It is TDD."}
    monitor = Monitor(store, config, reference=reference, teacher=lambda told: "It is TDD.", names=("a", "b"), seed=1)
    monitor.begin(("a", "b"), said["student"], said["candidate"])
    for told in a_day(rng):
        monitor.finished(told)
    monitor.drain()
    monitor.thumbed(Thumb("down", "q", "a", id="r3", correction=HOSTILE))
    monitor.thumbed(Thumb("up", "q", "a", id="r4"))
    store.write_alert("errors", f"12% of the last 200 requests failed {HOSTILE} {'w' * 200}")
    yield store
    monitor.close()


@pytest.fixture(scope="module")
def dashboard(watched: MonitorStore) -> Iterator[str]:
    with page_beside(watched, listen("127.0.0.1", 0)) as url:
        yield url


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_the_dashboard_is_whole_at_every_width(browser: Any, dashboard: str, width: int, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with looked_at(browser, f"{dashboard}/", width, scheme) as page:
        page.get_by_text("Updated").wait_for()
        assert page.locator("svg").count() == 9
        assert page.locator("#tiles .tile").count() == 6
        assert page.locator(".level").count() == 7
        assert "95% interval" in page.locator("main").inner_text()
        assert page.locator("#alerts tbody tr").count() > 3
        assert page.locator("main img, main script").count() == 0
        assert page.title() == "Monitor"
        assert Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).violations_count == 0


def test_the_dashboard_follows_what_happens_and_says_when_it_cannot(browser: Any, tmp_path: Path) -> None:
    store = MonitorStore(tmp_path / "m.db")
    with page_beside(store, listen("127.0.0.1", 0)) as url, looked_at(browser, f"{url}/", 390, "light") as page:
        page.get_by_text("Updated").wait_for()
        assert page.get_by_text("Nothing in this window.").count() == 8  # none is a number of requests too
        store.write([exchange("a", "q", confidence=0.5)])
        page.get_by_label("Window").select_option("1")
        page.locator("#tiles .tile", has_text=re.compile("^1requests$")).wait_for()
        assert page.locator("svg").count() == 7  # all but first token and agreement
    with page_beside(store, listen("127.0.0.1", 0)) as url:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{url}/")
        page.get_by_text("Updated").wait_for()
    page.get_by_label("Window").select_option("1")
    page.get_by_text("does not answer").wait_for()
    context.close()
    store.close()


def test_without_scripts_the_dashboard_still_says_what_is_known(browser: Any, dashboard: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{dashboard}/")
    assert page.locator("#tiles .tile").count() == 6
    assert "drift:distance" in page.locator("#alerts").inner_text()
    context.close()


@pytest.fixture(scope="module")
def review(watched: MonitorStore, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("harvest")
    watched.write([exchange("hostile", HOSTILE, HOSTILE, context=HOSTILE * 3, choices=("x", HOSTILE), confidence=0.1)])
    watched.write([exchange("long", "w" * 400, "v" * 900, confidence=0.1, key="k" * 90)])
    rules = HarvestRules(terms="own model, no restriction")
    write_harvest(harvest(watched, rules), folder, rules, "monitor.db")
    return folder


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_the_review_page_is_whole_at_every_width(browser: Any, review: Path, width: int, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with looked_at(browser, (review / "review.html").as_uri(), width, scheme) as page:
        assert page.locator("article").count() == json.loads((review / "harvest.json").read_text())["candidates"] > 10
        assert page.locator("article img, article script").count() == 0
        assert page.title() == "Review of a harvest"
        page.evaluate("window.scrollTo(0, 2000)")
        # The decisions stay in reach, and take little of a small window.
        bar = page.locator(".bar").bounding_box()
        assert bar["y"] < 10
        assert bar["height"] < 180
        assert Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).violations_count == 0


def test_decisions_are_saved_as_the_command_reads_them(browser: Any, review: Path, tmp_path: Path) -> None:
    from understudy.monitor.harvest import accept

    with looked_at(browser, (review / "review.html").as_uri(), 900, "light") as page:
        count = page.locator("article").count()
        page.get_by_role("button", name="Accept all").click()
        page.locator("article").nth(1).get_by_label("reject").check()
        assert page.locator("#count").inner_text() == f"{count - 1} accepted, 1 rejected, 0 open"
        with page.expect_download() as download:
            page.get_by_role("button", name="Save decisions").click()
        download.value.save_as(tmp_path / "decisions.json")
    assert sum(accept(review, json.loads((tmp_path / "decisions.json").read_text()))) == count - 1
