"""The page at `/` in a real browser: side by side, hostile texts as texts, nothing from elsewhere, at three widths."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.serving import Served, causal_run, serving
from understudy.files import read_jsonl
from understudy.serve.keys import KeyFile
from understudy.serve.opening import Plan

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
LOOKS = [(1280, "light"), (768, "dark"), (380, "light"), (380, "dark")]
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, str]]:
    folder = tmp_path_factory.mktemp("page")
    secret, _ = KeyFile(folder / "keys.json").add("browser")
    plan = Plan(
        models=("student", "teacher"), cascade=0.5, keys=folder / "keys.json", feedback=folder / "feedback.jsonl"
    )
    with serving(causal_run(folder), plan) as served:
        yield served, secret


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_side_by_side_at_every_width(browser: Any, keyed: tuple[Served, str], width: int, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    served, secret = keyed
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    faults: list[str] = []
    elsewhere: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: request.url.startswith(served.url) or elsewhere.append(request.url))
    page.goto(served.url)
    page.get_by_text("This server wants a key").wait_for()
    page.get_by_label("Key").fill(secret)
    page.get_by_label("Key").press("Tab")
    page.locator("#models input").first.wait_for()
    page.get_by_label("Question").fill(f"Who charges? {HOSTILE}")
    page.get_by_label("Options, one a line").fill("the AMF\nthe SMF")
    page.get_by_role("checkbox", name="cascade").check()
    page.get_by_role("button", name="Ask", exact=True).click()
    page.locator("article:nth-of-type(3) dl").wait_for()
    assert page.locator("article h2").all_inner_texts() == ["cascade", "student", "teacher"]
    assert page.locator("article img, article script").count() == 0
    for facts in page.locator("article dl").all_inner_texts():
        assert re.search(r"the AMF 0\.\d\d · the SMF 0\.\d\d", facts), facts
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).violations_count == 0
    page.locator("article").nth(1).get_by_role("button", name="wrong").click()
    page.get_by_label("The right answer").fill(f"CHF {HOSTILE}")
    page.get_by_role("button", name="Keep").click()
    page.get_by_text("Kept as wrong").wait_for()
    feedback: Path = served.gateway.feedback  # pyright: ignore[reportAssignmentType]
    row = read_jsonl(feedback)[-1]
    assert row["answers"] == [f"CHF {HOSTILE}"]
    assert row["question"].endswith(HOSTILE)
    assert row["key"].startswith("key-")
    assert faults == elsewhere == []
    context.close()
