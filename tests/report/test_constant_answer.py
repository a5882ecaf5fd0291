"""A run in which the answer that reads no question wins says so, whatever its students do among themselves."""

from __future__ import annotations

from typing import Any

import pytest

from support.arms import compare_arms
from understudy.metrics.significance import Resampling
from understudy.report.constant_answer import constant_answer
from understudy.report.headline import Headline, headline
from understudy.report.verdicts import headline_metric

# The two runs that were misread: points on the metric of the headline.
CONSTANT_WINS = {"teacher": 32.6, "distilled": 25.8, "sft": 31.0, "majority": 36.8}
ONLY_EXPLAINED = {"teacher": 38.5, "explained": 19.5, "base_student": 1.5, "majority": 21.0}


def rows(arm: str, items: int = 40) -> list[dict[str, Any]]:
    facts = {"kind": "", "gold_fact": None, "question": "?", "context": None, "choices": [], "choice_scores": None}
    return [
        {**facts, "id": f"q{k}", "group": f"q{k}", "references": [f"long answer {k}"], "prediction": f"{arm} {k}"}
        | {"seconds": 0.1}
        for k in range(items)
    ]


def comparison(points: dict[str, float]) -> dict[str, Any]:
    """A comparison of arms that reach so many points of ROUGE-L: by real tests, with the values set by hand."""
    compared = compare_arms({arm: rows(arm) for arm in points}, metrics=("rougeL",), resampling=Resampling(100))
    figures = compared.to_dict()
    for arm, value in points.items():
        figures["overall"]["table"][arm]["rougeL"]["value"] = value / 100
    for test in figures["comparison"]["tests"]:
        for side in ("a", "b"):
            test["comparison"][f"value_{side}"] = points[test[side]] / 100
    return figures


def outcome(points: dict[str, float]) -> Headline:
    return headline(comparison(points))


def test_nobody_beats_the_constant_answer() -> None:
    answer = outcome(CONSTANT_WINS)
    assert answer.tone == "worse"
    assert answer.verdict == "No student beats the constant answer, and neither does the teacher."
    assert "reach 36.8 in ROUGE-L; the best student (SFT-only) reaches 31.0, the teacher 32.6." in answer.sentences[0]
    assert answer.sentences[1].startswith("Try next: a better teacher (more steps, more rows in its own training")
    assert "understudy inspect" in answer.sentences[1]
    # What the arms do among themselves stands behind it.
    assert answer.sentences[2].startswith("Not shown: the distilled student and the SFT-only student")
    assert sum("most frequent answers alone" in sentence for sentence in answer.sentences) == 1


def test_a_run_without_sft_has_a_verdict_too() -> None:
    answer = outcome(ONLY_EXPLAINED)
    assert answer.verdict == "No student beats the constant answer; the teacher does."
    assert "reach 21.0 in ROUGE-L; the best student (Explained) reaches 19.5, the teacher 38.5." in answer.sentences[0]
    assert answer.sentences[1].startswith("Try next: more steps, more rows, or a larger student.")


def test_without_a_teacher_nothing_is_said_of_one() -> None:
    answer = outcome({"distilled": 10.0, "sft": 10.0, "majority": 10.0})
    assert answer.verdict == "No student beats the constant answer."
    assert "teacher" not in answer.sentences[0]


def test_a_student_above_it_keeps_the_verdict_of_the_arms() -> None:
    answer = outcome({**CONSTANT_WINS, "sft": 40.0})
    assert answer.verdict.startswith("Not shown: the distilled student")
    assert "reach 36.8: the distilled student is not shown to be better, and the teacher does not lie above them" in (
        " ".join(answer.sentences)
    )


@pytest.mark.parametrize("arm", ["distilled", "base_student", "my own arm"])
def test_any_student_counts(arm: str) -> None:
    constant = constant_answer(comparison({"sft": 1.0, arm: 50.0, "majority": 20.0}), "rougeL")
    assert constant is not None
    assert constant.best == arm
    assert not constant.beats_students


def test_lower_is_better() -> None:
    figures = comparison({"distilled": 30.0, "sft": 40.0, "majority": 20.0})
    figures["metrics"]["rougeL"]["higher_is_better"] = False
    constant = constant_answer(figures, "rougeL")
    assert constant is not None
    assert (constant.best, constant.beats_students) == ("distilled", True)
    figures["overall"]["table"]["majority"]["rougeL"]["value"] = 0.35
    constant = constant_answer(figures, "rougeL")
    assert constant is not None
    assert not constant.beats_students


def test_the_majority_answer_does_not_choose_the_metric() -> None:
    def right(share: float, items: int = 40) -> list[dict[str, Any]]:
        return [
            {**row, "prediction": row["references"][0]} if k < share * items else row
            for k, row in enumerate(rows("x", items))
        ]

    def metric(**shares: float) -> str | None:
        arms = {arm: right(share) for arm, share in shares.items()}
        compared = compare_arms(arms, metrics=("exact_match", "rougeL"), resampling=Resampling(100))
        return headline_metric(compared.to_dict())

    assert metric(distilled=0.05, sft=0.05, majority=0.3) == "rougeL"
    assert metric(distilled=0.2, sft=0.05, majority=0.3) == "exact_match"
    assert metric(distilled=0.2, sft=0.05, majority=0.0) == "exact_match"


def test_no_majority_no_word() -> None:
    assert constant_answer(comparison({"distilled": 30.0, "sft": 40.0}), "rougeL") is None
