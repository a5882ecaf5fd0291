"""The report on figures that `compare` really made: whole, self-contained, escaped, the same bytes each time."""

from __future__ import annotations

import html
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.arms import compare_arms
from understudy.errors import RunError
from understudy.metrics.significance import Resampling
from understudy.records import ModelSpeed
from understudy.report import ReportInputs, render_report
from understudy.report.caveats import limits
from understudy.report.formatting import arm_label, compact, number, p_text
from understudy.report.headline import headline
from understudy.report.verdicts import headline_metric, pair_test

SHARES = {"teacher": 0.95, "distilled": 0.8, "seqkd": 0.75, "kd_gold": 0.5, "sft": 0.45, "base_student": 0.05}
EVIL = "<script>alert('owned')</script><img src=x onerror=alert(1)> & $\\frac{1}{2}$"


def rows(arm: str, share: float, *, items: int = 80, prefix: str = "") -> list[dict[str, Any]]:
    right = np.random.default_rng(len(arm)).uniform(size=items) < share
    return [
        {
            "id": f"q{k}",
            "kind": ("phrasing", "two_step")[k % 2],
            "gold_fact": k % 4 == 0,
            "group": f"fact{k // 2}",
            "question": f"{prefix}Which function has number {k}?",
            "context": prefix + "read this" if k % 5 == 0 else None,
            "choices": [prefix + "AMF", "SMF"] if k % 3 == 0 else [],
            "references": [f"{prefix}function {k} of the core"],
            "prediction": f"{prefix}function {k} of the core" if right[k] else f"{prefix}no idea",
            "choice_scores": None,
            "seconds": 0.1,
        }
        for k in range(items)
    ]


CURVES = {
    "teacher_sft": [{"step": 1, "loss": 2.0, "learning_rate": 0.1}, {"step": 2, "loss": math.nan, "train_loss": 1.0}],
    "train:distilled": [
        {"step": 1, "loss": 2.0, "gold": 1.5, "divergence": 0.5, "agreement": 0.2},
        {"step": 2, "eval_rougeL": 0.4},
        {"step": 2, "student_entropy": 1.0, "teacher_entropy": 0.4, "divergence": 0.2, "loss": None},
    ],
}
MODELS = {
    "teacher": ModelSpeed(2_000_000, 8e6, latency_ms=40.0, tokens_per_second=2000.0, peak_memory_mb=800.0),
    "student": ModelSpeed(500_000, 2e6, latency_ms=10.0, tokens_per_second=5000.0),
}


@pytest.fixture(scope="module")
def inputs() -> ReportInputs:
    arms = {arm: rows(arm, share) for arm, share in SHARES.items()}
    return ReportInputs(
        name="telecom-qa",
        comparison=compare_arms(arms, resampling=Resampling(3000)).to_dict(),
        recipe="name: telecom-qa\nseed: 0\n",
        curves=CURVES,
        models=MODELS,
        data={"Test rows": 80},
        fingerprints={"data": "0123456789abcdef"},
        versions={"understudy": "0.1.0"},
        notes=["3 contexts were reduced to a window."],
    )


def render(run: ReportInputs, folder: Path) -> str:
    render_report(run, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """What a browser would find: tags in balance, ids, things to load."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr", "path", "use"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "data", "action"):
                self.loads.append(value or "")
            if name.startswith("on"):
                self.handlers.append(name)
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_is_whole_and_loads_nothing(inputs, tmp_path) -> None:
    text = render(inputs, tmp_path)
    page = Page(text)
    assert page.open == []
    assert all(target.startswith("#") for target in page.loads)
    assert {target[1:] for target in page.loads} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert not re.search(r"https?://|url\((?!#)|@import", text)
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)
    assert page.tags.count("figure") == 8


def test_page_shows_what_there_is(inputs, tmp_path) -> None:
    text = Page(render(inputs, tmp_path)).text
    for arm in SHARES:
        assert arm_label(arm) in text
    for word in ("ROUGE-L", "telecom-qa", "0123456789abcdef", "3 contexts were reduced", "seed: 0", "4.0× fewer"):
        assert word in text
    value = inputs.comparison["overall"]["table"]["distilled"]["exact_match"]["value"]
    assert f"{100 * value:.1f}" in text
    assert inputs.comparison["metrics"]["bleu"]["signature"] in text


def test_same_input_same_bytes(inputs, tmp_path) -> None:
    assert render(inputs, tmp_path / "a") == render(inputs, tmp_path / "b")


def test_plots_are_sound_xml_in_the_page_colours(inputs, tmp_path) -> None:
    plots = re.findall(r"<svg.*?</svg>", render(inputs, tmp_path), flags=re.S)
    for plot in plots:
        ET.fromstring(plot.replace("<svg ", '<svg xmlns:xlink="x" ', 1))
        assert "currentColor" in plot or "<text" not in plot  # the marks of a legend have their arm's colour only
        assert "<metadata" not in plot
        assert "#010203" not in plot


def test_what_a_model_writes_stays_text(tmp_path) -> None:
    arms = {arm: rows(arm, share, prefix=EVIL) for arm, share in SHARES.items()}
    for table in arms.values():
        for row in table:
            row["kind"] = f"{EVIL}_{row['kind']}"
    comparison = compare_arms(arms, resampling=Resampling(100)).to_dict()
    run = ReportInputs(
        name=EVIL,
        comparison=comparison,
        recipe=EVIL,
        curves={f"train:{EVIL}": [{"step": 1, EVIL: 1.0}, {"step": 2, EVIL: 2.0}]},
        models={"teacher": MODELS["teacher"]},
        data={EVIL: EVIL},
        fingerprints={EVIL: EVIL},
        versions={EVIL: EVIL},
        notes=[EVIL],
    )
    text = render(run, tmp_path)
    page = Page(text)
    assert not {"script", "img"} & set(page.tags)
    assert page.handlers == []
    assert page.text.count("<script>alert('owned')</script>") > 40
    assert html.escape("<img src=x") in text


@pytest.mark.parametrize(
    "arms", [["sft", "majority"], ["distilled", "sft"], ["teacher", "distilled", "seqkd"], list(SHARES)]
)
def test_missing_arms_and_sections(arms: list[str], tmp_path) -> None:
    tables = {arm: rows(arm, SHARES.get(arm, 0.1)) for arm in arms}
    run = ReportInputs(name="bare", comparison=compare_arms(tables, resampling=Resampling(100)).to_dict())
    page = Page(render(run, tmp_path))
    assert page.open == []
    assert all(arm_label(arm) in page.text for arm in arms)
    assert "nan" not in page.text.lower().replace("maintenance", "")
    missing = [arm_label(arm) for arm in SHARES if arm not in arms and arm != "base_student"]
    assert all(any(name in caveat for caveat in limits(run.comparison)) for name in missing)


def test_one_item_has_no_interval_and_no_verdict(tmp_path) -> None:
    tables = {arm: rows(arm, share, items=1) for arm, share in SHARES.items()}
    run = ReportInputs(name="one", comparison=compare_arms(tables, resampling=Resampling(100)).to_dict())
    text = Page(render(run, tmp_path)).text
    assert headline(run.comparison).tone == "open"
    assert "too few items" in text
    assert "no interval" in text


def test_another_arm_and_only_choices(tmp_path) -> None:
    def choice(scores: list[float]) -> list[dict[str, Any]]:
        more = {"choices": ["AMF", "SMF"], "references": ["SMF"], "prediction": "", "choice_scores": scores}
        return [{**row, **more} for row in rows("x", 0.5, items=10)]

    tables = {"distilled": choice([-2.0, -1.0]), "sft": choice([-1.0, -2.0]), "my own": choice([-1.0, -2.0])}
    run = ReportInputs(name="choices", comparison=compare_arms(tables, resampling=Resampling(100)).to_dict())
    text = Page(render(run, tmp_path)).text
    assert headline_metric(run.comparison) == "choice_accuracy"
    assert "my own" in text
    assert "Guessing among the options would score 50.0" in text


def test_headline_follows_the_figures(inputs) -> None:
    assert headline(inputs.comparison).tone == "better"
    assert headline(inputs.comparison).verdict.startswith("Yes")
    test = pair_test(inputs.comparison, "distilled", "sft", "exact_match")
    assert test is not None
    d = test["comparison"]
    assert (
        f"+{100 * d['difference']:.1f} (+{100 * d['low']:.1f} to +{100 * d['high']:.1f})"
        in headline(inputs.comparison).sentences[0]
    )
    gap = inputs.comparison["gaps"]["exact_match"]["value"]
    assert f"That is {100 * gap:.0f}%" in " ".join(headline(inputs.comparison).sentences)

    def verdict(distilled: float, sft: float) -> str:
        arms = {"distilled": rows("distilled", distilled), "sft": rows("sft", sft)}
        return headline(compare_arms(arms, resampling=Resampling(2000)).to_dict()).verdict

    assert verdict(0.2, 0.9).startswith("No:")
    assert verdict(0.5, 0.5).startswith("Not shown")


def test_gap_that_is_not_given_says_why(inputs, tmp_path) -> None:
    arms = {"teacher": rows("sft", 0.45), "distilled": rows("distilled", 0.8), "sft": rows("sft", 0.45)}
    run = ReportInputs(name="no-gap", comparison=compare_arms(arms, resampling=Resampling(200)).to_dict())
    text = Page(render(run, tmp_path)).text
    assert "not clearly better than the SFT-only student" in text
    assert "no clear gap to recover" in text


@pytest.mark.parametrize("end", ["value", "low"])
def test_a_share_that_is_not_known_has_no_percent_sign(inputs, tmp_path, end: str) -> None:
    for unknown in (None, math.nan, math.inf):
        gap = {"value": 0.71, "low": 0.4, "high": 1.2, "reason": "", end: unknown}
        gaps = {"exact_match": gap, "rougeL": gap}
        text = Page(render(replace(inputs, comparison={**inputs.comparison, "gaps": gaps}), tmp_path)).text
        assert "–%" not in text
        assert "nan" not in text.split()
        assert ("71%" in text) == (end != "value")


def test_a_share_has_its_sign_at_both_ends(inputs, tmp_path) -> None:
    gap = {"value": 0.71, "low": 0.4, "high": 1.2, "reason": ""}
    text = Page(render(replace(inputs, comparison={**inputs.comparison, "gaps": {"exact_match": gap}}), tmp_path)).text
    assert "That is 71% (40% to 120%) of the way" in text
    assert text.count("40% to 120%") == 3


def test_long_answers_are_judged_by_rouge(inputs) -> None:
    arms = {
        arm: [
            {**row, "references": [f"a long answer about item {k} in other words"]}
            for k, row in enumerate(rows(arm, s))
        ]
        for arm, s in SHARES.items()
    }
    assert headline_metric(compare_arms(arms, resampling=Resampling(100)).to_dict()) == "rougeL"
    assert headline_metric(inputs.comparison) == "exact_match"


def test_numbers_in_print() -> None:
    assert [number(v) for v in (None, math.nan, -0.04, 12.34)] == ["–", "–", "0.0", "12.3"]
    assert [number(v, sign=True) for v in (-1.26, 1.26, 0.0)] == ["−1.3", "+1.3", "0.0"]
    assert [compact(v) for v in (None, 7, 512_000, 2_213_000, 7e9)] == ["–", "7", "512 k", "2.21 M", "7 G"]
    assert [p_text(v) for v in (None, 0.0001, 0.0321, 0.5)] == ["p –", "p < 0.001", "p = 0.032", "p = 0.50"]


def test_a_folder_that_cannot_be_written_is_said(inputs, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        render_report(inputs, tmp_path / "file" / "report.html")
