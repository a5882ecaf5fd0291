"""What the report says of the teacher's texts: figures on 0 to 100, reasons, and what is missing."""

from __future__ import annotations

from dataclasses import replace

from understudy.records import FigureLine, RevisedFigure, Revision, TextFigures
from understudy.report.inputs import TextSample, WrittenTexts
from understudy.report.knowledge_section import step_label, view
from understudy.types import Knowledge

STEP = TextFigures(
    rows=1200,
    written=1000,
    kept=900,
    reasons={"restates": 70, "unfinished": 1200},
    words_mean=12.34,
    distractors_mean=0.256,
    names_answer=0.5,
)
CHANGE = RevisedFigure(before=0.5, after=0.75, difference=0.25, low=0.1, high=0.4, p_value=0.0004)


def test_without_texts_there_is_no_section() -> None:
    assert view(None) is None


def test_a_step_in_print() -> None:
    page = view(WrittenTexts("large", {"explain": STEP, "one_sentence": replace(STEP, reasons={})}))
    assert page is not None
    first, own = page["steps"]
    assert first == {
        "label": "Explanation",
        "written": "1,000 of 1,200",
        "kept": "900",
        "reasons": "restates 70, unfinished 1,200",
        "words": "12.3",
        "distractors": "0.26",
        "names": "50.0",
        "leads": "–",
    }
    assert (own["label"], own["reasons"]) == ("One sentence", "–")
    assert (page["revision"], page["samples"], page["explanations"]) == (None, [], [])


def test_shares_are_on_0_to_100_and_words_are_not() -> None:
    page = view(WrittenTexts(revision=Revision(1234, words=CHANGE, names_answer=CHANGE)))
    assert page is not None
    assert page["revision"]["pairs"] == "1,234"
    words, names = page["revision"]["rows"]
    assert (words["before"], words["difference"], words["bounds"]) == ("0.5", "+0.2", "+0.1 to +0.4")
    assert (names["before"], names["after"], names["difference"]) == ("50.0", "75.0", "+25.0")
    assert (names["bounds"], names["p"]) == ("+10.0 to +40.0", "p < 0.001")


def test_one_pair_has_no_interval_and_no_pair_no_table() -> None:
    alone = replace(CHANGE, low=None, high=None, p_value=None)
    page = view(WrittenTexts(revision=Revision(1, restates=alone)))
    assert page is not None
    assert (page["revision"]["rows"][0]["bounds"], page["revision"]["rows"][0]["p"]) == ("", "p –")
    empty = view(WrittenTexts(revision=Revision(0)))
    assert empty is not None
    assert empty["revision"] is None


def test_figures_of_the_student_and_why_one_is_missing() -> None:
    rows = [
        {"label": "A", "value": 0.5, "low": 0.25, "high": 1.0, "n": 1234, "scale": 100, "about": "so"},
        {"label": "B", "value": 3.0, "low": None, "high": None, "n": 1, "scale": 1},
        {"label": "C", "value": None, "reason": "not measured"},
    ]
    lines = [FigureLine.from_json(row) for row in rows]
    assert [line.to_json() for line in lines] == [rows[0], {**rows[1], "about": ""}, rows[2]]
    page = view(WrittenTexts(explanations=lines))
    assert page is not None
    texts = [(row["value"], row["bounds"], row["n"], row["why"]) for row in page["explanations"]]
    assert texts == [("50.0", "25.0 to 100.0", "1,234", "so"), ("3.0", "", "1", ""), ("–", "", "", "not measured")]


def test_a_sample_names_the_option_that_a_text_argues_for() -> None:
    rows = [
        Knowledge("q", "counterfactual", "b", choice=1),
        Knowledge("q", "counterfactual", None, choice=9, reasons=("short: 1", "restates: 1")),
        Knowledge("q", "revise", "c"),
    ]
    page = view(WrittenTexts(samples=[TextSample("q", "?", ("x", "y"), "x", rows)]))
    assert page is not None
    [sample] = page["samples"]
    assert [row["label"] for row in sample["rows"]] == ["Counterfactual for “y”", "Counterfactual", "Revision"]
    assert (sample["rows"][1]["text"], sample["rows"][1]["reasons"]) == ("", "short: 1; restates: 1")
    assert step_label("explain_blind") == "Explanation, gold hidden"
