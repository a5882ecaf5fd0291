"""What the report says of the teacher's texts: figures on 0 to 100, reasons, and what is missing."""

from __future__ import annotations

from typing import Any

from understudy.records import FigureLine
from understudy.report.knowledge_section import step_label, view

STEP: dict[str, Any] = {
    "rows": 1200,
    "written": 1000,
    "kept": 900,
    "reasons": {"restates": 70, "unfinished": 1200},
    "words_mean": 12.34,
    "distractors_mean": 0.256,
    "names_answer": 0.5,
    "leads_to_gold": None,
}
CHANGE = {"before": 0.5, "after": 0.75, "difference": 0.25, "low": 0.1, "high": 0.4, "p_value": 0.0004}


def test_without_texts_there_is_no_section() -> None:
    assert view({}) is None


def test_a_step_in_print() -> None:
    page = view({"teacher": "large", "quality": {"explain": STEP, "one_sentence": {**STEP, "reasons": {}}}})
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
    page = view({"revision": {"pairs": 1234, "words": CHANGE, "names_answer": CHANGE}})
    assert page is not None
    assert page["revision"]["pairs"] == "1,234"
    words, names = page["revision"]["rows"]
    assert (words["before"], words["difference"], words["bounds"]) == ("0.5", "+0.2", "+0.1 to +0.4")
    assert (names["before"], names["after"], names["difference"]) == ("50.0", "75.0", "+25.0")
    assert (names["bounds"], names["p"]) == ("+10.0 to +40.0", "p < 0.001")


def test_one_pair_has_no_interval_and_no_pair_no_table() -> None:
    alone = {**CHANGE, "low": None, "high": None, "p_value": None}
    page = view({"revision": {"pairs": 1, "restates": alone}})
    assert page is not None
    assert (page["revision"]["rows"][0]["bounds"], page["revision"]["rows"][0]["p"]) == ("", "p –")
    empty = view({"revision": {"pairs": 0}})
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
    page = view({"explanations": lines})
    assert page is not None
    texts = [(row["value"], row["bounds"], row["n"], row["why"]) for row in page["explanations"]]
    assert texts == [("50.0", "25.0 to 100.0", "1,234", "so"), ("3.0", "", "1", ""), ("–", "", "", "not measured")]


def test_a_sample_names_the_option_that_a_text_argues_for() -> None:
    rows = [
        {"step": "counterfactual", "choice": 1, "text": "b", "reasons": []},
        {"step": "counterfactual", "choice": 9, "text": None, "reasons": ["short: 1", "restates: 1"]},
        {"step": "revise", "choice": None, "text": "c", "reasons": []},
    ]
    page = view({"samples": [{"id": "q", "question": "?", "choices": ["x", "y"], "answer": "x", "rows": rows}]})
    assert page is not None
    [sample] = page["samples"]
    assert [row["label"] for row in sample["rows"]] == ["Counterfactual for “y”", "Counterfactual", "Revision"]
    assert (sample["rows"][1]["text"], sample["rows"][1]["reasons"]) == ("", "short: 1; restates: 1")
    assert step_label("explain_blind") == "Explanation, gold hidden"
