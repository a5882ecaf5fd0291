"""A study in a real browser: from the consent to the completion code, by mouse, by keyboard alone, on a phone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.studies import HOSTILE, METHODS, StudyServer, make_study, serving
from understudy.study.administration import Administration
from understudy.study.database import open_database
from understudy.study.export import table
from understudy.study.folder import open_study
from understudy.study.store import Store

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
LOOKS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"},
    "dark tablet": {"viewport": {"width": 768, "height": 1024}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 375, "height": 740}, "color_scheme": "light", "has_touch": True},
    "dark phone": {"viewport": {"width": 320, "height": 640}, "color_scheme": "dark"},
}
RIGHT = {"ask-judged": "1", "ask-scale": "2"}

# What a person with a phone or a magnifier meets: pages that run out of the window, targets too small to hit.
FAULTS = """() => {
  const faults = [];
  if (document.documentElement.scrollWidth > innerWidth) faults.push('the page is wider than the window');
  for (const element of document.querySelectorAll('h1, h2, p, li, legend, label, fieldset, button')) {
    const box = element.getBoundingClientRect();
    if (box.width && box.right > innerWidth + 1) faults.push(`runs out: ${element.textContent.trim().slice(0, 40)}`);
  }
  for (const element of document.querySelectorAll('main button, main label.point, main label.option')) {
    const box = element.getBoundingClientRect();
    if (box.height < 32 || box.width < 40) faults.push(`small: ${element.textContent.trim()}`);
  }
  return faults;
}"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudyServer]:
    """A study of hostile texts, served."""
    folder = tmp_path_factory.mktemp("browser")
    make_study(folder, hostile=True, raters=12, per_rater=4, open_recruitment=True, panel={})
    with serving(folder / "study") as server:
        yield server


@pytest.fixture
def store(server: StudyServer) -> Iterator[Store]:
    """The same study's database, beside the server."""
    study = open_study(server.folder)
    database = open_database(study)
    yield Store(study, database)
    database.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Any]:
    """Opens a page of its own context; whatever it asks of another server, or logs as an error, is a fault."""
    contexts, faults = [], []

    def open_page(**look: Any) -> Any:
        context = browser.new_context(**look)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: "127.0.0.1" in request.url or faults.append(request.url))
        page.on("pageerror", lambda error: faults.append(str(error)))
        # What the policy forbids is said on the console; that a page is paused or lacks something is said there too.
        spoken = "the server responded with a status of"
        page.on("console", lambda line: line.type == "error" and spoken not in line.text and faults.append(line.text))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def is_at_end(page: Any) -> bool:
    return page.locator("#code").count() == 1


def wanted(page: Any) -> str | None:
    """The rating that an attention check asks for."""
    text = page.locator("main").inner_text()
    return text.split("Please choose ")[1][0] if "Please choose " in text and "for every statement" in text else None


def groups(page: Any) -> list[str]:
    names = page.locator("input[type=radio]").evaluate_all("all => all.map(one => one.name)")
    return list(dict.fromkeys(names))


def by_mouse(page: Any, rating: str = "4") -> None:
    """Fill in a page by clicks and send it."""
    if page.locator("input[name=agree]").count():
        page.get_by_label("I have read this").check()
    for name in groups(page):
        value = RIGHT.get(name) or (wanted(page) or rating if name.startswith("rate-") else "0")
        page.locator(f"label:has(input[name='{name}'][value='{value}'])").click()
    page.locator("form button[type=submit]").first.click()


def ratings_of(store: Store, panel_id: str) -> list[dict[str, Any]]:
    rater = Administration(store).rater_of(panel_id)
    return [row for row in table(store, "ratings")[1] if row["rater"] == f"r{rater:04d}"]


OF_EVERY_RUN = ("phone",)
"""Looks that the default tier goes through; the others are slow ones."""


@pytest.mark.parametrize(
    "look", [pytest.param(look, marks=[] if look in OF_EVERY_RUN else pytest.mark.slow) for look in LOOKS]
)
def test_a_rater_comes_to_the_code_and_every_page_is_sound(look: str, server, store, visit, tmp_path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page, axe, seen = visit(**LOOKS[look]), Axe(), []
    panel_id = look.replace(" ", "-")
    page.goto(f"{server.url}/join?PROLIFIC_PID={panel_id}")
    page.locator("button").click()
    while not is_at_end(page):
        seen.append(page.locator("h1").inner_text())
        assert page.evaluate(FAULTS) == [], seen[-1]
        assert is_blind_and_harmless(page, store), seen[-1]
        if kind_of(seen[-1]) not in map(kind_of, seen[:-1]):
            results = axe.run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]})
            assert results.violations_count == 0, (seen[-1], results.generate_report())
            assert len(results.response["passes"]) > 10
            page.screenshot(path=tmp_path / f"{len(seen):02d}.png", full_page=True)
        by_mouse(page)
    assert len(seen) == 4 + 4 + 2 + 1  # consent, about, practice, questions · items · attention checks · last words
    assert axe.run(page).violations_count == 0
    rows = ratings_of(store, panel_id)
    assert len(rows) == 4 * 5
    assert {row["rating"] for row in rows} == {4}
    person = [row for row in table(store, "raters")[1] if row["PROLIFIC_PID"] == panel_id]
    assert [(row["status"], row["attention_passed"], row["attention_failed"]) for row in person] == [("finished", 2, 0)]


def kind_of(heading: str) -> str:
    """A heading without its numbers."""
    return "".join(c for c in heading if not c.isdigit())


def is_blind_and_harmless(page: Any, store: Store) -> bool:
    """Whether a page names no method and no item, and shows a model's script as text."""
    source = page.content()
    names = any(f">{name}<" in source or f'"{name}"' in source for name in METHODS)
    ids = any(item in source for item in store.study.items)
    rated = page.get_by_role("heading", level=1).inner_text().startswith("Explanation")
    shown = not rated or HOSTILE in page.locator(".explained").inner_text()
    return shown and not names and not ids and "owned" not in page.title()


def test_a_rater_needs_no_mouse(server, store, visit) -> None:
    page = visit(**LOOKS["desktop"])
    page.goto(f"{server.url}/join?PROLIFIC_PID=keyboard")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(60):
        if is_at_end(page):
            break
        fill_in_by_keyboard(page)
    assert is_at_end(page)
    rows = ratings_of(store, "keyboard")
    assert len(rows) == 4 * 5
    assert {row["rating"] for row in rows} == {3}


def fill_in_by_keyboard(page: Any) -> None:
    """Tab through a page; in each group, arrows to the answer; on the button, Enter."""
    asked = wanted(page)
    page.evaluate("document.activeElement.blur()")
    for _ in range(40):
        page.keyboard.press("Tab")
        focus = page.evaluate("(e => [e.tagName, e.type || '', e.name || '', e.value || ''])(document.activeElement)")
        tag, kind, name, value = focus
        if kind == "checkbox":
            page.keyboard.press("Space")
        elif kind == "radio":
            goal = RIGHT.get(name) or ((asked or "3") if name.startswith("rate-") else value)
            page.keyboard.press("Space")
            for _ in range(8):
                if page.evaluate("document.activeElement.value") == goal:
                    break
                page.keyboard.press("ArrowRight")
        elif tag == "BUTTON":
            with page.expect_navigation():
                page.keyboard.press("Enter")
            return
    raise AssertionError("no button can be reached")


@pytest.mark.slow
def test_going_back_two_tabs_double_submit_and_reload_lose_and_double_nothing(server, store, visit) -> None:
    page = visit(**LOOKS["desktop"])
    page.goto(f"{server.url}/join?PROLIFIC_PID=back")
    page.locator("button").click()
    while "Explanation 2" not in page.locator("h1").inner_text():
        by_mouse(page, "2")
    here = page.url
    other = page.context.new_page()
    other.goto(here)
    page.bring_to_front()
    by_mouse(page, "5")
    other.bring_to_front()
    by_mouse(other, "1")  # the second tab comes later, so it counts
    assert other.url == page.url
    other.close()
    page.go_back()
    assert page.locator("input[name=rate-satisfaction]:checked").get_attribute("value") == "1"
    page.evaluate("""() => {
        const form = document.querySelector('form'), body = new URLSearchParams(new FormData(form));
        for (let i = 0; i < 3; i++) fetch(form.action, {method: 'POST', body}); }""")
    by_mouse(page, "3")
    page.reload()
    while not is_at_end(page):
        by_mouse(page, "4")
    code = page.locator("#code").inner_text()
    page.reload()
    assert page.locator("#code").inner_text() == code
    page.go_back()
    page.goto(here)  # whoever has finished changes nothing any more
    assert page.locator("#code").inner_text() == code
    rows = ratings_of(store, "back")
    assert len(rows) == 4 * 5
    assert [row["rating"] for row in rows] == [2] * 5 + [3] * 5 + [4] * 10


@pytest.mark.slow
def test_a_panel_id_alone_goes_on_and_shows_no_earlier_answer(server, store, visit) -> None:
    page = visit(**LOOKS["desktop"])
    page.goto(f"{server.url}/join?PROLIFIC_PID=again")
    page.locator("button").click()
    while "Explanation 2" not in page.locator("h1").inner_text():
        by_mouse(page, "2")
    here = page.url
    stranger = visit(**LOOKS["phone"])
    stranger.goto(f"{server.url}/join?PROLIFIC_PID=again")
    stranger.locator("button").click()
    assert "Explanation 2" in stranger.locator("h1").inner_text()
    number = int(here.rsplit("/", 1)[1])
    stranger.goto(stranger.url.rsplit("/", 1)[0] + f"/{number - 1}")
    assert stranger.url.endswith(f"/{number}")
    assert stranger.get_by_text("Back", exact=True).count() == 0
    page.goto(f"{server.url}/join?PROLIFIC_PID=again")
    page.locator("button").click()
    assert page.url == here  # the browser that was there gets its own link back
    assert len({row["slot"] for row in table(store, "raters")[1] if row["PROLIFIC_PID"] == "again"}) == 1


@pytest.mark.slow
def test_chinese_pages(server, store, visit) -> None:
    page = visit(**LOOKS["phone"])
    page.goto(f"{server.url}/join?PROLIFIC_PID=zh&language=zh")
    assert page.locator("html").get_attribute("lang") == "zh"
    page.locator("button").click()
    assert "开始之前" in page.locator("h1").inner_text()
    page.get_by_text("我已阅读").click()
    page.get_by_role("button", name="开始").click()
    assert "关于您" in page.locator("h1").inner_text()
    page.get_by_role("link", name="English").click()
    assert "About you" in page.locator("h1").inner_text()
    people = [row for row in table(store, "raters")[1] if row["PROLIFIC_PID"] == "zh"]
    assert [row["language"] for row in people] == ["en"]


def test_the_admin_page_counts_pauses_excludes_exports_and_deletes(server, store, visit, tmp_path: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import expect

    rater = visit(**LOOKS["desktop"])
    rater.goto(f"{server.url}/join?PROLIFIC_PID=leaving")
    rater.locator("button").click()
    while "Explanation 2" not in rater.locator("h1").inner_text():
        by_mouse(rater)
    page = visit(**LOOKS["desktop"])
    page.goto(f"{server.url}/admin")
    page.get_by_label("Token").fill(server.admin_token)
    page.get_by_role("button", name="Enter").click()
    assert Axe().run(page).violations_count == 0
    before = int(page.locator("#live .figures strong").nth(1).inner_text())
    page.get_by_role("button", name="Pause").click()
    # What was on its way is stored; the next page is closed.
    by_mouse(rater)
    assert "paused" in rater.locator("h1").inner_text()
    expect(page.locator("#live .figures strong").nth(1)).to_have_text(str(before + 1), timeout=30_000)
    page.get_by_role("button", name="Resume").click()
    page.locator("#exclude-rater").fill("leaving")
    page.locator("#exclude-reason").fill("asked to stop")
    page.get_by_role("button", name="Exclude").click()
    assert page.get_by_role("cell", name="asked to stop").count() == 1
    assert int(page.locator("#live .figures strong").nth(1).inner_text()) == before - 1
    with page.expect_download() as download:
        page.get_by_role("link", name="ratings.csv").click()
    download.value.save_as(tmp_path / "ratings.csv")
    head, *rows = (tmp_path / "ratings.csv").read_text().splitlines()
    assert head == "rater,item,method,construct,rating,position,seconds,length"
    number = f"r{Administration(store).rater_of('leaving'):04d}"
    assert sum(row.startswith(number) for row in rows) == 2 * 5
    page.locator("#forget-rater").fill("leaving")
    page.get_by_label("Delete it for good").check()
    page.get_by_role("button", name="Delete").click()
    assert "leaving" not in page.content()
    assert b"leaving" not in b"".join(path.read_bytes() for path in server.folder.glob("study.db*"))
    rater.reload()
    assert "leads nowhere" in rater.locator("h1").inner_text()
