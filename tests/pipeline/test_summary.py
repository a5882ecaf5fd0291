"""The last stage's words: the headline, the model card, and the notes that tell how to read the figures."""

from __future__ import annotations

from typing import Any

import pytest

from support.arms import compare_arms
from understudy.errors import ConfigError
from understudy.metrics.significance import Resampling
from understudy.pipeline.model_card import model_card
from understudy.pipeline.preflight import check_evaluation
from understudy.pipeline.summary import answers_sentence, summary
from understudy.recipe import parse_recipe
from understudy.records import AnswersNotes


def rows(right: int, num: int) -> list[dict[str, Any]]:
    return [
        {"id": f"q{i}", "question": "?", "references": ["AMF"], "prediction": "AMF" if i < right else "", "tokens": 1}
        for i in range(num)
    ]


def comparison(num: int, **right: int) -> dict[str, Any]:
    return compare_arms({arm: rows(count, num) for arm, count in right.items()}, resampling=Resampling(2000)).to_dict()


def test_the_headline_gives_the_difference_and_its_interval() -> None:
    lines = summary(comparison(40, teacher=40, sft=10, seqkd=20, distilled=30)).headline
    assert lines[0].startswith("Yes: distillation beats")
    assert "a difference of +50.0 (+3" in lines[1]
    assert "p = 0.017 after correction for 35 tests" in lines[1]
    # (30 − 10) / (40 − 10)
    assert any(line.startswith("That is 67% (") for line in lines)


def test_a_gap_that_is_none_says_why_once() -> None:
    lines = summary(comparison(40, teacher=10, sft=10, distilled=10)).headline
    [line] = [line for line in lines if line.startswith("Gap recovered")]
    assert line.startswith("Gap recovered: not given: the teacher is not clearly better")
    assert line.count("not given") == 1


def test_one_item_has_no_interval_and_needs_none() -> None:
    found = comparison(1, teacher=1, sft=0, distilled=1)
    assert any("a difference of +100.0 (no interval) points" in line for line in summary(found).headline)
    card = model_card(parse_recipe({}), found)
    assert "| distilled | 100.0 |" in card


def test_the_card_has_a_cell_for_every_metric_of_every_arm() -> None:
    found = comparison(30, teacher=30, sft=3, distilled=20)
    del found["overall"]["table"]["sft"]["token_f1"]
    card = model_card(parse_recipe({"name": "telecom"}), found)
    table = [line for line in card.splitlines() if line.startswith("|")]
    assert len({line.count("|") - (line.count("|") == 0) for line in table if not line.startswith("|---")}) == 1
    assert "| – |" in next(line for line in table if line.startswith("| sft |"))
    assert card.startswith("---\nlibrary_name: transformers\n")


def test_the_terminal_shows_only_metrics_that_some_arm_has() -> None:
    shown = summary(comparison(30, teacher=30, sft=3, distilled=20))
    assert "choice_accuracy" not in shown.metrics
    assert shown.arms["distilled"]["exact_match"] == 20 / 30


def test_a_report_without_a_seqkd_arm_does_not_speak_of_one() -> None:
    notes = AnswersNotes(1200, 1100, {})
    asked = "The teacher was asked 1,200 questions; 1,100 answers were kept."
    assert answers_sentence(notes, "", ["sft", "distilled"]) == asked
    assert answers_sentence(notes, "", ["seqkd"]) == asked
    both = answers_sentence(notes, "mine", ["seqkd", "distilled", "mine"])
    assert both.startswith("The teacher was asked 1,200 questions for mine; ")
    assert both.endswith("SeqKD and distilled read the same prompts.")


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        ({"metrics": ["rougel"]}, "there is no metric 'rougel'"),
        ({"judge": {"model": "m", "base_url": "nowhere"}}, "is no address"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_training(evaluate: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_evaluation(parse_recipe({"evaluate": evaluate}))


def test_questions_of_a_recording_that_is_not_named_are_refused_before_anything_else() -> None:
    with pytest.raises(ConfigError, match="recorded_questions says which questions a recording answers"):
        check_evaluation(parse_recipe({"generate": {"recorded_questions": "questions.jsonl"}}))
