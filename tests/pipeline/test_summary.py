"""The last stage's words: the headline, the model card, and the notes that tell how to read the figures."""

from __future__ import annotations

from typing import Any

import pytest

from understudy.errors import ConfigError
from understudy.evaluation.compare import compare
from understudy.pipeline.preflight import check_evaluation
from understudy.pipeline.summary import headline, model_card, summary
from understudy.recipe import parse_recipe


def rows(right: int, num: int) -> list[dict[str, Any]]:
    return [
        {"id": f"q{i}", "question": "?", "references": ["AMF"], "prediction": "AMF" if i < right else "", "tokens": 1}
        for i in range(num)
    ]


def comparison(num: int, **right: int) -> dict[str, Any]:
    return compare({arm: rows(count, num) for arm, count in right.items()}, resamples=200).to_dict()


def test_the_headline_gives_the_difference_and_its_interval() -> None:
    lines = headline(comparison(40, teacher=40, sft=10, seqkd=20, distilled=30))
    assert lines[0].startswith("distilled − sft: +0.500 Exact match (95% interval +0.")
    # (30 − 10) / (40 − 10)
    assert lines[-1].startswith("gap recovered: 67% (95% interval ")


def test_a_gap_that_is_none_says_why_once() -> None:
    [line] = [line for line in headline(comparison(40, teacher=10, sft=10, distilled=10)) if "gap" in line]
    assert line.startswith("gap recovered: not given: the teacher is not clearly better")
    assert line.count("not given") == 1


def test_one_item_has_no_interval_and_needs_none() -> None:
    found = comparison(1, teacher=1, sft=0, distilled=1)
    assert any("distilled − sft: +1.000" in line for line in headline(found))
    card = model_card(parse_recipe({}), found)
    assert "| distilled | 1.000 |" in card


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
    assert "choice_accuracy" not in shown["metrics"]
    assert shown["arms"]["distilled"]["exact_match"] == 20 / 30


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
