"""Figures of several arms on the same items: hand-worked values, pairing, and the rules on when to keep silent."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from support.arms import compare_arms, difference
from understudy.errors import DataError
from understudy.evaluation.disagreements import disagreements
from understudy.evaluation.gap import gap_recovered
from understudy.evaluation.majority import first_option_baseline, majority_baseline
from understudy.evaluation.score_rows import chosen_option
from understudy.metrics import bootstrap_interval, paired_bootstrap, score
from understudy.metrics.significance import Resampled, Resampling, randomisation_test
from understudy.records import Contest, Prediction

NAMES = ["AMF", "SMF", "UPF", "PCF", "UDM", "AUSF", "NRF", "NEF"]


def row(number: int, prediction: str | None, **more: Any) -> Prediction:
    fields = {
        "id": f"q{number}",
        "kind": "two_step" if number % 4 == 0 else "phrasing",
        "gold_fact": number % 3 == 0,
        "group": f"fact{number // 2}",
        "question": f"Which function is number {number}?",
        "context": None,
        "choices": [],
        "references": [f"the {NAMES[number % 8]} function"],
        "prediction": prediction,
        "choice_scores": None,
        "seconds": 0.1,
    }
    return Prediction.from_json({**fields, **more})


def arm(share: float, *, seed: int, items: int = 120) -> list[Prediction]:
    """An arm that is right on about `share` of the items."""
    right = np.random.default_rng(seed).uniform(size=items) < share
    return [
        row(k, f"{NAMES[k % 8]} function" if right[k] else f"{NAMES[(k + 1) % 8]} of the core network")
        for k in range(items)
    ]


@pytest.fixture(scope="module")
def arms() -> dict[str, list[Prediction]]:
    shares = {"teacher": 0.95, "base_student": 0.05, "sft": 0.5, "seqkd": 0.7, "kd_gold": 0.55, "distilled": 0.8}
    return {name: arm(share, seed=number) for number, (name, share) in enumerate(shares.items())}


def choice(number: int, scores: list[float] | None) -> Prediction:
    choices = ["AMF", "SMF", "UPF", "PCF"]
    return row(number, "", choices=choices, references=[choices[number % 4]], choice_scores=scores, kind="choice")


def test_table_equals_the_metrics_alone(arms) -> None:
    comparison = compare_arms(arms, resampling=Resampling(1000))
    groups = [item.group for item in arms["sft"]]
    for name, rows in arms.items():
        alone = score([item.prediction for item in rows], [item.references for item in rows])
        for metric, result in alone.items():
            expected = bootstrap_interval(result, clusters=groups, resampling=Resampling(1000))
            ours = comparison.overall.table[name][metric]
            assert (ours.value, ours.low, ours.high) == pytest.approx((expected.value, expected.low, expected.high))
            assert ours.n == 120
    assert comparison.overall.num_clusters == 60


def test_differences_equal_the_paired_test_alone(arms) -> None:
    comparison = compare_arms(arms, resampling=Resampling(1000), metrics=("exact_match", "bleu"))
    groups = [item.group for item in arms["sft"]]
    for metric in ("exact_match", "bleu"):
        a, b = (
            score([item.prediction for item in arms[name]], [item.references for item in arms[name]])[metric]
            for name in ("distilled", "sft")
        )
        expected = paired_bootstrap(a, b, clusters=groups, resampling=Resampling(1000))
        ours = difference(comparison, "distilled", "sft", metric)
        assert (ours.difference, ours.low, ours.high, ours.p_bootstrap) == pytest.approx(
            (expected.difference, expected.low, expected.high, expected.p_value)
        )
        assert ours.p_randomisation == randomisation_test(a, b, clusters=groups, resampling=Resampling(1000)).p_value
        assert ours.low > 0


def test_slices_hold_their_own_items(arms) -> None:
    comparison = compare_arms(arms, resampling=Resampling(200), metrics=("exact_match",))
    assert {kind: part.items for kind, part in comparison.kinds.items()} == {"phrasing": 90, "two_step": 30}
    assert {label: part.items for label, part in comparison.gold_facts.items()} == {"in_gold": 40, "not_in_gold": 80}
    rows = [item for item in arms["sft"] if not item.gold_fact]
    right = [item.prediction.split()[0] in item.references[0] for item in rows]
    assert comparison.gold_facts["not_in_gold"].table["sft"]["exact_match"].value == pytest.approx(np.mean(right))
    parts = [part.table["sft"]["exact_match"] for part in comparison.kinds.values()]
    whole = comparison.overall.table["sft"]["exact_match"].value
    assert sum(part.value * part.n for part in parts) / 120 == pytest.approx(whole)


def test_order_of_rows_does_not_matter(arms) -> None:
    turned = {name: rows[::-1] if name != "teacher" else rows for name, rows in arms.items()}
    assert (
        compare_arms(turned, resampling=Resampling(200)).to_dict()
        == compare_arms(arms, resampling=Resampling(200)).to_dict()
    )


def test_gap_recovered_by_hand(arms) -> None:
    comparison = compare_arms(arms, resampling=Resampling(1000), metrics=("exact_match",))
    value = {name: comparison.overall.table[name]["exact_match"].value for name in arms}
    gap = comparison.gaps["exact_match"]
    assert gap.value == pytest.approx((value["distilled"] - value["sft"]) / (value["teacher"] - value["sft"]))
    assert gap.low < gap.value < gap.high
    assert gap.reason == ""


def test_gap_is_not_given_without_a_clear_gap(arms) -> None:
    near = compare_arms({**arms, "teacher": arm(0.5, seed=2)}, resampling=Resampling(300), metrics=("exact_match",))
    assert near.gaps["exact_match"].value is None
    assert "not clearly better" in near.gaps["exact_match"].reason
    worse = compare_arms({**arms, "teacher": arm(0.05, seed=8)}, resampling=Resampling(300), metrics=("exact_match",))
    assert "worse than the SFT-only" in worse.gaps["exact_match"].reason
    table = worse.overall.table
    points = 100 * (table["teacher"]["exact_match"].value - table["sft"]["exact_match"].value)
    assert f"(teacher − SFT-only is −{-points:.1f} points, 95% interval −" in worse.gaps["exact_match"].reason
    ones, zeros = (Resampled(value, np.full(9, value), np.full(1, value), np.full(1, value)) for value in (1.0, 0.0))
    weak, strong = (Resampled(value, *(np.full(count, value) for count in (9, 4, 4))) for value in (30.0, 41.5))
    of_100 = gap_recovered(strong, strong, weak, confidence=0.95, num_clusters=4, maximum=100)
    assert "teacher − SFT-only is −11.5 points" in of_100.reason
    one = gap_recovered(ones, zeros, ones, confidence=0.95, num_clusters=1)
    assert one.value is None
    assert "too few" in one.reason


def test_missing_arms_are_allowed(arms) -> None:
    comparison = compare_arms(
        {"sft": arms["sft"], "distilled": arms["distilled"]}, resampling=Resampling(200), metrics=("exact_match",)
    )
    assert [(test.a, test.b, test.metric) for test in comparison.tests.tests] == [("distilled", "sft", "exact_match")]
    assert not comparison.gaps


def test_multiple_choice_by_likelihood() -> None:
    right = [[-9.0] * 4 for _ in range(8)]
    for number, scores in enumerate(right):
        scores[number % 4] = -1.0
    half = [scores if number < 4 else scores[::-1] for number, scores in enumerate(right)]
    comparison = compare_arms(
        {
            "distilled": [choice(number, scores) for number, scores in enumerate(right)],
            "sft": [choice(number, scores) for number, scores in enumerate(half)],
        },
        resampling=Resampling(500),
    )
    assert comparison.to_dict()["chance"] == 0.25
    assert set(comparison.overall.table["sft"]) == {"choice_accuracy"}
    assert comparison.overall.table["distilled"]["choice_accuracy"].value == 1
    assert comparison.overall.table["sft"]["choice_accuracy"].value == 0.5
    assert difference(comparison, "distilled", "sft", "choice_accuracy").difference == 0.5


def test_choice_and_written_items_together(arms) -> None:
    scores = [-1.0, -2.0, -3.0, -4.0]
    mixed = {name: [*rows, *(choice(k, scores) for k in range(200, 220))] for name, rows in arms.items()}
    comparison = compare_arms(mixed, resampling=Resampling(200))
    alone = compare_arms(arms, resampling=Resampling(200))
    assert comparison.overall.table["sft"]["bleu"].value == pytest.approx(alone.overall.table["sft"]["bleu"].value)
    assert comparison.overall.table["sft"]["bleu"].n == 120
    assert comparison.overall.table["sft"]["choice_accuracy"].value == 0.25
    assert comparison.overall.table["sft"]["choice_accuracy"].n == 20
    assert set(comparison.kinds["choice"].table["sft"]) == {"choice_accuracy"}


def test_a_missing_likelihood_is_said_not_guessed() -> None:
    scores = [-1.0, -2.0, -3.0, -4.0]
    comparison = compare_arms(
        {
            "teacher": [choice(0, scores), choice(1, scores)],
            "sft": [choice(0, scores), choice(1, [-1.0, math.nan, -2.0, -3.0])],
            "distilled": [choice(0, scores), choice(1, None)],
        },
        resampling=Resampling(100),
    )
    assert set(comparison.overall.table) == {"teacher"}
    assert [note.split(":")[0] for note in comparison.scored.notes] == ["sft", "distilled"]
    assert chosen_option(choice(1, [-4.0, -1.0, -9.0, -9.0])) == "SMF"


def test_rows_without_an_answer_are_left_out_and_counted() -> None:
    rows = [row(0, "AMF"), row(1, "SMF"), row(2, "x", references=[])]
    comparison = compare_arms({"sft": rows, "distilled": rows}, resampling=Resampling(100))
    assert comparison.overall.items == 2
    assert comparison.to_dict()["notes"][0] == "1 test items without a right answer were left out"


def test_everything_is_json(arms) -> None:
    text = json.dumps(
        compare_arms({name: rows[:1] for name, rows in arms.items()}, resampling=Resampling(100)).to_dict(),
        allow_nan=False,
    )
    assert json.loads(text)["overall"]["table"]["sft"]["exact_match"]["low"] is None


def test_faults_are_named(arms) -> None:
    with pytest.raises(DataError, match="no arms"):
        compare_arms({})
    with pytest.raises(DataError, match="an arm without predictions"):
        compare_arms({"sft": []})
    with pytest.raises(DataError, match=r"sft and seqkd answered different items.*'q119'"):
        compare_arms({"sft": arms["sft"], "seqkd": arms["seqkd"][:-1]})
    with pytest.raises(DataError, match="two predictions for item 'q0'"):
        compare_arms({"sft": [row(0, "a"), row(0, "b")]})
    with pytest.raises(DataError, match="no field 'prediction'"):
        Prediction.from_json({"id": 1, "references": ["a"]})
    with pytest.raises(DataError, match="different references for item 'q0'"):
        compare_arms({"sft": [row(0, "a")], "seqkd": [row(0, "a", references=["b"])]})
    with pytest.raises(DataError, match="no test item has a right answer"):
        compare_arms({"sft": [row(0, "a", references=[])]})


def test_majority_baseline_by_hand() -> None:
    train = [("band", "TDD"), ("band", "FDD"), ("band", "TDD"), ("timer", "5 s")]
    test = [row(0, "x"), row(1, "y"), row(2, "z")]
    classes = {"q0": "band", "q1": "timer", "q2": "unseen"}
    assert [item.prediction for item in majority_baseline(train, test, classes)] == ["TDD", "5 s", ""]
    assert test[0].prediction == "x"
    options = [row(0, "", choices=["FDD", "TDD", "SDL"], choice_scores=[0.0, 0.0, 0.0])]
    assert chosen_option(majority_baseline(train, options, classes)[0]) == "TDD"
    numbers = [("band", "1000"), ("band", "7"), ("band", "1,000"), ("band", "-7"), ("band", "−7"), ("band", "1,000")]
    assert majority_baseline(numbers, test[:1], {"q0": "band"})[0].prediction == "1000"


def test_options_that_tie_count_as_chance_for_every_arm() -> None:
    right_first = [
        row(k, "", choices=["AMF", "SMF", "UPF", "PCF"], references=["AMF"], choice_scores=[0.4, 0.1, 0.4, 0.3])
        for k in range(8)
    ]
    unseen = majority_baseline([("all", "NEF")], right_first, {f"q{k}": "all" for k in range(8)})
    table = compare_arms({"sft": right_first, "majority": unseen}, metrics=("exact_match",)).overall.table
    assert table["majority"]["choice_accuracy"].value == 0.25
    assert table["sft"]["choice_accuracy"].value == 0.5


def test_always_the_first_is_an_arm_where_it_beats_chance() -> None:
    spread = [choice(k, [0.0, 0.0, 0.0, 1.0]) for k in range(40)]
    assert first_option_baseline(spread) == []
    first = [
        row(k, "PCF", choices=c.choices, references=["AMF"], choice_scores=[0, 1, 0, 0])
        for k, c in enumerate(spread[:6])
    ]
    mixed = spread + [
        row(40 + k, "PCF", choices=item.choices, references=["AMF"], choice_scores=[0, 1, 0, 0])
        for k, item in enumerate(spread[:20])
    ]
    arm = first_option_baseline(mixed)
    table = compare_arms({"sft": mixed, "first_option": arm}, metrics=("exact_match",)).overall.table
    assert table["first_option"]["choice_accuracy"].value == 30 / 60
    assert first_option_baseline(first)[0].prediction == "AMF"
    written_too = [*mixed, row(99, "AMF function")]
    assert {item.prediction for item in first_option_baseline(written_too)} == {None}


def test_examples_show_both_directions(arms) -> None:
    contests = [("distilled", "sft"), ("sft", "distilled"), ("teacher", "distilled")]
    examples = disagreements(arms, contests=contests)
    assert [(part.better, part.worse) for part in examples] == contests
    for part in examples:
        assert len(part.examples) == 3
        for example in part.examples:
            quality = {name: answer.quality for name, answer in example.answers.items()}
            assert quality[part.better] > quality[part.worse]
            assert set(quality) == set(arms)
    better, worse = examples[0].count, examples[1].count
    table = compare_arms(arms, resampling=Resampling(100), metrics=("exact_match",)).overall.table
    lead = table["distilled"]["exact_match"].value - table["sft"]["exact_match"].value
    assert (better - worse) / 120 == pytest.approx(lead)
    assert disagreements(arms, contests=contests) == examples
    assert disagreements({"sft": arms["sft"]}, contests=contests) == []
    ours = compare_arms(arms, resampling=Resampling(100), metrics=("exact_match",)).to_dict()["examples"]
    assert [Contest.from_json(row) for row in json.loads(json.dumps(ours))] == examples
